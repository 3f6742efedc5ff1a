"""Files below a folder or a prefix, in one order wherever they lie: byte order of their paths.

A listing is streamed: of local folders one is held at a time (its names alone), of S3 one page.
"""

import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import STORAGE_ERRORS, Location, StorageOptions, join, locate, storage_error
from schemas.errors import SourceError, one_line
from schemas.manifest import IMAGE_SUFFIXES

_NAMES_A_BATCH = 65_536


@dataclass
class SourceSummary:
    """What listing the sources found: `pictures` are rows, everything else is only counted.

    `bytes` adds the sizes that the listings knew. `other_files` counts files that are no pictures by suffix, and
    others by what they are ("hidden"). `ignored_columns` are columns of manifests that mean nothing to us.
    """

    pictures: int = 0
    bytes: int = 0
    other_files: Counter[str] = field(default_factory=Counter)
    ignored_columns: set[str] = field(default_factory=set)

    def other_files_text(self) -> str:
        """Such as "3 .txt, 1 hidden", the most frequent first; "" if there is nothing else."""
        counted = sorted(self.other_files.items(), key=lambda item: (-item[1], item[0]))
        return one_line(", ".join(f"{count:,} {what}" for what, count in counted))


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file; `path` is below the root of the listing, with `/`. `size` is None where it cannot be read."""

    path: str
    uri: str
    size: int | None
    etag: str | None


def suffix_of(name: str) -> str:
    """The suffix in lower case, with its dot; "" if there is none."""
    return posixpath.splitext(name)[1].lower()


def suffix_of_uri(uri: str) -> str:
    """The suffix of what a URI names: of a web address, that of its path; every other name is taken literally."""
    return suffix_of(urlsplit(uri).path if uri.startswith(("http://", "https://")) else uri)


def is_image_name(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES


def find_files(
    root: str,
    options: StorageOptions,
    summary: SourceSummary,
    *,
    prefix: str = "",
    enters: Callable[[str], bool] = lambda _folder: True,
) -> Iterator[FoundFile]:
    """Yield every file below `root` that is not hidden, in byte order of the paths.

    Symbolic links are followed, except into a folder that holds them. Hidden files and folders (a dot at the
    beginning, or `__MACOSX`) and what is no file are counted in `summary`.

    Args:
        root: a folder or a prefix.
        prefix: in object storage, list only keys that begin with it (below the root).
        enters: whether files below a folder, named below the root, can be of interest; spares listing it.

    Raises:
        SourceError: a folder that cannot be listed, or a name that is not UTF-8.
    """
    place = locate(root, options)
    if place.is_local:
        yield from _find_local(place.path, summary, enters)
        return
    for found in _find_remote(place, prefix):
        if any(_is_hidden(part) for part in found.path.split("/")):
            summary.other_files["hidden"] += 1
        else:
            yield found


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder in the middle of its listing; `below` is where it is under the root: "" or "a/b/"."""

    path: str
    below: str
    names: Iterator[Any]  # Arrow scalars
    identity: tuple[int, int]


def _find_local(root: str, summary: SourceSummary, enters: Callable[[str], bool]) -> Iterator[FoundFile]:
    """Files below `root`, however deep: the folders that are open are a list, not calls within calls."""
    opened = [_open_folder(root, "")]
    while opened:
        folder = opened[-1]
        encoded = next(folder.names, None)
        if encoded is None:
            opened.pop()
            continue
        name = _decode(encoded.as_py(), folder.path)
        path, below = os.path.join(folder.path, name), folder.below + name
        if _is_hidden(name.removesuffix("/")):
            summary.other_files["hidden"] += 1
        elif name.endswith("/"):
            if enters(below[:-1]):
                inner = _open_folder(path[:-1], below)
                if any(inner.identity == outer.identity for outer in opened):
                    summary.other_files["link to a folder above it"] += 1
                else:
                    opened.append(inner)
        elif (found := _look_at(path, below)) is not None:
            yield found
        else:
            summary.other_files["not a file"] += 1


def _open_folder(path: str, below: str) -> _Folder:
    try:
        status = os.stat(path)
        return _Folder(path, below, iter(_sorted_names(path)), (status.st_dev, status.st_ino))
    except OSError as error:
        raise storage_error(error, path, SourceError) from error


def _sorted_names(folder: str) -> pa.Array:
    """Names in byte order, folders with a `/` behind: the order of whole paths. Arrow holds ten million of them."""
    batches, names = [], []
    with os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            names.append(entry.name + b"/" if _is_folder(entry) else entry.name)
            if len(names) == _NAMES_A_BATCH:
                batches.append(pa.array(names, pa.large_binary()))
                names = []
    found = pa.concat_arrays([*batches, pa.array(names, pa.large_binary())])
    return found.take(pc.sort_indices(found))


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _decode(name: bytes, folder: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{folder}: the name {name!r} is not UTF-8, which a manifest must be; rename it") from error


def _look_at(path: str, below: str) -> FoundFile | None:
    """The file with its size; None for a pipe, a socket or a device, which are never read."""
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing: a picture that cannot be fetched, and a row that will say so
        return FoundFile(below, path, None, None)
    return FoundFile(below, path, status.st_size, None) if stat.S_ISREG(status.st_mode) else None


def _find_remote(place: Location, prefix: str) -> Iterator[FoundFile]:
    try:
        yield from _find_s3(place, prefix) if place.is_s3 else _find_other(place, prefix)
    except STORAGE_ERRORS as error:
        raise storage_error(error, place.uri, SourceError) from error


def _find_s3(place: Location, prefix: str) -> Iterator[FoundFile]:
    from pipeline.storage.s3 import list_objects

    bucket, _, key = place.path.rstrip("/").partition("/")
    folder = f"{key}/" if key else ""
    for item in list_objects(place.fs, bucket, folder + prefix):
        path = item["Key"][len(folder) :]
        if path and not path.endswith("/"):  # such keys only mark a folder
            yield FoundFile(path, join(place.uri, path), item["Size"], item["ETag"].strip('"'))


def _find_other(place: Location, prefix: str) -> Iterator[FoundFile]:
    place.fs.invalidate_cache()
    root = place.path.rstrip("/") + "/"
    found: dict[str, Any] = place.fs.find(place.path, detail=True)
    for name in sorted(found, key=str.encode):
        path = name[len(root) :]
        if name.startswith(root + prefix):
            yield FoundFile(path, join(place.uri, path), found[name].get("size"), None)
