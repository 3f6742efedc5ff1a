"""Every byte read or written goes through here: local files and object storage, by fsspec.

A name without `scheme://` is a local name and taken literally: spaces, `#`, `?`, `%`, `::`, `*`, `[` and
`?versionId=` are ordinary characters in it, and in an S3 key. Functions raise what storage raised, one of
`STORAGE_ERRORS`; `classify` and `storage_error` put it into words.
"""

import os
import posixpath
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.local_files import new_local_file, refuse_special_file, sweep_partial_files
from pipeline.storage_errors import STORAGE_ERRORS, classify, s3_code, storage_error
from schemas.errors import InputError
from schemas.manifest import is_web_address, public_uri

__all__ = [
    "STORAGE_ERRORS", "FileInfo", "Location", "StorageOptions", "classify", "exists", "find_info", "join", "list_files",
    "locate", "new_file", "open_file", "read_bytes", "remove", "storage_error", "sweep_temporary", "write_new",
    "write_replace",
]  # fmt: skip

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = ("s3", "s3a")
_CONFLICT_WAIT_S = 0.5
_PUT_LIMIT_BYTES = 5 * 2**30  # S3's limit for one PUT


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach object storage. Credentials come from the environment or the profile, as in the AWS tools."""

    endpoint_url: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """A place: the file system, the path as that file system takes it, and the URI as it was given."""

    fs: Any
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_s3(self) -> bool:
        return self.uri.lower().startswith(tuple(f"{scheme}://" for scheme in _S3_SCHEMES))

    @property
    def is_http(self) -> bool:
        return is_web_address(self.uri)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a folder. `name` is relative to that folder; `etag` has no quotes."""

    name: str
    size: int | None
    etag: str | None


def locate(uri: str, options: StorageOptions) -> Location:
    """Find the file system of a URI. Local paths become absolute.

    Raises:
        InputError: no driver for the scheme.
    """
    match = _SCHEME.match(uri)
    if match is None or match[1].lower() == "file":
        return Location(LocalFileSystem(), _absolute(uri if match is None else uri[match.end() :]), uri)
    scheme, rest = match[1].lower(), uri[match.end() :]
    fs = _filesystem(scheme, uri, options)
    if scheme in ("http", "https"):
        return Location(fs, uri, uri)
    return Location(fs, f"/{rest.lstrip('/')}" if scheme == "memory" else rest, uri)


def _absolute(path: str) -> str:
    # abspath would take `link/..` for the folder that holds the link, not for the parent of its target.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)


def _filesystem(scheme: str, uri: str, options: StorageOptions) -> Any:
    if scheme in _S3_SCHEMES:
        from pipeline.s3 import LiteralS3FileSystem

        # One request a picture: with more, s3fs asks for the size first. No listings cache: it would hide new files.
        arguments: dict[str, Any] = {"max_concurrency": 1, "use_listings_cache": False}
        if options.endpoint_url:
            arguments["endpoint_url"] = options.endpoint_url
        if options.profile:
            arguments["profile"] = options.profile
        return LiteralS3FileSystem(**arguments)
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise InputError(f"{public_uri(uri)}: no driver for {scheme}://. {error}") from error
    except ValueError as error:
        known = "s3, gs, az, http, https, file"
        raise InputError(f"{public_uri(uri)}: unknown scheme {scheme}://, expected one of {known}") from error


def join(folder_uri: str, name: str) -> str:
    """The URI of `name` (with `/` between its parts) below a folder."""
    return f"{folder_uri.rstrip('/')}/{name}"


def open_file(uri: str, options: StorageOptions, *, block_size: int | None = None) -> IO[bytes]:
    """Open for reading, seekable. `block_size` is what a remote read fetches at least, in bytes."""
    place = locate(uri, options)
    return place.fs.open(place.path, "rb") if place.is_local else place.fs.open(place.path, "rb", block_size=block_size)


def read_bytes(uri: str, options: StorageOptions, offset: int | None = None, length: int | None = None) -> bytes:
    """Read a file, or `length` bytes of it from `offset`. Fewer bytes come back where the file ends earlier."""
    place = locate(uri, options)
    if place.is_local:
        refuse_special_file(place.path)
    if offset is None and length is None:
        return place.fs.cat_file(place.path)
    if length == 0:
        return b""
    start = offset or 0
    data = place.fs.cat_file(place.path, start=start, end=None if length is None else start + length)
    if length is not None and len(data) > length:
        return data[start : start + length]  # a web server that knows no ranges sent the whole file
    return data


def find_info(uri: str, options: StorageOptions) -> dict[str, Any] | None:
    """What storage knows of a file ("type": "file") or a folder ("directory"), with "size" in bytes; None if absent.

    In object storage a folder is a prefix with any object below it. Anything but a clear no is raised.
    """
    place = locate(uri, options)
    try:
        return place.fs.info(place.path.rstrip("/") or "/")
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(uri: str, options: StorageOptions) -> bool:
    """Is there a file or a folder?"""
    return find_info(uri, options) is not None


def write_new(uri: str, data: bytes, options: StorageOptions) -> bool:
    """Publish a whole file if there is none; False if there was one, which stays as it is.

    Nobody ever sees a part of the file. A PUT whose answer got lost is repeated and then finds its own
    file, so False says only that a file is there: where it matters whose it is, read it.
    Objects of 5 GiB and more go as several parts, after a check for absence: call that under the lock.
    """
    place = locate(uri, options)
    try:
        if place.is_local:
            with new_local_file(place.path, replace=False) as file:
                file.write(data)
        elif place.is_s3 and len(data) >= _PUT_LIMIT_BYTES and exists(uri, options):
            return False
        else:
            _put(place, data, mode="create")
    except OSError as error:
        if s3_code(error) == "ConditionalRequestConflict":  # another writer is at it this moment; AWS asks to try again
            time.sleep(_CONFLICT_WAIT_S)
            return write_new(uri, data, options)
        if _is_taken(error):
            return False
        raise
    return True


def write_replace(uri: str, data: bytes, options: StorageOptions) -> None:
    """Publish a whole file in place of whatever was there; nobody ever sees a part of it."""
    place = locate(uri, options)
    if place.is_local:
        with new_local_file(place.path, replace=True) as file:
            file.write(data)
    else:
        _put(place, data, mode="overwrite")


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
        spool.flush()
        try:
            place.fs.put_file(spool.name, place.path, mode="overwrite" if replace else "create")
        except OSError as error:
            if _is_taken(error):
                raise FileExistsError(uri) from error
            raise


def _is_taken(error: OSError) -> bool:
    # Ceph does not name the failed condition, so s3fs does not make it a FileExistsError.
    return isinstance(error, FileExistsError) or s3_code(error) in ("PreconditionFailed", "412")


def _put(place: Location, data: bytes, mode: str) -> None:
    # s3fs makes one PUT of anything below twice the chunk size.
    arguments = {"chunksize": _PUT_LIMIT_BYTES // 2} if place.is_s3 else {}
    place.fs.pipe_file(place.path, data, mode=mode, **arguments)


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
        from pipeline.s3 import list_objects

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
        place.fs.rm_file(place.path)


def sweep_temporary(uri: str, options: StorageOptions) -> int:
    """Remove what a killed writer left in a local folder, and say how many files. Call it under the output's lock.

    Object storage has none: a PUT that did not end left nothing.
    """
    place = locate(uri, options)
    return sweep_partial_files(place.path) if place.is_local else 0
