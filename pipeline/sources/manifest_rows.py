"""From the raw values of manifest lines to rows: types checked, relative names resolved."""

import math
import posixpath
import re
import reprlib
from typing import Any
from urllib.parse import urljoin, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import StorageOptions, join, locate
from schemas.errors import ManifestError
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, is_web_address, public_uri
from schemas.manifest_table import ManifestTable

COLUMNS = tuple(MANIFEST_SCHEMA.names)
_LARGEST = {"width": 2**31 - 1, "height": 2**31 - 1}
_LARGEST_INT64 = 2**63 - 1
_SHOWN_CHARACTERS = 200
_INTEGERS = ("width", "height", "size_bytes", "byte_offset", "byte_length")
_ALWAYS_THERE = ("image_id", "uri")
_MISTYPED_ADDRESS = re.compile(r"\s+[A-Za-z][A-Za-z0-9+.-]*://")  # in CSV: `name, https://...`
_TEXTS = ("etag", "vocabulary", "split")


class RowReader:
    """Makes the rows of one manifest.

    Args:
        uri: the manifest; relative names lie below its folder.
        options: how to reach it.
    """

    def __init__(self, uri: str, options: StorageOptions) -> None:
        self._name = public_uri(uri)
        self._manifest = locate(uri, options)
        self._options = options
        if self._manifest.is_http:
            self._folder = urljoin(uri, ".").rstrip("/")
        else:
            self._folder = posixpath.dirname(self._manifest.path if self._manifest.is_local else uri)

    def row(self, where: str, values: dict[str, Any]) -> ManifestRow:
        """The row of these values. `where` names the line in an error. Columns of other names are ignored."""
        named = f"{self._name}: {where}"
        uri = self._address(_required(values.get("uri"), "uri", named), "uri", named)
        image_id = values.get("image_id")
        if image_id is None and "image_id" not in values:
            image_id = public_uri(uri).removeprefix(f"{self._folder}/")
        elif isinstance(image_id, int) and not isinstance(image_id, bool):
            image_id = str(image_id)
        mask_uri = _text(values.get("mask_uri"), "mask_uri", named)
        others: dict[str, Any] = {c: _integer(values[c], c, named) for c in _INTEGERS if c in values}
        others |= {c: _text(values[c], c, named) for c in _TEXTS if c in values}
        row = ManifestRow(
            image_id=_required(image_id, "image_id", named),
            uri=uri,
            image=image_bytes(values.get("image"), named),
            mask_uri=None if mask_uri is None else self._address(mask_uri, "mask_uri", named),
            **others,
        )
        if (row.byte_offset is None) != (row.byte_length is None):
            raise ManifestError(f"{named}: byte_offset and byte_length go together, found one of them")
        return row

    def _address(self, name: str, column: str, where: str) -> str:
        if _MISTYPED_ADDRESS.match(name):
            shown = public_uri(name)
            raise ManifestError(f"{where}: {column} is {shown!r}, which begins with a space; take it away")
        try:
            uri = self._resolve(name)
            if is_web_address(uri):
                urlsplit(uri)
        except ValueError as error:  # `http://[x`, which urllib takes for half an IPv6 address; a NUL byte
            shown = public_uri(name)
            raise ManifestError(f"{where}: {column} is {shown!r}, which is no valid address; mend it") from error
        return uri

    def _resolve(self, name: str) -> str:
        if "://" in name or name.startswith("/"):
            return name
        if self._manifest.is_http:
            return urljoin(self._manifest.uri, name)
        below = join(self._folder, name)
        if not {".", ".."} & set(name.split("/")):
            return below
        if self._manifest.is_local:
            return locate(below, self._options).path
        scheme, separator, path = below.partition("://")
        return scheme + separator + posixpath.normpath(path)


def plain_table(batch: pa.RecordBatch) -> ManifestTable | None:
    """The rows of a batch as columns, if `RowReader` would take every value as it is; else None.

    Whatever is relative, of another type, empty, signed or wrong is left to `RowReader`, which is slower by far and
    says of each row what is wrong with it.
    """
    names = batch.schema.names
    if "image_id" not in names or any(batch.column(name).null_count for name in _ALWAYS_THERE):
        return None
    columns = [
        _plain_column(batch.column(field.name), field) if field.name in names else pa.nulls(len(batch), field.type)
        for field in MANIFEST_SCHEMA
    ]
    if any(column is None for column in columns):
        return None
    plain = pa.RecordBatch.from_arrays(columns, schema=MANIFEST_SCHEMA)
    ranges = (plain.column("byte_offset").is_null(), plain.column("byte_length").is_null())
    return ManifestTable.of(plain) if ranges[0].equals(ranges[1]) else None


def _plain_column(values: pa.Array, field: pa.Field) -> pa.Array | None:
    """The values in the type of a manifest's column; None if some are of another kind, out of range, or empty text."""
    kind = values.type
    if values.null_count == len(values):
        return pa.nulls(len(values), field.type)
    if field.name in _INTEGERS and pa.types.is_integer(kind):
        found = pc.min_max(values).as_py()
        is_plain = found["min"] >= 0 and found["max"] <= _LARGEST.get(field.name, _LARGEST_INT64)
    else:
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_plain = field.type == pa.string() and is_text and pc.min(pc.binary_length(values)).as_py() > 0
    return values.cast(field.type) if is_plain else None


def _required(value: Any, column: str, where: str) -> str:
    text = _text(value, column, where)
    if text is None:
        raise ManifestError(f"{where}: {column} is empty, expected text; fill it in or leave the row out")
    return text


def _text(value: Any, column: str, where: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ManifestError(f"{where}: {column} is {_shown(value)}, expected text")
    if not value.isascii() and not _is_unicode(value):
        raise ManifestError(f"{where}: {column} is {_shown(value)}, which is no valid Unicode")
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return False
    return True


def _integer(value: Any, column: str, where: str) -> int | None:
    """A count; pandas writes whole numbers with gaps as floats and the gaps as NaN."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    is_same = isinstance(value, str) or number == value
    if not is_same or isinstance(value, bool) or not 0 <= number <= _LARGEST.get(column, _LARGEST_INT64):
        raise ManifestError(f"{where}: {column} is {_shown(value)}, expected a whole number from 0")
    return number


def _shown(value: Any) -> str:
    """A value as Python spells it, less what is too long for a line."""
    text = reprlib.repr(value) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."


def image_bytes(value: Any, where: str) -> bytes | None:
    """Bytes as such, or as Hugging Face writes them: a struct of `bytes` and `path`."""
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is not None and not isinstance(value, bytes):
        found = type(value).__name__
        raise ManifestError(f"{where}: image is {found}, expected the bytes of a picture; rename what is none")
    return value
