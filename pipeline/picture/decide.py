"""From what the model says to labels: thresholds, ignore, distractors, and the numbers of every class.

Nothing here knows the model. A fresh run and `relabel` both decide from the same quantised values, so the
same thresholds give the same labels whenever they are applied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from schemas.vocabulary import IGNORE_ID_8_BIT, Distractor, Vocabulary

CELL = 4  # pixels a side of the cells on which confidence and margin are kept
N_LEVELS = 256  # of the 8-bit confidence and margin; level 255 is 1.0

_BAND_PIXELS = 2**20  # worked on at a time, so that a large picture needs no large tables beside its mask
_LEAST_EVEN = 0.67  # of the cells, if picking the others out is to be worth it


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
    mask = _decided_mask(undecided, vocabulary)
    labels, counts = _histograms(mask, undecided, vocabulary)
    labelled = counts.sum(0)
    n_labelled = int(labelled[0].sum())
    return Decision(
        mask=mask,
        classes=_class_stats(labels, counts, mask.size, vocabulary),
        confidence_mean=float(_means(labelled[0])) if n_labelled else None,
        margin_mean=float(_means(labelled[1])) if n_labelled else None,
        ignored_fraction=(mask.size - n_labelled) / mask.size,
    )


def mask_dtype(vocabulary: Vocabulary) -> type[np.uint8] | type[np.uint16]:
    """8 bit unless the ids or the ignore id of the vocabulary need 16."""
    return np.uint8 if vocabulary.ignore_id <= IGNORE_ID_8_BIT else np.uint16


def sorted_distractors(vocabulary: Vocabulary) -> list[Distractor]:
    """The distractors in the order of their codes: the k-th has code -1 - k."""
    return sorted(vocabulary.distractors, key=lambda distractor: tuple(sorted(distractor.prompts)))


def _decided_mask(undecided: Undecided, vocabulary: Vocabulary) -> np.ndarray:
    target, *minima = _threshold_tables(vocabulary)
    first_code = -len(vocabulary.distractors)
    mask = np.empty(undecided.winner.shape, target.dtype)
    for rows, *levels in _bands(undecided):
        entry = np.subtract(undecided.winner[rows], first_code, dtype=np.intp)  # `take` converts any other index
        decided = target.take(entry)
        for level, lowest in zip(levels, minima, strict=True):
            if lowest.any():  # mostly there are no thresholds
                decided[level < lowest.take(entry)] = vocabulary.ignore_id
        mask[rows] = decided
    return mask


def _threshold_tables(vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By code, beginning with the lowest: the id a winner becomes, and the levels its cell must reach."""
    n_distractors = len(vocabulary.distractors)
    ids = np.array([each.id for each in vocabulary.classes])
    n_codes = n_distractors + 1 + int(ids.max())
    target = np.full(n_codes, vocabulary.ignore_id, mask_dtype(vocabulary))
    min_confidence, min_margin = np.zeros(n_codes, np.uint8), np.zeros(n_codes, np.uint8)
    target[n_distractors + ids] = [vocabulary.labels[each.id] for each in vocabulary.classes]
    min_confidence[n_distractors + ids] = lowest_levels([each.min_confidence for each in vocabulary.classes])
    min_margin[n_distractors + ids] = lowest_levels([each.min_margin for each in vocabulary.classes])
    for k, distractor in enumerate(sorted_distractors(vocabulary)):
        if distractor.becomes is not None:
            for table in (target, min_confidence, min_margin):
                table[n_distractors - 1 - k] = table[n_distractors + distractor.becomes]
    return target, min_confidence, min_margin


def lowest_levels(fractions: ArrayLike) -> np.ndarray:
    """The lowest level that is at least the fraction, for one fraction or many."""
    return np.searchsorted(np.arange(N_LEVELS) / (N_LEVELS - 1), fractions, side="left")


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


def _histograms(mask: np.ndarray, undecided: Undecided, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The n ids in the mask without ignore, ascending; and (n, 2, 256) counts by confidence and by margin level."""
    labels = np.unique([*vocabulary.labels.values(), vocabulary.ignore_id])  # the ignore id is the largest
    first_bin = np.zeros(vocabulary.ignore_id + 1, np.intp)
    first_bin[labels] = np.arange(len(labels)) * N_LEVELS
    counts = np.zeros((2, len(labels) * N_LEVELS), np.int64)
    for rows, *levels in _bands(undecided):
        for n_each, part, its_levels in _counted(mask[rows], levels):
            first = first_bin.take(part)
            for of_one, level in zip(counts, its_levels, strict=True):
                of_one += n_each * np.bincount((first + level).ravel(), minlength=len(of_one))
    by_label = counts.reshape(2, len(labels), N_LEVELS).swapaxes(0, 1)[:-1]
    is_present = by_label[:, 0].any(axis=1)
    return labels[:-1][is_present], by_label[is_present]


def _counted(mask: np.ndarray, levels: list[np.ndarray]) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
    """How many pixels each of some stands for, their labels and levels: one for its cell if that has one label."""
    is_even = _even_cells(mask)
    if is_even.mean() < _LEAST_EVEN:
        yield 1, mask, levels
        return
    corners = (slice(None, None, CELL), slice(None, None, CELL))
    yield CELL**2, mask[corners][is_even], [level[corners][is_even] for level in levels]
    others = ~_to_pixels(is_even, mask.shape)
    yield 1, mask[others], [level[others] for level in levels]


def _even_cells(mask: np.ndarray) -> np.ndarray:
    """(ceil(H/4), ceil(W/4)) bool: the cell has 16 pixels, all of one label."""
    height, width = (side // CELL for side in mask.shape)
    whole = mask[: CELL * height, : CELL * width]
    first = whole[::CELL, ::CELL].repeat(CELL, axis=1)[:, None]
    is_first = (whole.reshape(height, CELL, CELL * width) == first).all(axis=1)
    is_even = np.zeros((-(-mask.shape[0] // CELL), -(-mask.shape[1] // CELL)), bool)
    is_even[:height, :width] = is_first.view(np.uint32) == 0x01010101  # four of them at once
    return is_even


def _class_stats(labels: np.ndarray, counts: np.ndarray, n_pixels: int, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """From `_histograms`. Whole numbers up to one division a value, so no order of adding shows."""
    names = {each.id: each.name for each in vocabulary.classes}
    pixels = counts[:, 0].sum(axis=1)
    columns = {
        "class_id": labels,
        "name": [names[label] for label in labels.tolist()],
        "pixels": pixels,
        "fraction": pixels / n_pixels,
        "confidence_mean": _means(counts[:, 0]),
        **{f"confidence_p{percent}": _percentiles(counts[:, 0], percent) for percent in (10, 50, 90)},
        "margin_mean": _means(counts[:, 1]),
    }
    values = (column if isinstance(column, list) else column.tolist() for column in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _means(counts: np.ndarray) -> np.ndarray:
    """Means in [0, 1] of histograms of levels, (..., 256) -> (...)."""
    return counts @ np.arange(N_LEVELS) / (counts.sum(axis=-1) * (N_LEVELS - 1))


def _percentiles(counts: np.ndarray, percent: int) -> np.ndarray:
    """The lowest levels, in [0, 1], that at least `percent` of the pixels do not exceed (nearest rank)."""
    ranks = -(-counts.sum(axis=-1) * percent // 100)
    return (counts.cumsum(axis=-1) < ranks[..., None]).sum(axis=-1) / (N_LEVELS - 1)
