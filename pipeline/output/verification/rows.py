"""One label row against the manifest row it was made from and the vocabulary it was made with.

Everything that a mask and its evidence decide is computed again from them and must be equal to the last bit.
"""

import math
from itertools import zip_longest
from typing import get_args

import numpy as np
import pyarrow as pa

from pipeline.output.verification.findings import shown
from pipeline.picture.decide import decide, mask_dtype
from pipeline.picture.evidence import decode_evidence
from pipeline.picture.mask_file import read_mask
from schemas.errors import ErrorKind, ErrorStage, OutputError
from schemas.labels import FAILED, LABELLED, LabelRow
from schemas.manifest import ManifestRow, public_uri
from schemas.vocabulary import Vocabulary

STAGES = get_args(ErrorStage)
KINDS = get_args(ErrorKind)

_OF_LABELLED = ("mask", "classes", "confidence_mean", "margin_mean", "entropy_mean", "ignored_fraction", "evidence")
_OF_FAILED = ("error_stage", "error_kind", "error_message")
_OF_DECISION = ("classes", "confidence_mean", "margin_mean", "ignored_fraction")
_ENTROPY_SLACK = 1e-3  # sums of 32-bit logarithms
_BAND_PIXELS = 2**20  # counted at a time, so that a large mask needs no large tables beside it
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GRAY = 0

# What decoding evidence raises whose checksum is right and whose contents are not.
_UNDECODABLE = (OutputError, pa.ArrowException, OSError, ValueError, LookupError, OverflowError)


