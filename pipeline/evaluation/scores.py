"""Scores of label masks against ground truth, from counts of pixels that add up: of pictures, shards and workers.

IoU of a class is pixels where both say so by pixels where either does, over all pictures together (PASCAL VOC,
Everingham et al. 2010). Only three counts a class are kept, so memory grows with the number of classes, not with its
square. The calibration error is that of Guo et al. 2017 (arXiv:1706.04599), eq. 3, with pixels for samples. This
module knows numpy alone, so that a training loop can count as `escnet evaluate` does.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from schemas.vocabulary import IGNORE_ID_16_BIT

NO_CLASS = IGNORE_ID_16_BIT  # in ground truth: left out. In a prediction: wrong, whatever the truth is
N_BINS = 15  # of the calibration error, as in the paper

_N_VALUES = 2**16
_N_LEVELS = 256
_LEVELS_A_BIN = (_N_LEVELS - 1) // N_BINS  # 17: the edges of the bins are levels themselves


@dataclass(frozen=True)
class ClassScore:
    """One class. `iou` and `accuracy` (its recall) are in [0, 1], and None where the ground truth lacks the class.

    `pixels` are those of the ground truth, `predicted` those of the prediction where there is ground truth.
    """

    id: int
    iou: float | None
    accuracy: float | None
    pixels: int
    predicted: int


@dataclass(frozen=True)
class CalibrationBin:
    """Pixels with a confidence in (low, high]; `confidence` and `accuracy` are their means, None without any."""

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Scores:
    """What the counts come to; all fractions are in [0, 1].

    Args:
        miou: mean IoU of the classes that occur in the ground truth. Pixels wrongly given to another class lower the
            IoU of the class they belong to, and that of the other one if it occurs.
        mean_accuracy: mean of the same classes' accuracies.
        frequency_weighted_iou: mean of their IoUs, weighted by pixels of ground truth.
        pixel_accuracy: right pixels by pixels with ground truth.
        ignored_fraction: pixels predicted as no class, of the same.
        ece: mean distance of confidence and accuracy over the bins, weighted by pixels; None without any confidence.
        n_pixels: pixels with ground truth.
    """

    miou: float
    mean_accuracy: float
    frequency_weighted_iou: float
    pixel_accuracy: float
    ignored_fraction: float
    ece: float | None
    n_pixels: int
    classes: tuple[ClassScore, ...]
    calibration: tuple[CalibrationBin, ...]

    def mean_iou(self, class_ids: Collection[int]) -> float | None:
        """The mean over some of the classes; None if the ground truth has none of them."""
        found = [each.iou for each in self.classes if each.id in class_ids and each.iou is not None]
        return sum(found) / len(found) if found else None


class PixelCounts:
    """Counts pixels of prediction and ground truth.

    Args:
        class_ids: the ids that count, each from 0 to 65534.
        with_pairs: count which class is taken for which, too: as many numbers as there are such pairs.
    """

    def __init__(self, class_ids: Sequence[int], *, with_pairs: bool = False) -> None:
        n = len(class_ids)
        self.class_ids = tuple(class_ids)
        self.truth = np.zeros(n, np.int64)
        self.predicted = np.zeros(n + 1, np.int64)  # the last: no class
        self.correct = np.zeros(n, np.int64)
        self.by_confidence = np.zeros((2, _N_LEVELS), np.int64)  # all pixels, and right ones, by level
        self.pairs: Counter[int] | None = Counter() if with_pairs else None  # by true * (n + 1) + predicted position
        self._index = _index_by_id(self.class_ids)

    def update(
        self,
        prediction: np.ndarray,
        truth: np.ndarray,
        winner: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
    ) -> None:
        """Add pixels. All arrays have one shape, such as (H, W).

        Args:
            prediction: class ids; NO_CLASS, or any other value that is no class, is wrong.
            truth: class ids and NO_CLASS, which leaves the pixel out.
            winner: what the confidence speaks of, before thresholds; the prediction if left out.
            confidence: uint8 levels, 255 is 1.0. Without it the pixels do not count for the calibration.

        Raises:
            ValueError: another shape, or ground truth with another value.
        """
        others = [each for each in (prediction, winner, confidence) if each is not None]
        if any(each.shape != truth.shape for each in others):
            raise ValueError(
                f"found shapes {[each.shape for each in others]}, expected that of the truth, {truth.shape}"
            )
        is_counted = truth != NO_CLASS
        true = self._index[truth[is_counted]]
        n = len(self.class_ids)
        if true.size and int(true.max()) > n:
            raise ValueError(f"ground truth has ids that are no class: {self.unknown_ids(truth)}")
        predicted = np.minimum(self._index[prediction[is_counted]], n)
        self.truth += np.bincount(true, minlength=n)
        self.predicted += np.bincount(predicted, minlength=n + 1)
        self.correct += np.bincount(true[true == predicted], minlength=n)
        if self.pairs is not None:
            found, pixels = np.unique(true.astype(np.int64) * (n + 1) + predicted, return_counts=True)
            self.pairs.update(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
        if confidence is not None:
            levels = confidence[is_counted]
            is_right = true == (predicted if winner is None else self._index[winner[is_counted]])
            self.by_confidence[0] += np.bincount(levels, minlength=_N_LEVELS)
            self.by_confidence[1] += np.bincount(levels[is_right], minlength=_N_LEVELS)

    def update_missing(self, truth: np.ndarray) -> None:
        """Add pixels of a picture without a prediction: all of them are wrong, none counts for the calibration."""
        self.update(np.full(truth.shape, NO_CLASS, np.uint16), truth)

    def unknown_ids(self, values: np.ndarray) -> list[int]:
        """The values that are neither a class nor NO_CLASS, ascending."""
        is_unknown = self._index > len(self.class_ids)
        is_unknown[NO_CLASS] = False
        found = is_unknown[values]
        return np.unique(values[found]).tolist() if found.any() else []

    def __iadd__(self, other: "PixelCounts") -> "PixelCounts":
        if self.class_ids != other.class_ids:
            raise ValueError("counts of different classes do not add up")
        for name in ("truth", "predicted", "correct", "by_confidence"):
            mine: np.ndarray = getattr(self, name)
            mine += getattr(other, name)
        if self.pairs is not None and other.pairs is not None:
            self.pairs.update(other.pairs)
        return self

    def confusion(self) -> list[tuple[int, int | None, int]]:
        """What was taken for what: true id, predicted id (None is no class) and pixels, most pixels first."""
        ids = (*self.class_ids, None)
        n = len(ids)
        ordered = sorted((self.pairs or {}).items(), key=lambda pair: (-pair[1], pair[0]))
        return [(self.class_ids[pair // n], ids[pair % n], pixels) for pair, pixels in ordered]

    def scores(self) -> Scores:
        """What has been counted so far.

        Raises:
            ValueError: no pixel of ground truth has been counted.
        """
        n_pixels = int(self.truth.sum())
        if n_pixels == 0:
            raise ValueError("no pixel of ground truth has been counted")
        occurs = self.truth > 0
        union = self.truth + self.predicted[:-1] - self.correct
        iou = self.correct[occurs] / union[occurs]
        accuracy = self.correct[occurs] / self.truth[occurs]
        bins = self._bins()
        return Scores(
            miou=float(iou.mean()),
            mean_accuracy=float(accuracy.mean()),
            frequency_weighted_iou=float((iou * self.truth[occurs]).sum() / n_pixels),
            pixel_accuracy=int(self.correct.sum()) / n_pixels,
            ignored_fraction=int(self.predicted[-1]) / n_pixels,
            ece=_calibration_error(bins),
            n_pixels=n_pixels,
            classes=self._class_scores(iou, accuracy),
            calibration=bins,
        )

    def _class_scores(self, iou: np.ndarray, accuracy: np.ndarray) -> tuple[ClassScore, ...]:
        """Of all classes, in the order of the ids given; `iou` and `accuracy` are of those that occur."""
        found = iter(zip(iou.tolist(), accuracy.tolist(), strict=True))
        scores = []
        for class_id, pixels, predicted in zip(
            self.class_ids, self.truth.tolist(), self.predicted.tolist(), strict=False
        ):
            class_iou, class_accuracy = next(found) if pixels else (None, None)
            scores.append(ClassScore(class_id, class_iou, class_accuracy, pixels, predicted))
        return tuple(scores)

    def _bins(self) -> tuple[CalibrationBin, ...]:
        bins = []
        levels = np.arange(_N_LEVELS)
        of_level = np.maximum(levels - 1, 0) // _LEVELS_A_BIN  # (low, high]; level 0 is in the first
        for k in range(N_BINS):
            pixels, right = self.by_confidence[:, of_level == k]
            n = int(pixels.sum())
            confidence = int(pixels @ levels[of_level == k]) / (n * (_N_LEVELS - 1)) if n else None
            accuracy = int(right.sum()) / n if n else None
            bins.append(CalibrationBin(k / N_BINS, (k + 1) / N_BINS, n, confidence, accuracy))
        return tuple(bins)


@lru_cache(maxsize=8)  # a count of each picture is made and thrown away
def _index_by_id(class_ids: tuple[int, ...]) -> np.ndarray:
    """(65536,) int32: position by id, one more than the number of classes where it is none."""
    index = np.full(_N_VALUES, len(class_ids) + 1, np.int32)
    index[list(class_ids)] = np.arange(len(class_ids))
    index.flags.writeable = False
    return index


def _calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    n_pixels = sum(each.pixels for each in bins)
    if n_pixels == 0:
        return None
    gaps = (
        each.pixels * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / n_pixels
