"""A WebDataset tar as a source: its members stay where they are and are read by byte range.

Only headers are read, 512 bytes before each member. Names of members are names and nothing else: nothing is
ever extracted, so `../a.jpg` or `/a.jpg` harm nobody.
"""

import errno
import tarfile
from collections.abc import Iterator
from typing import IO

from pipeline.sources.listing import SourceSummary, is_image_name, suffix_of
from pipeline.storage import StorageOptions, find_info, open_file
from schemas.errors import SourceError
from schemas.manifest import ManifestRow, public_uri

COMPRESSED_TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4")
_MAGIC_OF_COMPRESSION = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
_HEADER_READ_BYTES = 2**16  # what a remote read fetches at least: several headers where members are small
_TRAILER_READ_BYTES = 2**20
_LONGEST_HEADER_BYTES = 2**20  # a name, or a member's extended attributes
# What tarfile raises, besides its own errors, of numbers no file can have and of headers before headers without end.
_TAR_ERRORS = (tarfile.TarError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


def list_tar(uri: str, options: StorageOptions, summary: SourceSummary, below: str = "") -> Iterator[ManifestRow]:
    """Yield a row for every picture in an uncompressed tar, in its order.

    Args:
        uri: the tar.
        options: how to reach it.
        summary: counts the members that are no pictures.
        below: what stands before the member's name in `image_id`.

    Raises:
        SourceError: a compressed, damaged or truncated tar, or a member's name that is not UTF-8.
    """
    info = find_info(uri, options) or {}
    etag = str(info.get("ETag", "")).strip('"') or None
    with open_file(uri, options, block_size=_HEADER_READ_BYTES) as file:
        refuse_compressed(uri, file.read(6))
        file.seek(0)
        for member in _members(uri, file):
            name = member.name.removeprefix("./")
            if not member.isreg() or member.issparse():
                if not member.isdir():
                    summary.other_files["link or sparse member of a tar"] += 1
            elif _is_junk(name):
                summary.other_files["hidden"] += 1
            elif not is_image_name(name):
                summary.other_files[suffix_of(name) or "without suffix"] += 1
            else:
                start, size = member.offset_data, member.size
                yield ManifestRow(below + name, uri, size_bytes=size, etag=etag, byte_offset=start, byte_length=size)


def refuse_compressed(uri: str, head: bytes) -> None:
    """A picture in a compressed tar cannot be read without all that stands before it."""
    if head.startswith(_MAGIC_OF_COMPRESSION) or uri.lower().endswith(COMPRESSED_TAR_SUFFIXES):
        raise SourceError(f"{public_uri(uri)}: a compressed tar; unpack it, or decompress it to a plain .tar")


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


class _Headers:
    """The file as tarfile reads it: never more at a time than a header may hold, however long a header says it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell

    def seek(self, offset: int) -> int:
        try:
            return self._file.seek(offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise tarfile.ReadError(f"a member that ends at byte {offset}") from error  # where no file ends

    def read(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= _LONGEST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {n_bytes} bytes")
        return self._file.read(n_bytes)


def _members(uri: str, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    before = 0
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                archive.members = []  # else it keeps the headers of millions
                if member.size < 0 or archive.offset <= before:  # it would lead round in a circle
                    raise tarfile.ReadError(f"a member of {member.size} bytes")
                before = archive.offset
                _check_name(uri, member.name)
                yield member
            _check_end(uri, file, archive.offset)
    except _TAR_ERRORS as error:
        raise SourceError(f"{public_uri(uri)}: damaged or no tar ({error}); copy or write it again") from error


def _check_name(uri: str, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{public_uri(uri)}: the member {name!r} has a name that is not UTF-8, which a manifest must be; rename it"
        ) from error


def _check_end(uri: str, file: IO[bytes], offset: int) -> None:
    """tarfile stops in silence at a damaged header and at the end of the first of two joined archives."""
    file.seek(offset)
    if file.read(_TRAILER_READ_BYTES).strip(b"\0"):
        raise SourceError(
            f"{public_uri(uri)}: what stands at byte {offset} is no header: the tar is damaged, "
            "or several were joined; write it again, or give each as its own SOURCE"
        )
