"""Manifests: read in batches from Parquet, CSV and JSON Lines, and written whole or not at all.

Only `uri` must be there. A relative `uri` is one below the manifest's own folder, and `image_id` is by default
the uri below that folder. Errors name the file and the row (the line, in CSV and JSON Lines, from 1).
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.listing import SourceSummary, suffix_of_uri
from pipeline.sources.manifest_rows import COLUMNS, RowReader, plain_table
from pipeline.storage import STORAGE_ERRORS, StorageOptions, exists, new_file, open_file, storage_error
from schemas.errors import ManifestError, OutputError, one_line
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, public_uri

_SUFFIXES_TEXT = ".parquet, .csv or .jsonl"
_ROWS_A_BATCH = 16_384
_PICTURES_A_BATCH = 32
_BYTES_OF_NULLS = 1024  # most that a row group without any picture needs for that column
_BYTES_A_BATCH = 2**26  # of pictures in a row group
_COLUMNS_SHOWN = 50
_LONGEST_CSV_FIELD = 2**20  # characters; the csv module's own limit is shorter than some signed addresses

# What Arrow raises of damaged files, and of values that Python has no place for, such as dates in the year 300,000.
_PARQUET_ERRORS = (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError)
_TEXT_COLUMNS = tuple(column for column in COLUMNS if column != "image")
_ALWAYS_READ = ("uri", "image_id")  # to be there and empty is an error; to be absent is none

RawRow = tuple[str, dict[str, Any]]  # where it stands ("line 3"), and its values by column
_ReadRows = Callable[[RowReader], Iterator[Sequence[ManifestRow]]]


def read_manifest(
    uri: str, options: StorageOptions, summary: SourceSummary | None = None
) -> Iterator[Sequence[ManifestRow]]:
    """Yield the rows of a manifest in batches, in their order: as columns from Parquet wherever that does.

    Raises:
        ManifestError: a file that cannot be read, lacks a `uri` column, or holds a value of the wrong type.
    """
    with _reading(uri), open_file(uri, options) as file:
        columns, read = _open_format(uri, file)
        check_columns(uri, columns)
        if summary is not None:
            summary.ignored_columns |= set(map(one_line, columns)) - set(COLUMNS)
        yield from read(RowReader(uri, options))


def check_columns(uri: str, columns: list[str]) -> None:
    """Refuse a manifest without a `uri` column, or with two columns of one name."""
    if "uri" not in columns:
        shown = columns[:_COLUMNS_SHOWN]
        more = f" and {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""
        raise ManifestError(
            f"{public_uri(uri)}: missing column 'uri', found {shown}{more}; see `escnet manifest --help`"
        )
    repeated = sorted(column for column, count in Counter(columns).items() if count > 1)
    if repeated:
        raise ManifestError(f"{public_uri(uri)}: more than one column is named {repeated}; keep one of each")


def open_parquet(uri: str, file: IO[bytes]) -> pq.ParquetFile:
    """Open a Parquet file; a file that is none, or a damaged one, is a ManifestError."""
    with _reading_parquet(uri, lambda: "Parquet"):
        parquet = pq.ParquetFile(file)
        parquet.schema_arrow.names  # noqa: B018  # names are decoded when they are asked for
        return parquet


def parquet_rows(uri: str, parquet: pq.ParquetFile, columns: list[str]) -> Iterator[RawRow]:
    """Yield the values of the columns of each row, holding one batch of rows: few where rows hold pictures."""
    for n_before, batch in _record_batches(uri, parquet, columns):
        yield from _raw_rows(uri, n_before, batch)


def _record_batches(uri: str, parquet: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of rows, each with the number of rows before it."""
    n_before = 0
    with _reading_parquet(uri, lambda: f"Parquet after row {n_before}"):
        has_pictures = any(_may_hold_pictures(parquet, column) for column in columns)
        batch_size = _PICTURES_A_BATCH if has_pictures else _ROWS_A_BATCH
        for batch in parquet.iter_batches(batch_size=batch_size, columns=columns):
            yield n_before, batch
            n_before += len(batch)


def _raw_rows(uri: str, n_before: int, batch: pa.RecordBatch) -> Iterator[RawRow]:
    # A column without a value is left out of every row: most manifests fill two or three of twelve.
    names = batch.schema.names
    named = [n for n in names if n in _ALWAYS_READ or batch.column(n).null_count < batch.num_rows]
    with _reading_parquet(uri, lambda: f"Parquet after row {n_before}"):
        rows = batch.select(named).to_pylist()
    return ((f"row {number}", values) for number, values in enumerate(rows, start=n_before + 1))


def _parquet_batches(
    uri: str, parquet: pq.ParquetFile, columns: list[str], reader: RowReader
) -> Iterator[Sequence[ManifestRow]]:
    for n_before, batch in _record_batches(uri, parquet, columns):
        table = plain_table(batch)
        if table is not None:
            yield table
        else:
            yield from _batches(reader.row(where, values) for where, values in _raw_rows(uri, n_before, batch))


