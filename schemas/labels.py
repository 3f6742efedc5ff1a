"""A label file: one row a picture, one file a shard, and a footer that says what is in it."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
FOOTER_KEY = b"escnet.shard"

LABELLED = "labelled"
FAILED = "failed"

CLASS_STATS = pa.struct(
    [
        ("class_id", pa.int32()),
        ("name", pa.string()),
        ("pixels", pa.int64()),
        ("fraction", pa.float64()),
        ("confidence_mean", pa.float64()),
        ("confidence_p10", pa.float64()),
        ("confidence_p50", pa.float64()),
        ("confidence_p90", pa.float64()),
        ("margin_mean", pa.float64()),
    ]
)

LABEL_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("vocabulary", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("error_stage", pa.string()),
        ("error_kind", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mask", pa.binary()),
        ("classes", pa.list_(CLASS_STATS)),
        ("confidence_mean", pa.float64()),
        ("margin_mean", pa.float64()),
        ("entropy_mean", pa.float64()),
        ("ignored_fraction", pa.float64()),
        ("evidence", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of a label file. In a failed row `mask`, `classes`, the statistics and `evidence` are None."""

    image_id: str
    uri: str
    vocabulary: str
    status: str
    error_stage: str | None = None
    error_kind: str | None = None
    error_message: str | None = None
    width: int | None = None
    height: int | None = None
    mask: bytes | None = None
    classes: list[dict[str, Any]] | None = None
    confidence_mean: float | None = None
    margin_mean: float | None = None
    entropy_mean: float | None = None
    ignored_fraction: float | None = None
    evidence: bytes | None = None


@dataclass
class ShardTotals:
    """What a shard holds, as its footer says; totals of shards add up to those of the dataset.

    `failed` counts rows by "stage/kind". `classes` maps a class id to its name, pixels and pictures.
    """

    rows: int = 0
    labelled: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    pixels: int = 0
    ignored_pixels: int = 0
    classes: dict[int, dict[str, Any]] = field(default_factory=dict)
