"""Manifest rows as columns: ten million of them are checked, hashed and written without a Python object for each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, row_identity

_TEXTS = tuple(field.name for field in MANIFEST_SCHEMA if field.type == pa.string())
_ESCAPED = r'["\\\x00-\x1f]'  # what JSON writes otherwise than it is
_IS_WEB = "(?i)^https?://"
_PLAIN_WEB = r"^https?://[A-Za-z0-9.-]+(:[0-9]+)?/[^?#@]*$"  # urllib puts it together as it was, and nothing signs it
_PLAIN_OTHER = r"^(/|[A-Za-z][A-Za-z0-9+.-]*://[^@]*$)"
_IDENTITY = ("size_bytes", "etag", "byte_offset", "byte_length")  # behind image_id and uri, before the image's hash


class ManifestTable(Sequence[ManifestRow]):
    """Manifest rows that are made one by one only where they are asked for; `ManifestTable.of` makes it.

    All are plain: an absolute `uri` without secrets, no picture inside, and text that JSON writes as it is.
    """

    def __init__(self, batch: pa.RecordBatch, identities: pa.StringArray) -> None:
        self._batch, self._identities = batch, identities

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self | None:
        """The rows of a batch of `MANIFEST_SCHEMA`; None if some row is not plain, or text is no valid Unicode."""
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid:
            return None
        is_plain = batch.column("image").null_count == len(batch)
        for name in _TEXTS:
            is_plain = is_plain and not _any(pc.match_substring_regex(batch.column(name), _ESCAPED))
        for name in ("uri", "mask_uri"):
            is_plain = is_plain and _are_plain_uris(batch.column(name))
        if not is_plain:
            return None
        return cls(batch, _identities(batch))

    @classmethod
    def join(cls, parts: Sequence["ManifestTable"]) -> "ManifestTable":
        """The rows of all parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        (batch,) = pa.Table.from_batches([part._batch for part in parts]).combine_chunks().to_batches()
        return cls(batch, pa.concat_arrays([part._identities for part in parts]))

    @property
    def batch(self) -> pa.RecordBatch:
        """The rows as columns, in `MANIFEST_SCHEMA`."""
        return self._batch

    def identity_lines(self) -> memoryview:
        """What `row_identity` says of every row, each with a newline behind it, in UTF-8."""
        _, offsets, data = self._identities.buffers()
        first = self._identities.offset
        ends = np.frombuffer(offsets, np.int32)[[first, first + len(self)]] if len(self) else (0, 0)
        return memoryview(data or b"")[ends[0] : ends[1]]

    def __len__(self) -> int:
        return len(self._batch)

    @overload
    def __getitem__(self, index: int) -> ManifestRow: ...
    @overload
    def __getitem__(self, index: slice) -> "ManifestTable": ...
    def __getitem__(self, index: int | slice) -> "ManifestRow | ManifestTable":
        if isinstance(index, int):
            place = range(len(self))[index]
            return ManifestRow(**self._batch.slice(place, 1).to_pylist()[0])
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError(f"step {step}: rows of a table are taken one after another")
        length = max(0, stop - start)
        return ManifestTable(self._batch.slice(start, length), self._identities.slice(start, length))

    def __iter__(self) -> Iterator[ManifestRow]:
        return (ManifestRow(**row) for row in self._batch.to_pylist())


def identity_lines(rows: Iterable[ManifestRow]) -> bytes | memoryview:
    """What `row_identity` says of every row, each with a newline behind it, in UTF-8: what names a shard."""
    if isinstance(rows, ManifestTable):
        return rows.identity_lines()
    return "".join(f"{row_identity(row)}\n" for row in rows).encode()


def _identities(batch: pa.RecordBatch) -> pa.StringArray:
    """`row_identity` of plain rows, with a newline: the same text, written column by column."""
    pieces: list[object] = ['["', batch.column("image_id"), '","', batch.column("uri"), '"']
    for name in _IDENTITY:
        column = batch.column(name)
        if column.null_count == len(batch):
            pieces.append(",null")
            continue
        text = column.cast(pa.string())
        if name in _TEXTS:
            text = pc.binary_join_element_wise('"', text, '"', "")
        pieces += [",", pc.fill_null(text, "null")]
    lines: pa.StringArray = pc.binary_join_element_wise(*pieces, ",null]\n", "")
    return lines


def _are_plain_uris(uris: pa.StringArray) -> bool:
    """Are all that are there absolute, and their own `public_uri`?"""
    if uris.null_count == len(uris):
        return True
    is_web = pc.match_substring_regex(uris, _IS_WEB)
    others = pc.match_substring_regex(uris, _PLAIN_OTHER)
    plain = pc.if_else(is_web, pc.match_substring_regex(uris, _PLAIN_WEB), others) if _any(is_web) else others
    return pc.all(plain).as_py() is not False


def _any(found: pa.BooleanArray) -> bool:
    return bool(pc.any(found).as_py())
