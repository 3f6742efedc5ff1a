"""Where the pictures of a job come from: every SOURCE of the command line becomes manifest rows, as a stream.

A SOURCE is a folder, a glob, an object-storage prefix, a manifest, a COCO file, a WebDataset tar, a Parquet
file with pictures in it, or one picture. A name that exists is taken literally, whatever characters it has.
"""

import posixpath
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from urllib.parse import urlsplit

import numpy as np
import pyarrow.compute as pc
from fsspec.utils import glob_translate

from pipeline.sources.coco import list_coco
from pipeline.sources.listing import FoundFile, SourceSummary, find_files, is_image_name, suffix_of, suffix_of_uri
from pipeline.sources.manifest import read_manifest
from pipeline.sources.parquet import list_parquet
from pipeline.sources.tar import COMPRESSED_TAR_SUFFIXES, list_tar, refuse_compressed
from pipeline.storage import STORAGE_ERRORS, StorageOptions, find_info, locate, storage_error
from schemas.errors import InputError, ManifestError, SourceError
from schemas.manifest import IMAGE_SUFFIXES, ManifestRow, public_uri
from schemas.manifest_table import ManifestTable

__all__ = ["SourceSummary", "list_batches", "list_source", "list_sources"]

_WILDCARD = re.compile(r"[*?\[]")
_CONTAINER_SUFFIXES = (".tar", ".parquet")
_KINDS = "a folder, a glob, a manifest (.parquet .csv .jsonl), a COCO .json, a .tar, a .parquet or a picture"
_DUPLICATES_NAMED = 1000


def list_sources(
    sources: Sequence[str],
    options: StorageOptions,
    summary: SourceSummary,
    *,
    image_root: str | None = None,
    limit: int | None = None,
) -> Iterator[ManifestRow]:
    """The rows of `list_batches`, one by one."""
    for batch in list_batches(sources, options, summary, image_root=image_root, limit=limit):
        yield from batch


def list_batches(
    sources: Sequence[str],
    options: StorageOptions,
    summary: SourceSummary,
    *,
    image_root: str | None = None,
    limit: int | None = None,
) -> Iterator[Sequence[ManifestRow]]:
    """Yield the rows of all sources one after another, at most `limit`; each source has its own root.

    They come some at a time: as columns from Parquet manifests, one by one from what has to be looked at one by one.
    That no `image_id` comes twice is checked when the rows are at an end, with 8 bytes a row in memory. So the
    rows have to be read to the end: a caller that wants fewer gives a `limit`.

    Raises:
        SourceError, ManifestError: a source that cannot be used, or an `image_id` that stands for two pictures.
    """
    if image_root is not None and not any(suffix_of_uri(source) == ".json" for source in sources):
        raise InputError(
            f"--image-root {public_uri(image_root)}: none of the sources is a COCO .json; leave the option out"
        )

    def batches(into: SourceSummary) -> Iterator[Sequence[ManifestRow]]:
        found = (_source_batches(source, options, into, image_root) for source in sources)
        return _limited(chain.from_iterable(found), limit)

    hashes = array("q")
    for batch in batches(summary):
        ids, sizes = _ids_and_sizes(batch)
        hashes.extend(map(hash, ids))
        summary.pictures += len(batch)
        summary.bytes += sizes
        yield batch
    _refuse_duplicates(hashes, lambda: chain.from_iterable(batches(SourceSummary())))


def _limited(batches: Iterable[Sequence[ManifestRow]], limit: int | None) -> Iterator[Sequence[ManifestRow]]:
    """Batches up to a number of rows; what is behind them is not read."""
    if limit is None:
        yield from batches
        return
    left = limit
    source = iter(batches)
    while left > 0 and (batch := next(source, None)) is not None:
        yield batch[:left]
        left -= len(batch)


