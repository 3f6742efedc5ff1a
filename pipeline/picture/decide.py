"""From what the model says to labels: thresholds, ignore, distractors, and the numbers of every class.

Nothing here knows the model. A fresh run and `relabel` both decide from the same quantised values, so the
same thresholds give the same labels whenever they are applied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from schemas.vocabulary import IGNORE_ID_8_BIT, Distractor, Vocabulary

CELL = 4  # pixels a side of the cells on which confidence and margin are kept
N_LEVELS = 256  # of the 8-bit confidence and margin; level 255 is 1.0

_BAND_PIXELS = 2**20  # worked on at a time, so that a large picture needs no large tables beside its mask


class Undecided(Protocol):
    """What is decided from: `escnet.scoring.Segmentation`, or the same read back from evidence.

    winner: (H, W) int32 entry codes. confidence, margin: (ceil(H/4), ceil(W/4)) uint8, level 255 is 1.0.
    """

    @property
    def winner(self) -> np.ndarray: ...
    @property
    def confidence(self) -> np.ndarray: ...
    @property
    def margin(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Decision:
    """The labels of one picture.

    Args:
        mask: (H, W) uint8, or uint16 if the vocabulary needs it: class ids and the vocabulary's `ignore_id`.
        classes: one dict of `schemas.labels.CLASS_STATS` a class in the mask, by id, without ignore.
        confidence_mean: in [0, 1], over the pixels that are not ignored; None if all are.
        margin_mean: likewise.
        ignored_fraction: in [0, 1].
    """

    mask: np.ndarray
    classes: list[dict[str, Any]]
    confidence_mean: float | None
    margin_mean: float | None
    ignored_fraction: float


def decide(undecided: Undecided, vocabulary: Vocabulary) -> Decision:
    """Apply the vocabulary's thresholds.

    A pixel keeps its winner's class c if its cell's confidence is at least `min_confidence` of c and the
    margin at least `min_margin` of c, else it is ignored. A distractor counts as the class it becomes, whose
    thresholds then hold, or is ignored. Then labels are rolled up to the vocabulary's level; the pixels of a parent
    keep the confidence with which a child won them.
    """
    mask, is_present = _decided_mask(undecided, vocabulary)
    counts = _histograms(mask, is_present, undecided)
    counts.pop(vocabulary.ignore_id, None)
    names = {each.id: each.name for each in vocabulary.classes}
    labelled = sum(counts.values(), start=np.zeros((2, N_LEVELS), np.int64))
    n_labelled = int(labelled[0].sum())
    return Decision(
        mask=mask,
        classes=[_class_stats(class_id, names[class_id], found, mask.size) for class_id, found in counts.items()],
        confidence_mean=_mean(labelled[0]) if n_labelled else None,
        margin_mean=_mean(labelled[1]) if n_labelled else None,
        ignored_fraction=(mask.size - n_labelled) / mask.size,
    )


def mask_dtype(vocabulary: Vocabulary) -> type[np.uint8] | type[np.uint16]:
    """8 bit unless the ids or the ignore id of the vocabulary need 16."""
    return np.uint8 if vocabulary.ignore_id <= IGNORE_ID_8_BIT else np.uint16


def sorted_distractors(vocabulary: Vocabulary) -> list[Distractor]:
    """The distractors in the order of their codes: the k-th has code -1 - k."""
    return sorted(vocabulary.distractors, key=lambda distractor: tuple(sorted(distractor.prompts)))


def _decided_mask(undecided: Undecided, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The mask, and by id, up to the ignore id, whether the mask holds it."""
    target, min_confidence, min_margin = _threshold_tables(vocabulary)
    first_code = -len(vocabulary.distractors)
    mask = np.empty(undecided.winner.shape, mask_dtype(vocabulary))
    is_present = np.zeros(vocabulary.ignore_id + 1, bool)
    for rows, confidence, margin in _bands(undecided):
        entry = undecided.winner[rows] - first_code
        kept = (confidence >= min_confidence[entry]) & (margin >= min_margin[entry])
        mask[rows] = np.where(kept, target[entry], vocabulary.ignore_id)
        is_present[mask[rows]] = True
    return mask, is_present


