"""Label files: one Parquet file a shard, and a footer from which its numbers are read without its rows.

Functions that read raise what storage raised (`pipeline.storage.STORAGE_ERRORS`), and OutputError for a file
that is damaged or no label file.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from pipeline.output.verification.reading import is_parquets_own
from pipeline.storage import StorageOptions, open_file, read_bytes
from schemas.errors import EscnetError, OutputError
from schemas.fingerprint import canonical_json
from schemas.labels import CLASS_STATS, FOOTER_KEY, LABEL_SCHEMA, LABELLED, SCHEMA_VERSION, LabelRow, ShardTotals
from schemas.manifest import public_uri

_PICTURES = ("mask", "evidence")  # compressed already, and too large for statistics
_PLAIN_COLUMNS = [
    *(field.name for field in LABEL_SCHEMA if field.name not in (*_PICTURES, "classes")),
    *(f"classes.list.element.{field.name}" for field in CLASS_STATS),
]
_COLUMNS_OF_FEW_VALUES = ["vocabulary", "status", "error_stage", "error_kind", "classes.list.element.name"]
_ROWS_A_WRITE = 16  # a page may end after so many rows; a mask can have megabytes
_TAIL_BYTES = 2**17  # holds the footer of a shard with some 800 classes, so that one read is enough
_BUFFER_BYTES = 2**20  # of a column, read at a time where only some rows are wanted
_PARQUET_END_BYTES = 8  # the length of the footer, and "PAR1"
_TOTALS = TypeAdapter(ShardTotals)

# What Arrow raises for bytes that are not as they should be: not only its own errors.
DAMAGED = (
    pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def label_file_bytes(rows: list[LabelRow], identity: dict[str, Any]) -> bytes:
    """The whole label file of a shard; equal rows and identity give equal bytes.

    Args:
        rows: one for each row of the shard's manifest, in its order.
        identity: what the footer says beside schema version and totals: `shard_id`, `vocabulary` and what else
            names the job.
    """
    footer = {**identity, "schema_version": SCHEMA_VERSION, "totals": asdict(totals_of(rows))}
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in LABEL_SCHEMA]
    buffer = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        buffer,
        LABEL_SCHEMA,
        compression=dict.fromkeys(_PLAIN_COLUMNS, "zstd"),
        use_dictionary=_COLUMNS_OF_FEW_VALUES,
        write_statistics=_PLAIN_COLUMNS,
        write_batch_size=_ROWS_A_WRITE,
        write_page_checksum=True,
        store_schema=False,  # Arrow's own copy, twice as long as Parquet's, which says it all for these types
    )
    with writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=LABEL_SCHEMA))
        writer.add_key_value_metadata({FOOTER_KEY: canonical_json(footer)})
    return buffer.getvalue().to_pybytes()


def totals_of(rows: Iterable[LabelRow]) -> ShardTotals:
    """What the rows add up to. `pixels` are those of labelled pictures."""
    totals = ShardTotals()
    failed: Counter[str] = Counter()
    for row in rows:
        totals.rows += 1
        if row.status != LABELLED:
            failed[f"{row.error_stage}/{row.error_kind}"] += 1
            continue
        n_pixels = (row.width or 0) * (row.height or 0)
        totals.labelled += 1
        totals.pixels += n_pixels
        totals.ignored_pixels += n_pixels - sum(stats["pixels"] for stats in row.classes or ())
        for stats in row.classes or ():
            _add_class(totals, stats["class_id"], stats["name"], stats["pixels"], 1)
    totals.failed = dict(failed)
    return totals


def merge_totals(parts: Iterable[ShardTotals]) -> ShardTotals:
    """The totals of several shards together."""
    totals = ShardTotals()
    failed: Counter[str] = Counter()
    for part in parts:
        totals.rows += part.rows
        totals.labelled += part.labelled
        totals.pixels += part.pixels
        totals.ignored_pixels += part.ignored_pixels
        failed.update(part.failed)
        for class_id, found in part.classes.items():
            _add_class(totals, class_id, found["name"], found["pixels"], found["pictures"])
    totals.failed = dict(failed)
    return totals


def _add_class(totals: ShardTotals, class_id: int, name: str, pixels: int, pictures: int) -> None:
    sums = totals.classes.setdefault(class_id, {"name": name, "pixels": 0, "pictures": 0})
    sums["pixels"] += pixels
    sums["pictures"] += pictures


class LabelFileError(OutputError):
    """A file that is damaged or no label file; `found` says what it is instead."""

    def __init__(self, uri: str, found: str) -> None:
        self.uri, self.found = uri, found
        expected = f"expected a label file of schema version {SCHEMA_VERSION}"
        super().__init__(
            f"{public_uri(uri)}: found {found}, {expected}; remove the file and run `escnet annotate` again"
        )

    def __reduce__(self) -> tuple:
        return LabelFileError, (self.uri, self.found)


def read_footer(uri: str, options: StorageOptions) -> dict[str, Any]:
    """The identity, `schema_version` and `totals` (as JSON has them) of a label file, without reading its rows."""
    return footer_of(read_metadata(uri, options), uri)


def read_totals(uri: str, options: StorageOptions) -> ShardTotals:
    """The totals in the footer of a label file."""
    return footer_totals(read_footer(uri, options), uri)


def read_metadata(uri: str, options: StorageOptions) -> pq.FileMetaData:
    """What Parquet itself says at the end of a label file, read without its rows."""
    return metadata_of(_read_end(uri, options), uri)


def metadata_of(data: bytes, uri: str) -> pq.FileMetaData:
    """The same from the bytes of the file, or of its end."""
    try:
        return pq.read_metadata(pa.BufferReader(data))
    except DAMAGED as error:
        raise LabelFileError(uri, "no readable Parquet footer") from error


def footer_of(metadata: pq.FileMetaData, uri: str) -> dict[str, Any]:
    """The footer that `read_footer` gives, from the metadata of the file named `uri`."""
    try:
        text = (metadata.metadata or {}).get(FOOTER_KEY)
        footer = None if text is None else json.loads(text)
    except DAMAGED as error:
        raise LabelFileError(uri, f"a footer whose {FOOTER_KEY.decode()} is no JSON") from error
    if footer is None:
        raise LabelFileError(uri, f"a Parquet file without {FOOTER_KEY.decode()} in its footer")
    if not isinstance(footer, dict) or not isinstance(footer.get("totals"), dict):
        raise LabelFileError(uri, f"a footer whose {FOOTER_KEY.decode()} has no totals")
    if footer.get("schema_version") != SCHEMA_VERSION:
        raise LabelFileError(uri, f"schema version {footer.get('schema_version')}")
    return footer


def footer_totals(footer: dict[str, Any], uri: str) -> ShardTotals:
    """The totals in a footer of the file named `uri`."""
    try:
        totals = _TOTALS.validate_python(footer["totals"])
    except ValidationError as error:
        raise LabelFileError(uri, "a footer whose totals are none") from error
    kinds = {"name": str, "pixels": int, "pictures": int}
    if any({key: type(value) for key, value in sums.items()} != kinds for sums in totals.classes.values()):
        raise LabelFileError(uri, "a footer whose totals are none")
    return totals


def read_rows(uri: str, options: StorageOptions, columns: Sequence[str] | None = None) -> list[LabelRow]:
    """All rows of a label file, with the checksums of its pages verified.

    Args:
        columns: names of `LabelRow`'s fields to read beside those that name the picture; all if left out. Fields that
            are not read are None.
    """
    if columns is None:
        return rows_of(read_bytes(uri, options), uri)
    asked = [field.name for field in LABEL_SCHEMA if not field.nullable or field.name in columns]
    return [LabelRow(**row) for row in read_columns(uri, options, asked).to_pylist()]


@contextmanager
def open_parquet(uri: str, options: StorageOptions, damaged: EscnetError) -> Iterator[pq.ParquetFile]:
    """A Parquet file of which parts are read; page checksums are verified.

    Raises:
        EscnetError: `damaged`, for bytes that are not as they should be. What storage raises passes.
    """
    with open_file(uri, options, block_size=_TAIL_BYTES) as file:
        try:
            yield pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        except DAMAGED as error:
            if not is_parquets_own(error):
                raise
            raise damaged from error


def rows_of(data: bytes, uri: str) -> list[LabelRow]:
    """The same from the bytes of the file named `uri`."""
    try:
        # One thread: whoever reads many files has threads or processes of their own.
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
        if not table.schema.equals(LABEL_SCHEMA):
            raise LabelFileError(uri, f"columns {', '.join(table.column_names)}")
        return [LabelRow(**row) for row in table.to_pylist()]
    except DAMAGED as error:
        raise LabelFileError(uri, "Parquet that cannot be read") from error


def read_columns(uri: str, options: StorageOptions, columns: Sequence[str]) -> pa.Table:
    """Some columns of a label file, and no bytes of the others but for what lies between them."""
    with _open_labels(uri, options) as parquet:
        return parquet.read(columns=list(columns), use_threads=False)


def read_some_rows(uri: str, options: StorageOptions, positions: Collection[int]) -> Iterator[tuple[int, LabelRow]]:
    """The rows at some positions of a label file, ascending, holding few others in memory meanwhile."""
    last, start = max(positions, default=-1), 0
    with _open_labels(uri, options) as parquet:
        for batch in parquet.iter_batches(batch_size=_ROWS_A_WRITE, use_threads=False):
            for k in range(batch.num_rows):
                if start + k in positions:
                    yield start + k, LabelRow(**batch.slice(k, 1).to_pylist()[0])
            start += batch.num_rows
            if start > last:
                return


@contextmanager
def _open_labels(uri: str, options: StorageOptions) -> Iterator[pq.ParquetFile]:
    """A label file opened for a part of it; what Arrow raises of its bytes becomes a LabelFileError."""
    with open_parquet(uri, options, LabelFileError(uri, "Parquet that cannot be read")) as parquet:
        if not parquet.schema_arrow.equals(LABEL_SCHEMA):
            raise LabelFileError(uri, f"columns {', '.join(parquet.schema_arrow.names)}")
        yield parquet


def _read_end(uri: str, options: StorageOptions) -> bytes:
    """The end of a file, far enough back to hold the footer of a Parquet file."""
    with open_file(uri, options, block_size=_TAIL_BYTES) as file:
        size, n_bytes = file.seek(0, 2), _TAIL_BYTES
        while True:
            file.seek(max(0, size - n_bytes))
            end = file.read()
            needed = int.from_bytes(end[-_PARQUET_END_BYTES:-4], "little") + _PARQUET_END_BYTES
            if needed <= n_bytes or n_bytes >= size:
                return end
            n_bytes = needed