def _ids_and_sizes(batch: Sequence[ManifestRow]) -> tuple[list[str], int]:
    """The image ids of some rows, and the sum of their sizes in bytes."""
    if isinstance(batch, ManifestTable):
        return batch.batch.column("image_id").to_pylist(), pc.sum(batch.batch.column("size_bytes")).as_py() or 0
    return [row.image_id for row in batch], sum(row.size_bytes or 0 for row in batch)


def _refuse_duplicates(hashes: array, rows_again: Callable[[], Iterable[ManifestRow]]) -> None:
    """Two equal hashes are a suspicion; a second listing, which is rarely needed, looks at the ids themselves."""
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64))
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not repeated.size:
        return
    suspects = set(repeated[:_DUPLICATES_NAMED].tolist())
    first: dict[str, str] = {}
    for row in rows_again():
        if hash(row.image_id) not in suspects:
            continue
        if row.image_id in first:
            raise ManifestError(_duplicate(row.image_id, public_uri(first[row.image_id]), public_uri(row.uri)))
        first[row.image_id] = row.uri


def _duplicate(image_id: str, uri: str, other_uri: str) -> str:
    if uri == other_uri:
        return f"image_id {image_id!r} comes twice, both times from {uri}; leave one out"
    return (
        f"image_id {image_id!r} stands for two pictures: {uri} and {other_uri}; "
        "give their common folder as one SOURCE, or a manifest with unique image_ids"
    )


def list_source(
    source: str, options: StorageOptions, summary: SourceSummary, *, image_root: str | None = None
) -> Iterator[ManifestRow]:
    """Yield the rows of one source; local `uri`s are absolute.

    Raises:
        SourceError, ManifestError: a source that is missing, empty, forbidden, damaged, or of no kind we read.
    """
    for batch in _source_batches(source, options, summary, image_root):
        yield from batch


def _source_batches(
    source: str, options: StorageOptions, summary: SourceSummary, image_root: str | None
) -> Iterator[Sequence[ManifestRow]]:
    before = summary.other_files.copy()
    is_empty = True
    try:
        for batch in _batches(source, options, summary, image_root):
            is_empty = is_empty and not batch
            yield batch
    except STORAGE_ERRORS as error:
        raise storage_error(error, source, SourceError) from error
    if is_empty:
        raise SourceError(_nothing_found(source, SourceSummary(other_files=summary.other_files - before)))


def _batches(
    source: str, options: StorageOptions, summary: SourceSummary, image_root: str | None
) -> Iterator[Sequence[ManifestRow]]:
    place = locate(source, options)
    if place.is_http:
        path = urlsplit(source).path
        if "*" in path or path.endswith("/"):
            raise SourceError(f"{public_uri(source)}: a web address cannot be listed; give a manifest of the addresses")
        return _batches_of_file(source, {}, options, summary, image_root)  # whether it is there, reading it will say
    info = find_info(source, options)
    if info is None and _WILDCARD.search(source):
        return _one_by_one(_rows_of_glob(source, options, summary))
    root = place.path if place.is_local else source
    if info is None and place.is_local:
        raise SourceError(f"{source}: not found, expected {_KINDS}")
    # A bucket or a prefix that is not there is best explained by listing it.
    if info is None or info["type"] == "directory" or (source.endswith("/") and not place.is_local):
        return _one_by_one(_image_rows(find_files(root, options, summary), summary))
    return _batches_of_file(root, info, options, summary, image_root)


def _one_by_one(rows: Iterable[ManifestRow]) -> Iterator[Sequence[ManifestRow]]:
    return ((row,) for row in rows)


