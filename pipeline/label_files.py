"""Label files: one Parquet file a shard, and a footer from which its numbers are read without its rows.

Functions that read raise what storage raised (`pipeline.storage.STORAGE_ERRORS`), and OutputError for a file
that is damaged or no label file.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage import StorageOptions, open_file, read_bytes
from schemas.errors import OutputError
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
_PARQUET_END_BYTES = 8  # the length of the footer, and "PAR1"


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


def read_footer(uri: str, options: StorageOptions) -> dict[str, Any]:
    """The identity, `schema_version` and `totals` (as JSON has them) of a label file, without reading its rows."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(_read_end(uri, options))).metadata
    except (pa.ArrowException, OSError) as error:
        raise _not_a_label_file(uri, "no readable Parquet footer") from error
    if FOOTER_KEY not in (metadata or {}):
        raise _not_a_label_file(uri, f"a Parquet file without {FOOTER_KEY.decode()} in its footer")
    footer = json.loads(metadata[FOOTER_KEY])
    if footer["schema_version"] != SCHEMA_VERSION:
        raise _not_a_label_file(uri, f"schema version {footer['schema_version']}")
    return footer


def read_totals(uri: str, options: StorageOptions) -> ShardTotals:
    """The totals in the footer of a label file."""
    totals = read_footer(uri, options)["totals"]
    return ShardTotals(**{**totals, "classes": {int(key): sums for key, sums in totals["classes"].items()}})


def read_rows(uri: str, options: StorageOptions) -> list[LabelRow]:
    """All rows of a label file, with the checksums of its pages verified."""
    data = read_bytes(uri, options)
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _not_a_label_file(uri, "Parquet that cannot be read") from error
    if not table.schema.equals(LABEL_SCHEMA):
        raise _not_a_label_file(uri, f"columns {table.column_names}")
    return [LabelRow(**row) for row in table.to_pylist()]


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


def _not_a_label_file(uri: str, found: str) -> OutputError:
    expected = f"expected a label file of schema version {SCHEMA_VERSION}"
    return OutputError(f"{public_uri(uri)}: found {found}, {expected}; remove the file and run `escnet annotate` again")
