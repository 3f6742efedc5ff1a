"""Label rows, and masks that every reader reads alike."""

import io

import numpy as np
import pytest
import skimage.io
from PIL import Image

from escnet.scoring import Segmentation
from pipeline.picture.decide import decide
from pipeline.picture.encode import encode_mask, encode_picture, failed_row
from pipeline.picture.evidence import decode_evidence
from schemas.errors import PictureError
from schemas.labels import LABEL_SCHEMA, LabelRow
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary

WORDS = Vocabulary(name="pets", classes=[{"id": 2, "name": "dog", "min_confidence": 0.5}, {"id": 7, "name": "cat"}])
SIGNED = ManifestRow("a/1.jpg", "https://example.org/a/1.jpg?X-Amz-Signature=c0ffee&X-Amz-Date=today")


def segmentation() -> Segmentation:
    """5 x 6 pixels: dogs above, cats below; the model is unsure of the left half."""
    return Segmentation(
        size_hw=(5, 6),
        winner=np.array([[2] * 6] * 3 + [[7] * 6] * 2, np.int32),
        runner_up=np.array([[7, 7], [2, 2]], np.int32),
        confidence=np.array([[100, 200], [100, 200]], np.uint8),
        margin=np.array([[50, 150], [50, 150]], np.uint8),
        entropy_mean=0.25,
    )


def test_row_of_a_picture():
    row = encode_picture(SIGNED, WORDS, segmentation())
    decision = decide(segmentation(), WORDS)
    assert row == LabelRow(
        image_id="a/1.jpg",
        uri="https://example.org/a/1.jpg",
        vocabulary="pets",
        status="labelled",
        width=6,
        height=5,
        mask=encode_mask(decision.mask),
        classes=decision.classes,
        confidence_mean=decision.confidence_mean,
        margin_mean=decision.margin_mean,
        entropy_mean=0.25,
        ignored_fraction=12 / 30,
        evidence=row.evidence,
    )
    mask = np.asarray(Image.open(io.BytesIO(row.mask)))
    np.testing.assert_array_equal(mask, [[255] * 4 + [2] * 2] * 3 + [[7] * 6] * 2)
    restored = decode_evidence(row.evidence, mask, WORDS)
    np.testing.assert_array_equal(restored.winner, segmentation().winner)
    assert [field.name for field in LABEL_SCHEMA] == list(LabelRow.__dataclass_fields__)


def test_row_of_a_failure_has_no_labels_and_no_secrets():
    error = PictureError("decode", "truncated", "JPEG file, truncated")
    known = {"image_id": "a/1.jpg", "uri": "https://example.org/a/1.jpg", "vocabulary": "pets", "status": "failed"}
    why = {"error_stage": "decode", "error_kind": "truncated", "error_message": "JPEG file, truncated"}
    assert failed_row(SIGNED, "pets", error) == LabelRow(**known, **why)
    assert failed_row(SIGNED, "pets", error, size_hw=(5, 6)) == LabelRow(**known, **why, width=6, height=5)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.uint16, "I;16")])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (49, 50), (480, 640)])
def test_masks_come_back_from_any_reader(dtype: type, mode: str, shape: tuple[int, int]):
    mask = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    mask[:, shape[1] // 2 :] = np.iinfo(dtype).max
    png = encode_mask(mask)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(skimage.io.imread(io.BytesIO(png)), mask)
    assert encode_mask(mask.copy()) == png