def _batches_of_file(
    uri: str, info: dict, options: StorageOptions, summary: SourceSummary, image_root: str | None
) -> Iterator[Sequence[ManifestRow]]:
    suffix = suffix_of_uri(uri)
    name = posixpath.basename(urlsplit(uri).path if locate(uri, options).is_http else uri)
    if suffix == ".json":
        return _one_by_one(list_coco(uri, options, image_root))
    if suffix in (".csv", ".jsonl"):
        return read_manifest(uri, options, summary)
    if suffix == ".parquet":
        return list_parquet(uri, options, summary, stem=posixpath.splitext(name)[0])
    if suffix == ".tar":
        return _one_by_one(list_tar(uri, options, summary, below=""))
    if suffix in IMAGE_SUFFIXES:
        etag = str(info.get("ETag", "")).strip('"') or None
        return _one_by_one([ManifestRow(name, uri, size_bytes=info.get("size"), etag=etag)])
    if uri.lower().endswith(COMPRESSED_TAR_SUFFIXES):
        refuse_compressed(uri, b"")
    raise SourceError(f"{public_uri(uri)}: not a kind of file we read, expected {_KINDS}")


def _image_rows(files: Iterable[FoundFile], summary: SourceSummary) -> Iterator[ManifestRow]:
    for found in files:
        if is_image_name(found.path):
            yield ManifestRow(found.path, found.uri, size_bytes=found.size, etag=found.etag)
        else:
            summary.other_files[suffix_of(found.path) or "without suffix"] += 1


def _rows_of_glob(source: str, options: StorageOptions, summary: SourceSummary) -> Iterator[ManifestRow]:
    """Pictures that match, in byte order of their paths; with a pattern for .tar or .parquet, those inside them."""
    cut = _glob_root(source, options)
    root, pattern = source[:cut] or ".", source[cut:]
    place = locate(root, options)
    matches, enters = _matchers(source, pattern)
    literal = _WILDCARD.split(pattern)[0]
    root_uri = place.path if place.is_local else root
    if place.is_local and find_info(root_uri, options) is None:
        raise SourceError(f"{source}: the folder {root_uri} is not there")
    files = find_files(root_uri, options, summary, prefix=literal, enters=enters)
    files = (found for found in files if matches(found.path))
    if suffix_of(pattern) not in _CONTAINER_SUFFIXES:
        yield from _image_rows(files, summary)
        return
    for found in files:
        if suffix_of_uri(found.uri) == ".tar":
            yield from list_tar(found.uri, options, summary, below=f"{found.path}/")
        else:
            stem = posixpath.splitext(found.path)[0]
            yield from chain.from_iterable(list_parquet(found.uri, options, summary, stem=stem))


def _glob_root(source: str, options: StorageOptions) -> int:
    """Where the pattern begins: at the first part with a wildcard that is not itself the name of a folder."""
    cut = 0
    while (slash := source.find("/", cut)) >= 0:
        if _WILDCARD.search(source[cut:slash]) and find_info(source[:slash], options) is None:
            break
        cut = slash + 1
    return cut


def _matchers(source: str, pattern: str) -> tuple[Callable[[str], object], Callable[[str], bool]]:
    """Two questions about a path below the root: does it match, and can anything below it match?"""
    try:
        whole = re.compile(glob_translate(pattern))
    except ValueError as error:
        raise SourceError(f"{source}: `**` stands only between slashes, as in photos/**/*.jpg") from error
    parts = pattern.split("/")
    deep = "**" in parts
    fixed = parts[: parts.index("**")] if deep else parts[:-1]
    folders = [re.compile(glob_translate(part)) for part in fixed]

    def enters(folder: str) -> bool:
        names = folder.split("/")
        return (deep or len(names) <= len(folders)) and all(
            part.match(name) for part, name in zip(folders, names, strict=False)
        )

    return whole.match, enters


def _nothing_found(source: str, found: SourceSummary) -> str:
    text = f"{public_uri(source)}: no pictures there; "
    text += f"found {found.other_files_text()}" if found.other_files else "found nothing"
    for suffix in _CONTAINER_SUFFIXES:
        if found.other_files[suffix]:
            return f"{text}; to read the pictures inside, give {public_uri(source).rstrip('/')}/*{suffix}"
    return f"{text}; expected {_KINDS}"
