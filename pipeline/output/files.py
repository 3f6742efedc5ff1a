"""What lies below an output, as storage says it: its job, and the files of a folder with their times."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.output import read_job, storing
from pipeline.storage import Location, StorageOptions, exists, join, locate
from schemas.errors import OutputError
from schemas.job import JobRecord
from schemas.layout import JOB_FILE
from schemas.manifest import public_uri


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file. `name` is below the folder that was listed, with `/`; `modified` in seconds since 1970, if known."""

    name: str
    size: int | None
    modified: float | None


def existing_job(output: str, storage: StorageOptions) -> JobRecord:
    """The job of an output.

    Raises:
        OutputError: there is no job.json, or it cannot be read.
    """
    refuse_no_output(output, storage)
    job = read_job(output, storage)
    if job is None:  # gone since we looked
        raise _no_output(output)
    return job


def refuse_no_output(output: str, storage: StorageOptions) -> None:
    """Raise OutputError unless there is a job.json."""
    with storing(output):
        is_output = exists(join(output, JOB_FILE), storage)
    if not is_output:
        raise _no_output(output)


def _no_output(output: str) -> OutputError:
    return OutputError(f"{public_uri(output)}: found no {JOB_FILE}, expected the --output of `escnet annotate`")


def files_below(folder: str, storage: StorageOptions) -> Iterator[OutputFile]:
    """Every file in a folder and in those below it, hidden ones too, in no order. A missing folder is empty.

    Raises:
        OutputError: storage fails.
    """
    place = locate(folder, storage)
    find = _local_files if place.is_local else _s3_files if place.is_s3 else _other_files
    with storing(folder):
        yield from find(place)


def _local_files(place: Location) -> Iterator[OutputFile]:
    for folder, _, names in os.walk(place.path, onerror=_raise_unless_missing):
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except FileNotFoundError:  # published or removed this moment
                continue
            if stat.S_ISREG(status.st_mode):
                yield OutputFile(os.path.relpath(path, place.path), status.st_size, status.st_mtime)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _s3_files(place: Location) -> Iterator[OutputFile]:
    from pipeline.storage.s3 import list_objects

    bucket, _, key = place.path.rstrip("/").partition("/")
    prefix = f"{key}/" if key else ""
    for item in list_objects(place.fs, bucket, prefix):
        name = item["Key"][len(prefix) :]
        if name and not name.endswith("/"):  # such keys only mark a folder
            yield OutputFile(name, item["Size"], item["LastModified"].timestamp())


def _other_files(place: Location) -> Iterator[OutputFile]:
    place.fs.invalidate_cache()
    root = place.path.rstrip("/") + "/"
    found: dict[str, dict[str, Any]] = place.fs.find(place.path, detail=True)
    for name, info in found.items():
        if name.startswith(root):
            yield OutputFile(name[len(root) :], info.get("size"), _modified(info))


def _modified(info: dict[str, Any]) -> float | None:
    """File systems agree neither on the key nor on the type."""
    for key in ("mtime", "last_modified", "LastModified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
