"""An override file: masks that people put in place of a model's, one row a picture.

Readers take, for a picture of a vocabulary, the row with the latest `time`, and of equal times that of the file whose
name comes last.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas.labels import CLASS_STATS, LABELLED, LabelRow

OVERRIDE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("vocabulary", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("mask", pa.binary(), nullable=False),
        pa.field("classes", pa.list_(CLASS_STATS), nullable=False),
        pa.field("ignored_fraction", pa.float64(), nullable=False),
        pa.field("author", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Override:
    """A person's mask of one picture.

    `mask` is a PNG as in a label row. `classes` has its pixels and fractions; a person has no confidence, so these
    fields are None. `source` is where the mask came from, without secrets.
    """

    image_id: str
    vocabulary: str
    width: int
    height: int
    mask: bytes
    classes: list[dict[str, Any]]
    ignored_fraction: float
    author: str
    time: datetime
    source: str


def corrected(row: LabelRow, override: Override) -> LabelRow:
    """The label row with the person's mask: labelled, also if it had failed, and without what the model said."""
    return replace(
        row,
        status=LABELLED,
        error_stage=None,
        error_kind=None,
        error_message=None,
        width=override.width,
        height=override.height,
        mask=override.mask,
        classes=override.classes,
        confidence_mean=None,
        margin_mean=None,
        entropy_mean=None,
        ignored_fraction=override.ignored_fraction,
        evidence=None,
    )
