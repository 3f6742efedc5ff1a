"""Whatever does not fit in a row is found, also in a file that a labelling run might have written."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.output.verification.rows import RowFault, check_labels, check_status
from pipeline.picture.encode import encode_mask
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary
from tests.pipeline.output.verification.whole import ANSWERS, MANY, REDO, WORDS, faults, label_file, rewrite

MAX_PIXELS = 1000


def row(image_id: str, words: Vocabulary = WORDS) -> LabelRow:
    return ANSWERS[words.name][image_id].row(ManifestRow(image_id, image_id), words)


LABELLED, FAILED, EMPTY, WIDE = row("a.jpg"), row("d.jpg"), row("ü/c.jpg"), row("f.jpg", MANY)
MASK = np.where(np.arange(54).reshape(6, 9) % 5 == 0, 1, 0).astype(np.uint8)


def with_class(k: int = 0, **changes) -> LabelRow:
    classes = [dict(each) for each in LABELLED.classes]
    classes[k].update(changes)
    return replace(LABELLED, classes=classes)


def fault(label: LabelRow, words: Vocabulary = WORDS) -> str | None:
    try:
        check_status(label, MAX_PIXELS)
        if label.status == "labelled":
            check_labels(label, words)
    except RowFault as found:
        return f"found {found.found}, expected {found.expected}"
    return None


@pytest.mark.parametrize(("label", "words"), [(LABELLED, WORDS), (FAILED, WORDS), (EMPTY, WORDS), (WIDE, MANY)])
def test_a_row_as_it_was_made_has_no_fault(label, words):
    assert fault(label, words) is None


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (replace(LABELLED, status="done"), "found status 'done', expected labelled or failed"),
        (replace(LABELLED, error_kind="killed"), "found a value in error_kind, expected none in a labelled row"),
        (replace(LABELLED, mask=None), "found no mask, expected one in a labelled row"),
        (replace(LABELLED, evidence=None), "found no evidence, expected one in a labelled row"),
        (replace(LABELLED, width=None), "found width None and height 6, expected sides of 1 or more"),
        (replace(LABELLED, width=500), "found width 500 and height 6, expected sides of 1 or more"),
        (replace(LABELLED, width=10), "found a mask that does not decode: the mask is 9 x 6"),
        (replace(FAILED, mask=b"x"), "found a value in mask, expected none in a failed row"),
        (replace(FAILED, classes=[]), "found a value in classes, expected none in a failed row"),
        (replace(FAILED, entropy_mean=0.0), "found a value in entropy_mean, expected none in a failed row"),
        (replace(FAILED, error_stage="write"), "found error_stage 'write', expected one of fetch, decode"),
        (replace(FAILED, error_kind="odd"), "found error_kind 'odd', expected one of not_found, forbidden"),
        (replace(FAILED, error_message=""), "found error_message '', expected one line of text"),
        (replace(FAILED, error_message="a\nb"), r"found error_message 'a\nb', expected one line of text"),
        (replace(FAILED, error_message=None), "found no error_message, expected one in a failed row"),
        (replace(FAILED, width=None), "found width None and height 7, expected sides of 1 or more"),
    ],
)
def test_a_column_that_does_not_fit_the_status_is_found(label, found):
    assert (fault(label) or "").startswith(found)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (b"BM", "found a mask that is no PNG, expected a gray PNG of 9 x 6, 8 bit"),
        (LABELLED.mask[:60], "found a mask that does not decode: the file is damaged"),
        (LABELLED.mask[:45] + b"\0" + LABELLED.mask[46:], "found a mask that does not decode: the file is damaged"),
        (encode_mask(MASK.astype(np.uint16)), "found a mask of PNG colour type 0, 16 bit, expected a gray PNG"),
        (encode_mask(np.dstack([MASK] * 3)), "found a mask that does not decode: found RGB pixels"),
        (encode_mask(MASK[:, :8]), "found a mask that does not decode: the mask is 8 x 6"),
        (encode_mask(np.where(MASK == 1, 7, 0).astype(np.uint8)), "found the values [7] in the mask, expected ids of"),
        (encode_mask(MASK), "found class "),
    ],
    ids=["no PNG", "torn", "damaged", "deep", "colours", "size", "ids", "other"],
)
def test_a_mask_that_is_not_the_pictures_is_found(mask, found):
    assert (fault(replace(LABELLED, mask=mask)) or "").startswith(found)


def test_a_mask_of_too_few_bits_is_found():
    narrow = encode_mask(np.full((6, 9), 3, np.uint8))
    said = "found a mask of PNG colour type 0, 8 bit, expected a gray PNG of 9 x 6, 16 bit"
    assert fault(replace(WIDE, mask=narrow), MANY) == said


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (with_class(name="sea"), "found class (0, 'sea', "),
        (with_class(pixels=1), "found class (0, 'land', 1, "),
        (with_class(fraction=0.5), "found class (0, 'land', "),
        (with_class(confidence_p10=0.25), "found confidence_p10 0.25 of class 'land', expected 0."),
        (with_class(1, margin_mean=1.5), "found margin_mean 1.5 of class 'water', expected 0."),
        (with_class(margin_mean=math.nan), "found margin_mean nan of class 'land'"),
        (with_class(margin_mean=None), "found an entry of classes without a value"),
        (replace(LABELLED, classes=[None]), "found an entry of classes without a value"),
        (replace(LABELLED, classes=LABELLED.classes[::-1]), "found class (1, 'water', "),
        (replace(LABELLED, classes=LABELLED.classes[:1]), "found class None (id, name"),
        (replace(LABELLED, confidence_mean=0.5), "found confidence_mean 0.5, expected 0."),
        (replace(LABELLED, margin_mean=None), "found margin_mean None, expected 0."),
        (replace(LABELLED, ignored_fraction=0.0), "found ignored_fraction 0.0, expected 0."),
        (replace(LABELLED, entropy_mean=-0.1), "found entropy_mean -0.1, expected 0 to 1.1"),
        (replace(LABELLED, entropy_mean=1.2), "found entropy_mean 1.2, expected 0 to 1.1"),
        (replace(LABELLED, entropy_mean=math.nan), "found entropy_mean nan"),
        (replace(EMPTY, confidence_mean=0.5), "found confidence_mean 0.5, expected None"),
        (replace(LABELLED, evidence=b""), "found evidence that does not decode (evidence of a picture: found 0 bytes"),
        (replace(LABELLED, evidence=EMPTY.evidence), "found evidence that does not decode (evidence of a picture"),
    ],
)
def test_a_number_that_is_not_the_masks_or_the_evidences_is_found(label, found):
    assert (fault(label) or "").startswith(found)


def test_evidence_that_decides_otherwise_is_found():
    strict = WORDS.model_copy(
        update={"classes": tuple(each.model_copy(update={"min_confidence": 0.99}) for each in WORDS.classes)}
    )
    assert (fault(LABELLED, strict) or "").startswith("found a mask with ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"image_id": "z.jpg"}, "image_id 'z.jpg', expected 'a.jpg', as in the manifest"),
        ({"uri": "z.jpg"}, "uri 'z.jpg', expected 'photos/a.jpg', as in the manifest"),
        ({"vocabulary": "many"}, "vocabulary 'many', expected 'words', as in the manifest"),
        ({"entropy_mean": 9.0}, "entropy_mean 9.0, expected 0 to 1.100, the logarithm of what competes"),
    ],
)
def test_a_fault_names_file_and_picture(output, change, found):
    path = label_file(output)
    rewrite(path, lambda rows: [replace(rows[0], **change), rows[1]])
    assert faults(output) == [f"labels/{path.name}, picture 'a.jpg': found {found}{REDO}"]
