"""A label row's mask as an array, with a threshold laid over it afterwards."""

import numpy as np

from pipeline.output.labelled import LabelledOutput
from pipeline.picture.decide import CELL, lowest_levels
from pipeline.picture.evidence import decode_evidence
from pipeline.picture.mask_file import read_mask
from schemas.errors import OutputError
from schemas.labels import LabelRow

MASK_COLUMNS = ("width", "height", "mask")
MASK_AND_EVIDENCE_COLUMNS = (*MASK_COLUMNS, "evidence")


def mask_columns(min_confidence: float) -> tuple[str, ...]:
    """The columns that `mask_of` needs; evidence only for a threshold."""
    return MASK_AND_EVIDENCE_COLUMNS if min_confidence > 0 else MASK_COLUMNS


def mask_of(row: LabelRow, labels: LabelledOutput, min_confidence: float = 0.0) -> np.ndarray:
    """(H, W) class ids and the vocabulary's `ignore_id`: uint8, or uint16 in labels of 16 bits.

    Args:
        row: labelled, with `mask_columns`.
        min_confidence: pixels whose cell is less sure become ignored. A person's mask stays as it is.

    Raises:
        OutputError: a mask or evidence that cannot be used.
    """
    try:
        mask = read_mask(row.mask or b"", (row.height or 0, row.width or 0))
    except ValueError as error:
        raise OutputError(f"{labels.name}: labels of {row.image_id!r} cannot be used; its mask: {error}") from error
    if min_confidence <= 0 or row.evidence is None:
        return mask
    try:
        undecided = decode_evidence(row.evidence, mask, labels.vocabulary)
    except OutputError as error:
        raise OutputError(f"{labels.name}: labels of {row.image_id!r} cannot be used; {error}") from error
    is_unsure = undecided.confidence < int(lowest_levels(min_confidence))
    height, width = mask.shape
    kept = mask.copy()
    kept[is_unsure.repeat(CELL, 0).repeat(CELL, 1)[:height, :width]] = labels.vocabulary.ignore_id
    return kept
