"""Every byte read or written goes through here: local files and object storage, by fsspec.

A name without `scheme://` is a local name and taken literally: spaces, `#`, `?`, `%`, `::`, `*`, `[` and
`?versionId=` are ordinary characters in it, and in an S3 key. Functions raise what storage raised, one of
`STORAGE_ERRORS`; `classify` and `storage_error` put it into words.
"""

import errno
import os
import posixpath
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.storage_errors import STORAGE_ERRORS, classify, s3_code, storage_error
from schemas.errors import InputError
from schemas.manifest import public_uri

__all__ = [
    "STORAGE_ERRORS", "FileInfo", "Location", "StorageOptions", "classify", "exists", "is_folder", "join", "list_files",
    "locate", "open_file", "read_bytes", "storage_error", "sweep_temporary", "write_new", "write_replace",
]  # fmt: skip

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = ("s3", "s3a")
_PUT_LIMIT_BYTES = 5 * 2**30  # S3's limit for one PUT
_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{32}\.partial")
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach object storage. Credentials come from the environment or the profile, as in the AWS tools."""

    endpoint_url: str | None = None
    profile: str | None = None
    anonymous: bool = False


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
        return self.uri.lower().startswith(("http://", "https://"))


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
        arguments: dict[str, Any] = {"anon": options.anonymous, "max_concurrency": 1, "use_listings_cache": False}
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
    if offset is None and length is None:
        return place.fs.cat_file(place.path)
    if length == 0:
        return b""
    start = offset or 0
    data = place.fs.cat_file(place.path, start=start, end=None if length is None else start + length)
    if length is not None and len(data) > length:
        return data[start : start + length]  # a web server that knows no ranges sent the whole file
    return data


def exists(uri: str, options: StorageOptions) -> bool:
    """Is there a file or a folder? Anything but a clear no is raised."""
    place = locate(uri, options)
    try:
        place.fs.info(place.path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_folder(uri: str, options: StorageOptions) -> bool:
    """Is there a folder (in object storage: any object below this prefix)?"""
    place = locate(uri, options)
    try:
        return place.fs.info(place.path.rstrip("/") or "/")["type"] == "directory"
    except (FileNotFoundError, NotADirectoryError):
        return False


def write_new(uri: str, data: bytes, options: StorageOptions) -> bool:
    """Publish a whole file if there is none; False if there was one, which stays as it is.

    Nobody ever sees a part of the file. A PUT whose answer got lost is repeated and then finds its own
    file, so False says only that a file is there: where it matters whose it is, read it.
    Objects of 5 GiB and more go as several parts, after a check for absence: call that under the lock.
    """
    place = locate(uri, options)
    if place.is_local:
        return _write_local(place.path, data, replace=False)
    if place.is_s3 and len(data) >= _PUT_LIMIT_BYTES and exists(uri, options):
        return False
    try:
        _put(place, data, mode="create")
    except OSError as error:
        if isinstance(error, FileExistsError) or s3_code(error) in ("PreconditionFailed", "412"):
            return False
        raise
    return True


def write_replace(uri: str, data: bytes, options: StorageOptions) -> None:
    """Publish a whole file in place of whatever was there; nobody ever sees a part of it."""
    place = locate(uri, options)
    if place.is_local:
        _write_local(place.path, data, replace=True)
    else:
        _put(place, data, mode="overwrite")


def _put(place: Location, data: bytes, mode: str) -> None:
    # s3fs makes one PUT of anything below twice the chunk size.
    arguments = {"chunksize": _PUT_LIMIT_BYTES // 2} if place.is_s3 else {}
    place.fs.pipe_file(place.path, data, mode=mode, **arguments)


def _write_local(path: str, data: bytes, *, replace: bool) -> bool:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.partial")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        published = _rename(temporary, path) if replace else _link(temporary, path)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    _sync_folder(folder)
    return published


def _rename(temporary: str, path: str) -> bool:
    os.replace(temporary, path)
    return True


def _link(temporary: str, path: str) -> bool:
    """Give the file its name unless the name is taken: a link does both in one step, a rename would overwrite."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # FAT and some network mounts have no hard links; there the output's lock alone keeps writers apart.
        return not os.path.lexists(path) and _rename(temporary, path)
    return True


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def sweep_temporary(uri: str, options: StorageOptions) -> int:
    """Remove what a killed writer left in a local folder, and say how many files. Call it under the output's lock.

    Object storage has none: a PUT that did not end left nothing.
    """
    place = locate(uri, options)
    if not place.is_local or not os.path.isdir(place.path):
        return 0
    names = [name for name in os.listdir(place.path) if _TEMPORARY_NAME.fullmatch(name)]
    for name in names:
        os.unlink(os.path.join(place.path, name))
    return len(names)