def write_manifest(rows: Iterable[ManifestRow], uri: str, options: StorageOptions, *, replace: bool = False) -> int:
    """Write a manifest as Parquet, CSV or JSON Lines, by its suffix; returns the number of rows.

    Raises:
        OutputError: another suffix, a manifest already there (unless `replace`), or storage that refuses.
        ManifestError: rows that hold the pictures themselves, in CSV or JSON Lines.
    """
    writers = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}
    write = writers.get(suffix_of_uri(uri))
    if write is None:
        raise OutputError(f"{public_uri(uri)}: a manifest ends in {_SUFFIXES_TEXT}; rename it")
    taken = f"{public_uri(uri)}: already there; choose another name or give --overwrite"
    try:
        if not replace and exists(uri, options):  # before listing millions of pictures
            raise OutputError(taken)
        with new_file(uri, options, replace=replace) as file:
            return write(rows, file, uri)
    except FileExistsError as error:
        raise OutputError(taken) from error
    except STORAGE_ERRORS as error:
        raise storage_error(error, uri, OutputError) from error


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ManifestError(f"{public_uri(uri)}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except STORAGE_ERRORS as error:
        raise storage_error(error, uri, ManifestError) from error


@contextmanager
def _reading_parquet(uri: str, expected: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except _PARQUET_ERRORS as error:
        raise _unreadable(uri, expected(), error) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None or error.__cause__ is not None:
            raise  # storage's; Arrow's own, of broken footers and pages, says nothing but a message
        raise _unreadable(uri, expected(), error) from error


def _unreadable(uri: str, expected: str, error: Exception) -> ManifestError:
    reason = " ".join(str(error).split())[:200]
    return ManifestError(f"{public_uri(uri)}: cannot be read as {expected} ({reason}); write it again")


def _open_format(uri: str, file: IO[bytes]) -> tuple[list[str], _ReadRows]:
    """The column names, and what reads the rows."""
    suffix = suffix_of_uri(uri)
    if suffix not in (".parquet", ".csv", ".jsonl"):
        raise ManifestError(f"{public_uri(uri)}: no manifest, expected a name that ends in {_SUFFIXES_TEXT}")
    if suffix == ".parquet":
        parquet = open_parquet(uri, file)
        names = parquet.schema_arrow.names
        return names, partial(_parquet_batches, uri, parquet, [name for name in names if name in COLUMNS])
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    columns, raw_rows = _csv_format(uri, text) if suffix == ".csv" else _jsonl_format(uri, text)
    return columns, lambda reader: _batches(reader.row(where, values) for where, values in raw_rows)


def _csv_format(uri: str, text: io.TextIOWrapper) -> tuple[list[str], Iterator[RawRow]]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    reader = csv.reader(text, strict=True)

    def lines() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise ManifestError(f"{public_uri(uri)}: line {reader.line_num}: no valid CSV ({error})") from error

    found = lines()
    columns = next(found, [])

    def rows() -> Iterator[RawRow]:
        for values in found:
            if not values:
                continue  # an empty line
            if len(values) != len(columns):
                where = f"{public_uri(uri)}: line {reader.line_num}"
                raise ManifestError(f"{where}: {len(values)} values, expected {len(columns)} as in the first line")
            yield f"line {reader.line_num}", dict(zip(columns, values, strict=True))

    return columns, rows()


def _jsonl_format(uri: str, text: io.TextIOWrapper) -> tuple[list[str], Iterator[RawRow]]:
    """The columns are those of the first line; a later line may have fewer or more."""

    def rows() -> Iterator[RawRow]:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ManifestError(f"{public_uri(uri)}: line {number}: no valid JSON ({error})") from error
            if not isinstance(values, dict):
                raise ManifestError(f'{public_uri(uri)}: line {number}: expected an object such as {{"uri": ...}}')
            yield f"line {number}", values

    found = rows()
    first = next(found, None)
    return (["uri"], found) if first is None else (list(first[1]), chain([first], found))


def _batches(rows: Iterable[ManifestRow]) -> Iterator[list[ManifestRow]]:
    batch: list[ManifestRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.image or b"")
        if len(batch) == _ROWS_A_BATCH or size >= _BYTES_A_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _may_hold_pictures(parquet: pq.ParquetFile, column: str) -> bool:
    """A column of bytes with more in it than nulls: no more is read of a column chunk than its metadata says."""
    kind = parquet.schema_arrow.field(column).type
    if pa.types.is_struct(kind):
        return True
    if kind not in (pa.binary(), pa.large_binary(), pa.binary_view()):
        return False
    place = [parquet.metadata.schema.column(i).path for i in range(parquet.metadata.num_columns)].index(column)
    groups = range(parquet.num_row_groups)
    return any(parquet.metadata.row_group(i).column(place).total_compressed_size > _BYTES_OF_NULLS for i in groups)


def _write_parquet(rows: Iterable[ManifestRow], file: IO[bytes], uri: str) -> int:  # noqa: ARG001
    count = 0
    with pq.ParquetWriter(file, MANIFEST_SCHEMA, compression="zstd") as writer:
        for batch in _batches(rows):
            columns = [pa.array([getattr(row, f.name) for row in batch], f.type) for f in MANIFEST_SCHEMA]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=MANIFEST_SCHEMA))
            count += len(batch)
    return count


def _write_csv(rows: Iterable[ManifestRow], file: IO[bytes], uri: str) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\r\n")  # so that a name with either character is quoted
    writer.writerow(_TEXT_COLUMNS)
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007
        writer.writerow(_text_values(row, uri))
    text.detach()
    return count


def _write_jsonl(rows: Iterable[ManifestRow], file: IO[bytes], uri: str) -> int:
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007
        values = zip(_TEXT_COLUMNS, _text_values(row, uri), strict=True)
        known = {column: value for column, value in values if value is not None}
        file.write(json.dumps(known, ensure_ascii=False).encode() + b"\n")
    return count


def _text_values(row: ManifestRow, uri: str) -> list[Any]:
    if row.image is not None:
        raise ManifestError(f"{public_uri(uri)}: only Parquet holds pictures themselves; name it .parquet")
    return [getattr(row, column) for column in _TEXT_COLUMNS]
