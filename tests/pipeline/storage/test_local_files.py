"""Disks that are full or may not be written, and files where folders should be: one line, and nothing half written."""

import errno
import os

import pytest

from pipeline.storage import StorageOptions, local_files, new_file, storage_error, write_new, write_replace
from tests.small_disk import small_disk

__all__ = ["small_disk"]

OPTIONS = StorageOptions()


def refusal(write, uri):
    """What the user reads when a write fails."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write(uri, bytes(64 * 2**10), OPTIONS)
    return str(storage_error(caught.value, uri))


def write_streamed(uri, data, options):
    with new_file(uri, options, replace=False) as file:
        file.write(data)


WRITES = pytest.mark.parametrize("write", [write_new, write_replace, write_streamed])


@WRITES
def test_a_full_disk_is_said_and_holds_nothing_half_written(small_disk, write):
    disk = small_disk(16)
    write_new(f"{disk.path}/before", b"kept", OPTIONS)
    said = refusal(write, f"{disk.path}/shard.parquet")
    assert said == f"{disk.path}/shard.parquet: the disk is full; free some space and run again"
    assert [path.name for path in disk.path.iterdir()] == ["before"]
    disk.remount("size=200k")
    write(f"{disk.path}/shard.parquet", bytes(64 * 2**10), OPTIONS)
    assert sorted(path.name for path in disk.path.iterdir()) == ["before", "shard.parquet"]


@WRITES
def test_a_disk_that_is_found_full_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, write):
    """Some file systems say so only when what was written shall be on disk."""

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    uri = f"{tmp_path}/shard.parquet"
    if write is write_replace:
        write_new(uri, b"old", OPTIONS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(local_files.os, "fsync", full)
    assert refusal(write, uri) == f"{uri}: the disk is full; free some space and run again"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@WRITES
def test_a_read_only_disk_is_said(small_disk, write):
    disk = small_disk(200)
    disk.remount("ro")
    said = refusal(write, f"{disk.path}/labels/shard.parquet")
    assert said == f"{disk.path}/labels: the file system is read-only; choose another place"
    said = refusal(write, f"{disk.path}/shard.parquet")
    assert said == f"{disk.path}: the file system is read-only; choose another place"


@WRITES
def test_a_file_on_the_way_is_said_and_stays(tmp_path, write):
    (tmp_path / "file").write_bytes(b"mine")
    for uri in (f"{tmp_path}/file/a", f"{tmp_path}/file/labels/a"):
        said = refusal(write, uri)
        assert said.endswith(": a file stands where a folder is needed; choose another place")
        assert said.startswith(f"{tmp_path}/file")
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["file"]