class RowFault(Exception):
    """What of a row does not hold, and what should."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected


def check_names(label: LabelRow, row: ManifestRow, vocabulary_name: str) -> None:
    """Is it the row of this picture?

    Raises:
        RowFault: another name, place or vocabulary.
    """
    for column, expected in (("image_id", row.image_id), ("uri", public_uri(row.uri)), ("vocabulary", vocabulary_name)):
        found = getattr(label, column)
        if found != expected:
            raise RowFault(f"{column} {shown(found)}", f"{shown(expected)}, as in the manifest")


def check_status(label: LabelRow, max_pixels: int) -> None:
    """Are exactly those columns filled that the status asks for, and the values of a failure known ones?

    Raises:
        RowFault: a column too many or too few, an unknown stage or kind, or an impossible size.
    """
    if label.status not in (LABELLED, FAILED):
        raise RowFault(f"status {shown(label.status)}", f"{LABELLED} or {FAILED}")
    # All of a mask may be ignored: then there is nothing to take a mean over.
    filled, empty = (_OF_LABELLED, _OF_FAILED) if label.status == LABELLED else (_OF_FAILED, _OF_LABELLED)
    optional = ("confidence_mean", "margin_mean")
    for column in filled:
        if getattr(label, column) is None and column not in optional:
            raise RowFault(f"no {column}", f"one in a {label.status} row")
    for column in empty:
        if getattr(label, column) is not None:
            raise RowFault(f"a value in {column}", f"none in a {label.status} row")
    if any(each is None or None in each.values() for each in label.classes or ()):
        raise RowFault("an entry of classes without a value", "all of its values")
    _check_size(label, max_pixels)
    if label.status == FAILED:
        _check_failure(label)


def _check_size(label: LabelRow, max_pixels: int) -> None:
    if label.status == FAILED and label.width is None and label.height is None:
        return
    width, height = label.width or 0, label.height or 0
    if width < 1 or height < 1 or width * height > max_pixels:
        raise RowFault(
            f"width {label.width} and height {label.height}", f"sides of 1 or more, with at most {max_pixels:,} pixels"
        )


def _check_failure(label: LabelRow) -> None:
    if label.error_stage not in STAGES:
        raise RowFault(f"error_stage {shown(label.error_stage)}", f"one of {', '.join(STAGES)}")
    if label.error_kind not in KINDS:
        raise RowFault(f"error_kind {shown(label.error_kind)}", f"one of {', '.join(KINDS)}")
    if len((label.error_message or "").splitlines()) != 1:
        raise RowFault(f"error_message {shown(label.error_message)}", "one line of text")


def check_labels(label: LabelRow, vocabulary: Vocabulary) -> None:
    """Do mask, numbers and evidence of a labelled row, whose `check_status` passed, fit each other?

    Raises:
        RowFault: a mask that does not decode, has another size, depth or ids; numbers or evidence that are not its own.
    """
    mask = _mask(label, vocabulary)
    _check_counts(label, mask, vocabulary)
    highest = math.log(len(vocabulary.entries)) + _ENTROPY_SLACK
    if not 0 <= (label.entropy_mean or 0.0) <= highest:
        raise RowFault(f"entropy_mean {label.entropy_mean}", f"0 to {highest:.3f}, the logarithm of what competes")
    try:
        decision = decide(decode_evidence(label.evidence or b"", mask, vocabulary), vocabulary)
    except _UNDECODABLE as error:
        reason = str(error).split("; ")[0] if isinstance(error, OutputError) else "bytes that cannot be unpacked"
        raise RowFault(f"evidence that does not decode ({reason})", "that of its mask and vocabulary") from error
    if not np.array_equal(decision.mask, mask):
        n_pixels = int((decision.mask != mask).sum())
        raise RowFault(f"a mask with {n_pixels:,} pixels that its evidence decides otherwise", "none")
    for column in _OF_DECISION:
        if getattr(label, column) != getattr(decision, column):
            _refuse_number(column, getattr(label, column), getattr(decision, column))


def _mask(label: LabelRow, vocabulary: Vocabulary) -> np.ndarray:
    """(H, W), of the type that the vocabulary asks for."""
    data = label.mask or b""
    expected = f"a gray PNG of {label.width} x {label.height}, {8 * np.dtype(mask_dtype(vocabulary)).itemsize} bit"
    if not data.startswith(_PNG_SIGNATURE):
        raise RowFault("a mask that is no PNG", expected)
    try:
        mask = read_mask(data, (label.height or 0, label.width or 0))
    except ValueError as error:
        raise RowFault(f"a mask that does not decode: {str(error).split('; ')[0]}", expected) from error
    n_bits, colour_type = data[24:26]  # of the header, whose checksum is right by now
    if colour_type != _PNG_GRAY or n_bits != 8 * np.dtype(mask_dtype(vocabulary)).itemsize:
        raise RowFault(f"a mask of PNG colour type {colour_type}, {n_bits} bit", expected)
    return mask


def _check_counts(label: LabelRow, mask: np.ndarray, vocabulary: Vocabulary) -> None:
    """Ids, names and pixels of the classes, counted without the code that decided them."""
    pixels = _pixels_by_value(mask)
    ignored = pixels.pop(vocabulary.ignore_id, 0)
    names = {each.id: each.name for each in vocabulary.classes}
    unknown = [value for value in pixels if value not in names]
    if unknown:
        raise RowFault(f"the values {shown(unknown)} in the mask", f"ids of vocabulary {vocabulary.name!r} and ignore")
    counted = [(value, names[value], n, n / mask.size) for value, n in pixels.items()]
    said = [tuple(each[key] for key in ("class_id", "name", "pixels", "fraction")) for each in label.classes or ()]
    for found, expected in zip_longest(said, counted):
        if found != expected:
            raise RowFault(f"class {shown(found)} (id, name, pixels, fraction)", f"{shown(expected)}, as in the mask")
    if label.ignored_fraction != ignored / mask.size:
        raise RowFault(f"ignored_fraction {label.ignored_fraction}", f"{ignored / mask.size}, as in the mask")


def _pixels_by_value(mask: np.ndarray) -> dict[int, int]:
    counts = np.zeros(np.iinfo(mask.dtype).max + 1, np.int64)
    step = max(1, _BAND_PIXELS // mask.shape[1])
    for top in range(0, mask.shape[0], step):
        counts += np.bincount(mask[top : top + step].ravel(), minlength=counts.size)
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}


def _refuse_number(column: str, found: object, expected: object) -> None:
    if column == "classes" and isinstance(found, list) and isinstance(expected, list):
        for one, other in zip(found, expected, strict=False):
            for key in other:
                if one.get(key) != other[key]:
                    raise RowFault(f"{key} {shown(one.get(key))} of class {other['name']!r}", f"{shown(other[key])}")
    raise RowFault(f"{column} {shown(found)}", f"{shown(expected)}, as its evidence has it")
