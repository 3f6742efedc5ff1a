"""One picture's label row: the mask as PNG, the numbers of its classes, and the evidence behind them."""

import io
import zlib
from typing import Protocol

import numpy as np
from PIL import Image

from pipeline.picture.decide import Decision, decide
from pipeline.picture.evidence import WithRunnerUp, encode_evidence
from schemas.errors import PictureError
from schemas.labels import FAILED, LABELLED, LabelRow
from schemas.manifest import ManifestRow, public_uri
from schemas.vocabulary import Vocabulary


class Segmented(WithRunnerUp, Protocol):
    """A picture before any threshold: `escnet.scoring.Segmentation`, or the same read back from its label row."""

    @property
    def entropy_mean(self) -> float: ...


def encode_picture(row: ManifestRow | LabelRow, vocabulary: Vocabulary, segmentation: Segmented) -> LabelRow:
    """Decide the labels of a segmented picture and make its row."""
    return encode_decided(row, vocabulary, segmentation, decide(segmentation, vocabulary))


def encode_decided(
    row: ManifestRow | LabelRow, vocabulary: Vocabulary, segmentation: Segmented, decision: Decision
) -> LabelRow:
    """The row of a picture whose labels are decided. Width and height are those of the picture as seen."""
    height, width = segmentation.winner.shape
    return LabelRow(
        image_id=row.image_id,
        uri=public_uri(row.uri),
        vocabulary=vocabulary.name,
        status=LABELLED,
        width=width,
        height=height,
        mask=encode_mask(decision.mask),
        classes=decision.classes,
        confidence_mean=decision.confidence_mean,
        margin_mean=decision.margin_mean,
        entropy_mean=segmentation.entropy_mean,
        ignored_fraction=decision.ignored_fraction,
        evidence=encode_evidence(segmentation, decision.mask, vocabulary),
    )


def failed_row(
    row: ManifestRow, vocabulary_name: str, error: PictureError, size_hw: tuple[int, int] | None = None
) -> LabelRow:
    """The row of a picture that could not be labelled. `size_hw` is its size as seen, if that much is known."""
    height, width = size_hw or (None, None)
    return LabelRow(
        image_id=row.image_id,
        uri=public_uri(row.uri),
        vocabulary=vocabulary_name,
        status=FAILED,
        error_stage=error.stage,
        error_kind=error.kind,
        error_message=error.message,
        width=width,
        height=height,
    )


def encode_mask(mask: np.ndarray) -> bytes:
    """An (H, W) uint8 or uint16 mask as an 8- or 16-bit gray PNG whose values are the class ids."""
    png = io.BytesIO()
    # Masks are runs of equal values: run lengths alone make them as small as the best level, and 15 times as fast.
    Image.fromarray(mask).save(png, "PNG", compress_type=zlib.Z_RLE)
    return png.getvalue()
