"""Bytes from a row, a file, a range of a file or a bucket; and what a row says when they do not come."""

import time
from types import SimpleNamespace

import pytest

import pipeline.picture.fetch
from pipeline.picture.fetch import fetch, most_bytes
from pipeline.storage import StorageOptions, retries
from schemas.errors import PictureError
from schemas.job import DEFAULT_MAX_PIXELS
from schemas.manifest import ManifestRow

OPTIONS = StorageOptions()
HUGE = 50 * 10**9  # bytes


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited for; nobody really waits."""
    found: list[float] = []
    clock = SimpleNamespace(sleep=found.append, monotonic=time.monotonic)
    monkeypatch.setattr(retries, "time", clock)
    return found


def failure(row: ManifestRow) -> tuple[str, str]:
    with pytest.raises(PictureError) as caught:
        fetch(row, OPTIONS)
    assert caught.value.stage == "fetch"
    return caught.value.kind, caught.value.message


def storage_that(monkeypatch: pytest.MonkeyPatch, *answers: Exception) -> list[tuple]:
    """Storage that fails with one error after the other; returns the list of calls."""
    calls: list[tuple] = []

    def read_bytes(*call: object, max_bytes: int) -> bytes:
        calls.append((*call, max_bytes))
        raise answers[len(calls) - 1]

    monkeypatch.setattr(pipeline.picture.fetch, "read_bytes", read_bytes)
    return calls


def test_bytes_in_the_row_are_taken_and_storage_is_left_alone(monkeypatch):
    calls = storage_that(monkeypatch)
    assert fetch(ManifestRow("a", "train.parquet", byte_length=99, image=b"jpeg"), OPTIONS) == b"jpeg"
    assert calls == []


def test_whole_file_and_byte_range_of_a_tar(tmp_path):
    path = tmp_path / "a #1?.tar"
    path.write_bytes(b"headerPICTUREend")
    assert fetch(ManifestRow("a", str(path)), OPTIONS) == b"headerPICTUREend"
    assert fetch(ManifestRow("a", str(path), byte_offset=6, byte_length=7), OPTIONS) == b"PICTURE"


def test_object_storage(s3, waits):
    uri = s3.put("a.tar", b"headerPICTUREend")
    assert fetch(ManifestRow("a", uri, byte_offset=6, byte_length=7), OPTIONS) == b"PICTURE"
    assert failure(ManifestRow("a", s3.uri("none.jpg"))) == ("not_found", f"{s3.uri('none.jpg')}: no such file")
    assert waits == []


def test_range_beyond_the_end_is_a_failure_of_storage(tmp_path):
    path = tmp_path / "cut.tar"
    path.write_bytes(b"headerPIC")
    for offset, found in ((6, 3), (100, 0)):
        row = ManifestRow("a", str(path), byte_offset=offset, byte_length=7)
        assert failure(row) == ("storage", f"{path}: {found} bytes at offset {offset}, expected 7")


@pytest.mark.parametrize("image", [b"", None])
def test_no_bytes_are_empty(tmp_path, image):
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"")
    assert failure(ManifestRow("a", str(path), image=image)) == ("empty", f"{path}: the picture has no bytes")


def test_a_device_is_no_picture_and_not_asked_for_twice(waits):
    assert failure(ManifestRow("a", "/dev/zero")) == ("not_found", "/dev/zero: not a regular file")
    assert waits == []


def too_large(uri: str) -> tuple[str, str]:
    return "too_large", f"{uri}: more than 1498764624 bytes, which no picture of --max-pixels has"


def test_a_file_larger_than_any_picture_is_not_read(tmp_path):
    path = tmp_path / "film.jpg"
    with path.open("wb") as file:
        file.truncate(HUGE)
    assert failure(ManifestRow("a", str(path))) == too_large(str(path))
    assert failure(ManifestRow("a", str(path), byte_offset=100)) == too_large(str(path))
    assert failure(ManifestRow("a", str(path), byte_offset=100, byte_length=HUGE - 100)) == too_large(str(path))
    assert fetch(ManifestRow("a", str(path), size_bytes=HUGE, byte_offset=100, byte_length=3), OPTIONS) == bytes(3)


@pytest.mark.parametrize("uri", ["/data/a.jpg", "s3://b/a.jpg", "https://example.org/a.jpg"])
def test_a_size_in_the_manifest_that_is_too_large_is_believed(monkeypatch, uri):
    calls = storage_that(monkeypatch)
    assert failure(ManifestRow("a", uri, size_bytes=HUGE)) == too_large(uri)
    assert calls == []


def test_the_bound_in_bytes_follows_the_bound_in_pixels(tmp_path):
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(most_bytes(1000) + 1)
    with pytest.raises(PictureError, match=f"more than {most_bytes(1000)} bytes"):
        fetch(ManifestRow("a", str(path)), OPTIONS, max_pixels=1000)
    assert len(fetch(ManifestRow("a", str(path)), OPTIONS, max_pixels=1001)) == most_bytes(1000) + 1


def test_missing_file_is_not_asked_for_twice(monkeypatch, waits):
    calls = storage_that(monkeypatch, FileNotFoundError("host-17, request 8F3A"))
    assert failure(ManifestRow("a", "/data/a.jpg")) == ("not_found", "/data/a.jpg: no such file")
    assert calls == [("/data/a.jpg", OPTIONS, None, None, most_bytes(DEFAULT_MAX_PIXELS))]
    assert waits == []


def test_storage_that_stays_away_fails_the_row_without_its_secrets(monkeypatch):
    storage_that(monkeypatch, OSError("host-17 at 12:04: request 8F3A"))
    uri = "https://user:word@example.org/a.jpg?size=2&X-Amz-Signature=c0ffee&X-Amz-Expires=60"
    message = "https://example.org/a.jpg?size=2: storage failed or could not be reached"
    assert failure(ManifestRow("a", uri)) == ("storage", message)


def test_forbidden_is_said_as_such(monkeypatch, waits):
    storage_that(monkeypatch, PermissionError("AccessDenied, request 8F3A"))
    assert failure(ManifestRow("a", "s3://b/a.jpg")) == ("forbidden", "s3://b/a.jpg: reading is not permitted")
    assert waits == []


def test_bugs_are_not_taken_for_storage(monkeypatch):
    storage_that(monkeypatch, KeyError("a bug"))
    with pytest.raises(KeyError):
        fetch(ManifestRow("a", "s3://b/a.jpg"), OPTIONS)
