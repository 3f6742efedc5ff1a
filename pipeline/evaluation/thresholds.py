"""The confidence from which on a class is right often enough: thresholds from labels and their ground truth.

Evidence says of every pixel who won it, and how surely, before any threshold. So for every class and each of the 256
levels of confidence it is counted how many pixels a threshold there would keep, and how many of them are right. A
class's threshold is the lowest level at which its precision, less one standard error, reaches the target. Pixels of a
picture are alike, so the error is that of a ratio of sums over pictures (Cochran 1977, Sampling Techniques, eq. 6.13),
not over pixels. Of a class that won pixels in few pictures too little is known: it gets the threshold of all classes
together if that is higher.

The curve that is shown is measured on pictures the thresholds were not fitted on: each half of the pictures by those
of the other half. The thresholds themselves are fitted on all of them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.scores import NO_CLASS
from schemas.vocabulary import Vocabulary

CURVE_TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99)  # beside none and the one that is asked for

FEW_PICTURES = 3  # with fewer, a class by itself tells too little

_N_LEVELS = 256
_HIGHEST = _N_LEVELS - 1


@dataclass(frozen=True)
class ClassThreshold:
    """What was fitted for one class.

    Args:
        min_confidence: in [0, 1].
        precision: of the pixels that it keeps, on the pictures it was fitted on; None if it keeps none.
        coverage: the share that it keeps of the pixels the class won; None if it won none.
        pictures: in which it won any.
        is_reached: whether some threshold reaches the target.
    """

    id: int
    min_confidence: float
    precision: float | None
    coverage: float | None
    pictures: int
    is_reached: bool


@dataclass(frozen=True)
class CurvePoint:
    """All classes together, on pictures that the thresholds were not fitted on.

    Args:
        target: of each class; None without thresholds.
        precision: right pixels by kept pixels; None if none is kept.
        coverage: kept pixels by pixels with ground truth.
    """

    target: float | None
    precision: float | None
    coverage: float


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of all classes for one target, and what precision costs in coverage."""

    target: float
    classes: tuple[ClassThreshold, ...]
    curve: tuple[CurvePoint, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data; fractions from 0 to 1, None where undefined."""
        curve, classes = ([asdict(each) for each in group] for group in (self.curve, self.classes))
        return {"target": self.target, "curve": curve, "per_class": classes}

    def applied_to(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with these thresholds, and no `min_margin`.

        Where labels are rolled up, a class has the threshold of what it is rolled up to: it is the child's threshold
        that decides a pixel.
        """
        fitted = {each.id: each.min_confidence for each in self.classes}
        classes = tuple(
            each.model_copy(update={"min_confidence": fitted[vocabulary.labels[each.id]], "min_margin": 0.0})
            for each in vocabulary.classes
        )
        return Vocabulary(
            **{name: getattr(vocabulary, name) for name in Vocabulary.model_fields} | {"classes": classes}
        )


class LevelCounts:
    """Pixels of one picture by the class that won them and its confidence.

    `classes` has by class id (2, 256) int64: pixels with ground truth, and the right ones, by level.
    """

    def __init__(self) -> None:
        self.classes: dict[int, np.ndarray] = {}
        self.n_pixels = 0  # with ground truth, also where no class won

    def update(self, winner: np.ndarray, truth: np.ndarray, confidence: np.ndarray) -> None:
        """Add pixels; arrays of one shape: class ids, NO_CLASS for none, and uint8 levels."""
        has_truth = truth != NO_CLASS
        self.n_pixels += int(has_truth.sum())
        is_counted = has_truth & (winner != NO_CLASS)
        ids, index = np.unique(winner[is_counted], return_inverse=True)
        place = index.ravel() * _N_LEVELS + confidence[is_counted]
        is_right = winner[is_counted] == truth[is_counted]
        size = len(ids) * _N_LEVELS
        found = np.stack([np.bincount(place, minlength=size), np.bincount(place[is_right], minlength=size)])
        for class_id, levels in zip(ids.tolist(), found.reshape(2, len(ids), _N_LEVELS).swapaxes(0, 1), strict=True):
            self.classes[class_id] = self.classes.get(class_id, 0) + levels


class PrecisionTally:
    """Adds up pictures: what every threshold of every class would keep, and how that differs from picture to picture.

    Args:
        class_ids: of the vocabulary, in its order. 10 kB of memory each.
    """

    def __init__(self, class_ids: Sequence[int]) -> None:
        self.class_ids = tuple(class_ids)
        self._place = {class_id: k for k, class_id in enumerate(class_ids)}
        shape = (len(class_ids) + 1, _N_LEVELS)  # the last: all classes together
        # Of the pixels at a level or above: kept, right, and over pictures the sums of their squares and product.
        self.kept, self.right, self.kept2, self.right2, self.both = (np.zeros(shape) for _ in range(5))
        self.pictures = np.zeros(len(class_ids) + 1, np.int64)
        self.n_pixels = 0

    def add(self, picture: LevelCounts) -> None:
        """Add the counts of one picture."""
        self.n_pixels += picture.n_pixels
        for class_id, levels in picture.classes.items():
            self._add(self._place[class_id], levels)
        if picture.classes:
            self._add(-1, sum(picture.classes.values(), start=np.zeros((2, _N_LEVELS), np.int64)))

    def _add(self, k: int, levels: np.ndarray) -> None:
        kept, right = np.cumsum(levels[:, ::-1], axis=1)[:, ::-1].astype(np.float64)
        self.kept[k] += kept
        self.right[k] += right
        self.kept2[k] += kept * kept
        self.right2[k] += right * right
        self.both[k] += kept * right
        self.pictures[k] += 1

    def __add__(self, other: "PrecisionTally") -> "PrecisionTally":
        total = PrecisionTally(self.class_ids)
        for name in ("kept", "right", "kept2", "right2", "both", "pictures", "n_pixels"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def lowest_levels(self, target: float) -> tuple[np.ndarray, np.ndarray]:
        """By class the lowest level that reaches the target, the highest of all if none does; and whether one does."""
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = self.right / self.kept
            spread = self.right2 - 2 * precision * self.both + precision**2 * self.kept2
            correction = self.pictures / np.maximum(self.pictures - 1, 1)
            error = np.sqrt(np.maximum(spread, 0) * correction[:, None]) / self.kept
            is_enough = precision - error >= target
        occurs = np.diff(self.kept, axis=1, append=0) < 0  # of levels that keep the same, the highest
        is_enough &= occurs
        is_reached = is_enough.any(axis=1) | (self.pictures == 0)
        levels = np.where(is_reached, is_enough.argmax(axis=1), _HIGHEST)
        keeps_all = np.take_along_axis(self.kept, levels[:, None], axis=1)[:, 0] == self.kept[:, 0]
        levels[is_reached & keeps_all] = 0
        is_rare = self.pictures < FEW_PICTURES
        levels[is_rare] = np.maximum(levels, levels[-1])[is_rare]
        return levels[:-1], is_reached[:-1]

    def at(self, levels: np.ndarray) -> tuple[float, float]:
        """Pixels kept, and right ones among them, with a threshold level for every class."""
        classes = np.arange(len(self.class_ids))
        return float(self.kept[classes, levels].sum()), float(self.right[classes, levels].sum())


def fit_thresholds(halves: tuple[PrecisionTally, PrecisionTally], target: float) -> Thresholds:
    """Thresholds from all pictures, and the curve from each half's thresholds on the other.

    Args:
        target: of every class's precision, in [0, 1].
    """
    targets = [None, *sorted({*CURVE_TARGETS, target})]
    return Thresholds(target, tuple(_class_thresholds(halves[0] + halves[1], target)), tuple(_curve(halves, targets)))


def _class_thresholds(tally: PrecisionTally, target: float) -> Iterator[ClassThreshold]:
    levels, is_reached = tally.lowest_levels(target)
    for k, class_id in enumerate(tally.class_ids):
        level, won = int(levels[k]), tally.kept[k, 0]
        kept, right = tally.kept[k, level], tally.right[k, level]
        yield ClassThreshold(
            id=class_id,
            min_confidence=_fraction(level),
            precision=float(right / kept) if kept else None,
            coverage=float(kept / won) if won else None,
            pictures=int(tally.pictures[k]),
            is_reached=bool(is_reached[k]),
        )


def _curve(halves: tuple[PrecisionTally, PrecisionTally], targets: Iterable[float | None]) -> Iterator[CurvePoint]:
    n_pixels = halves[0].n_pixels + halves[1].n_pixels
    for target in targets:
        kept = right = 0.0
        for fitted, measured in (halves, halves[::-1]):
            none = np.zeros(len(fitted.class_ids), np.int64)
            of_half = measured.at(none if target is None else fitted.lowest_levels(target)[0])
            kept, right = kept + of_half[0], right + of_half[1]
        yield CurvePoint(target, right / kept if kept else None, kept / n_pixels)


def _fraction(level: int) -> float:
    """A short number that keeps the levels from this one on, and none below."""
    return math.floor(level / _HIGHEST * 10_000) / 10_000