def _threshold_tables(vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By code, beginning with the lowest: the id a winner becomes, and the levels its cell must reach."""
    n_distractors = len(vocabulary.distractors)
    n_codes = n_distractors + 1 + max(each.id for each in vocabulary.classes)
    target = np.full(n_codes, vocabulary.ignore_id, mask_dtype(vocabulary))
    min_confidence, min_margin = np.zeros(n_codes, np.uint8), np.zeros(n_codes, np.uint8)
    for each in vocabulary.classes:
        target[n_distractors + each.id] = vocabulary.labels[each.id]
        min_confidence[n_distractors + each.id] = lowest_level(each.min_confidence)
        min_margin[n_distractors + each.id] = lowest_level(each.min_margin)
    for k, distractor in enumerate(sorted_distractors(vocabulary)):
        if distractor.becomes is not None:
            for table in (target, min_confidence, min_margin):
                table[n_distractors - 1 - k] = table[n_distractors + distractor.becomes]
    return target, min_confidence, min_margin


def lowest_level(fraction: float) -> int:
    """The lowest level that is at least `fraction`."""
    return int(np.searchsorted(np.arange(N_LEVELS) / (N_LEVELS - 1), fraction, side="left"))


def _bands(undecided: Undecided) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of pixels with the confidence and margin of their cells, each (rows, W) uint8."""
    height, width = undecided.winner.shape
    n_cells = max(1, _BAND_PIXELS // (CELL * width))
    for top in range(0, undecided.confidence.shape[0], n_cells):
        rows = slice(CELL * top, min(CELL * (top + n_cells), height))
        shape = (rows.stop - rows.start, width)
        cells = slice(top, top + n_cells)
        yield rows, _to_pixels(undecided.confidence[cells], shape), _to_pixels(undecided.margin[cells], shape)


def _to_pixels(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cells.repeat(CELL, axis=1)[:, : shape[1]].repeat(CELL, axis=0)[: shape[0]]


def _histograms(mask: np.ndarray, is_present: np.ndarray, undecided: Undecided) -> dict[int, np.ndarray]:
    """By id in the mask, ascending: (2, 256) int64 counts of its pixels by confidence and by margin level."""
    present = np.flatnonzero(is_present)
    first_bin = np.zeros(is_present.size, np.int32)
    first_bin[present] = np.arange(len(present)) * N_LEVELS
    counts = np.zeros((2, len(present) * N_LEVELS), np.int64)
    for rows, confidence, margin in _bands(undecided):
        first = first_bin[mask[rows]]
        counts[0] += np.bincount((first + confidence).ravel(), minlength=counts.shape[1])
        counts[1] += np.bincount((first + margin).ravel(), minlength=counts.shape[1])
    by_id = counts.reshape(2, len(present), N_LEVELS).swapaxes(0, 1)
    return dict(zip(present.tolist(), by_id, strict=True))


def _class_stats(class_id: int, name: str, counts: np.ndarray, n_pixels: int) -> dict[str, Any]:
    confidence, margin = counts
    pixels = int(confidence.sum())
    return {
        "class_id": class_id,
        "name": name,
        "pixels": pixels,
        "fraction": pixels / n_pixels,
        "confidence_mean": _mean(confidence),
        "confidence_p10": _percentile(confidence, 10),
        "confidence_p50": _percentile(confidence, 50),
        "confidence_p90": _percentile(confidence, 90),
        "margin_mean": _mean(margin),
    }


def _mean(counts: np.ndarray) -> float:
    """Mean in [0, 1] of a histogram of levels. Whole numbers up to one division, so no order of adding shows."""
    return int(counts @ np.arange(N_LEVELS)) / (int(counts.sum()) * (N_LEVELS - 1))


def _percentile(counts: np.ndarray, percent: int) -> float:
    """The lowest level, in [0, 1], that at least `percent` of the pixels do not exceed (nearest rank)."""
    rank = -(-int(counts.sum()) * percent // 100)
    return int(np.searchsorted(np.cumsum(counts), rank, side="left")) / (N_LEVELS - 1)
