"""Every byte read or written goes through here: local files and object storage, by fsspec.

A name without `scheme://` is a local name and taken literally: spaces, `#`, `?`, `%`, `::`, `*`, `[` and
`?versionId=` are ordinary characters in it, and in an S3 key. Functions try again what may pass (see
`pipeline.storage.retries`) and then raise what storage raised, one of `STORAGE_ERRORS`; `classify` and
`storage_error` put it into words.
"""

import errno
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from pipeline.storage.errors import STORAGE_ERRORS, TooManyBytesError, classify, is_taken, s3_code, storage_error
from pipeline.storage.local_files import new_local_file, refuse_special_file, sweep_partial_files
from pipeline.storage.locations import Location, StorageOptions, join, locate
from pipeline.storage.retries import retried

__all__ = [
    "STORAGE_ERRORS", "FileInfo", "Location", "StorageOptions", "TooManyBytesError", "classify", "exists", "find_info",
    "join", "list_files", "locate", "new_file", "open_file", "read_bytes", "remove", "storage_error", "sweep_temporary",
    "write_new", "write_replace",
]  # fmt: skip

# S3 takes 5 GiB in one PUT; but one write over TLS ends at 2 GiB, and a PUT that fails is sent again from its start.
_PUT_LIMIT_BYTES = 2**30
_SPOOL_PUT_LIMIT_BYTES = 128 * 2**20  # of what was too large for memory
_PART_BYTES = 64 * 2**20
_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a folder. `name` is relative to that folder; `etag` has no quotes."""

    name: str
    size: int | None
    etag: str | None


def open_file(uri: str, options: StorageOptions, *, block_size: int | None = None) -> IO[bytes]:
    """Open for reading, seekable. `block_size` is what a remote read fetches at least, in bytes."""
    place = locate(uri, options)
    if place.is_local:
        return place.fs.open(place.path, "rb")
    file = retried(uri, lambda: place.fs.open(place.path, "rb", block_size=block_size))
    if (cache := getattr(file, "cache", None)) is not None:  # what it fetches later is tried again as well
        fetch = cache.fetcher
        cache.fetcher = lambda start, end: retried(uri, lambda: fetch(start, end))
    return file


def read_bytes(
    uri: str,
    options: StorageOptions,
    offset: int | None = None,
    length: int | None = None,
    *,
    max_bytes: int | None = None,
) -> bytes:
    """Read a file, or `length` bytes of it from `offset`. Fewer bytes come back where the file ends earlier.

    Raises:
        TooManyBytesError: there are more than `max_bytes` to read; not many more than that were read.
    """
    place = locate(uri, options)
    if place.is_local:
        refuse_special_file(place.path)
    if length == 0:
        return b""
    start = offset or 0
    end = None if length is None else start + length
    limits: dict[str, int | None] = {} if offset is None and length is None else {"start": start, "end": end}
    if max_bytes is not None and (place.is_s3 or place.is_http):
        limits["max_bytes"] = max_bytes
    elif max_bytes is not None:
        _refuse_larger(place, start, length, max_bytes)
    data = retried(uri, lambda: place.fs.cat_file(place.path, **limits))
    if length is not None and len(data) > length:
        return data[start : start + length]  # a web server that knows no ranges sent the whole file
    return data


def _refuse_larger(place: Location, start: int, length: int | None, max_bytes: int) -> None:
    if length is None:
        length = ((_info(place) or {}).get("size") or 0) - start
    if length > max_bytes:
        raise TooManyBytesError


def find_info(uri: str, options: StorageOptions) -> dict[str, Any] | None:
    """What storage knows of a file ("type": "file") or a folder ("directory"), with "size" in bytes; None if absent.

    In object storage a folder is a prefix with any object below it. Anything but a clear no is raised.
    """
    return _info(locate(uri, options))


def _info(place: Location) -> dict[str, Any] | None:
    try:
        return retried(place.uri, lambda: place.fs.info(place.path.rstrip("/") or "/"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(uri: str, options: StorageOptions) -> bool:
    """Is there a file or a folder?"""
    return find_info(uri, options) is not None


def write_new(uri: str, data: bytes, options: StorageOptions) -> bool:
    """Publish a whole file if there is none; False if there was one, which stays as it is.

    Nobody ever sees a part of the file. A PUT whose answer got lost is repeated and then finds its own
    file: if that holds these very bytes, the file counts as written now.
    Objects of 1 GiB and more go as several parts, after a check for absence: call that under the lock.
    """
    place = locate(uri, options)
    try:
        if place.is_local:
            with new_local_file(place.path, replace=False) as file:
                file.write(data)
        else:
            _publish(place, data, create=True)
    except FileExistsError:
        return False
    return True


def write_replace(uri: str, data: bytes, options: StorageOptions) -> None:
    """Publish a whole file in place of whatever was there; nobody ever sees a part of it."""
    place = locate(uri, options)
    if place.is_local:
        with new_local_file(place.path, replace=True) as file:
            file.write(data)
    else:
        _publish(place, data, create=False)


@contextmanager
def new_file(uri: str, options: StorageOptions, *, replace: bool) -> Iterator[IO[bytes]]:
    """Write a file too large for memory; it is published when the block ends, and not at all if the block fails.

    Raises:
        FileExistsError: there is one already, and `replace` is false.
    """
    place = locate(uri, options)
    if place.is_local:
        with new_local_file(place.path, replace=replace) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(prefix="escnet-") as spool:
        yield spool
        size = spool.seek(0, os.SEEK_END)
        spool.seek(0)
        if place.is_s3 and size >= _SPOOL_PUT_LIMIT_BYTES:
            _publish_parts(place, iter(lambda: spool.read(_part_size(size)), b""), create=not replace)
        else:
            _publish(place, spool.read(), create=not replace)


def _publish(place: Location, data: bytes, *, create: bool) -> None:
    """Write a remote file in one request if it may be one; raises FileExistsError where `create` finds another."""
    if place.is_s3 and len(data) >= _PUT_LIMIT_BYTES:
        size = _part_size(len(data))
        _publish_parts(place, (data[start : start + size] for start in range(0, len(data), size)), create=create)
        return
    n_attempts = 0

    def put() -> None:
        nonlocal n_attempts
        n_attempts += 1
        # s3fs makes one PUT of anything below twice the chunk size.
        arguments = {"chunksize": _PUT_LIMIT_BYTES} if place.is_s3 else {}
        place.fs.pipe_file(place.path, data, mode="create" if create else "overwrite", **arguments)

    try:
        retried(place.uri, put)
    except OSError as error:
        if not is_taken(error):
            raise
        if n_attempts == 1 or retried(place.uri, lambda: place.fs.cat_file(place.path)) != data:
            raise _taken(place) from error


def _publish_parts(place: Location, parts: Iterable[bytes], *, create: bool) -> None:
    from pipeline.storage.s3 import upload_in_parts

    if create and _info(place) is not None:
        raise _taken(place)
    bucket, _, key = place.path.partition("/")
    try:
        upload_in_parts(place.fs, bucket, key, parts, create=create)
    except OSError as error:
        if is_taken(error):
            raise _taken(place) from error
        raise


def _taken(place: Location) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place.uri)


def _part_size(size: int) -> int:
    return max(_PART_BYTES, -(-size // _MAX_PARTS))


def list_files(uri: str, options: StorageOptions, suffix: str = "") -> list[FileInfo]:
    """Files directly in a folder whose name ends with `suffix`, sorted by name, from one listing.

    A missing folder is empty. Names beginning with a dot are left out.
    """
    place = locate(uri, options)
    try:
        found = [info for info in _list(place) if info.name.endswith(suffix) and not info.name.startswith(".")]
    except FileNotFoundError as error:
        if s3_code(error) == "NoSuchBucket":
            raise
        return []
    return sorted(found, key=lambda info: info.name)


def _list(place: Location) -> Iterator[FileInfo]:
    if place.is_local:
        with os.scandir(place.path) as entries:
            yield from (FileInfo(e.name, e.stat().st_size, None) for e in entries if e.is_file())
    elif place.is_s3:
        from pipeline.storage.s3 import list_objects

        bucket, _, key = place.path.rstrip("/").partition("/")
        prefix = f"{key}/" if key else ""
        for item in list_objects(place.fs, bucket, prefix, delimiter="/"):
            if name := item["Key"][len(prefix) :]:  # the folder's own marker has no name
                yield FileInfo(name, item["Size"], item["ETag"].strip('"'))
    else:
        place.fs.invalidate_cache()
        for item in place.fs.ls(place.path, detail=True):
            if item["type"] == "file":
                yield FileInfo(posixpath.basename(item["name"]), item.get("size"), None)


def remove(uri: str, options: StorageOptions) -> None:
    """Remove one file; it is no error if it is gone already."""
    place = locate(uri, options)
    with suppress(FileNotFoundError):
        retried(uri, lambda: place.fs.rm_file(place.path))


def sweep_temporary(uri: str, options: StorageOptions) -> int:
    """Remove what killed writers left directly in a folder, and say how many. Call it under the output's lock.

    Locally these are files with temporary names, on S3 uploads in parts that nobody completed. Who may not list
    such uploads keeps them: they are no harm to the labels.
    """
    place = locate(uri, options)
    if place.is_local:
        return sweep_partial_files(place.path)
    if not place.is_s3:
        return 0
    from pipeline.storage.s3 import abort_uploads

    bucket, _, key = place.path.rstrip("/").partition("/")
    try:
        return abort_uploads(place.fs, bucket, f"{key}/" if key else "")
    except OSError as error:
        if isinstance(error, PermissionError) or s3_code(error) in ("NotImplemented", "501"):
            return 0
        raise
