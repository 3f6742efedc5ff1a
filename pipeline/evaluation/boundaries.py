"""The boundary F-score: how well outlines fit, where IoU is ruled by the insides of large regions.

Csurka, Larlus and Perronnin 2013, "What is a good evaluation measure for semantic segmentation?" (BMVC). For each class
of a picture, precision is the share of its predicted outline within a distance of the true one, recall the share of the
true outline within that distance of the predicted one, F their harmonic mean; the mean over the pictures that have the
class is the class's score. The distance is 0.75 % of the picture's diagonal, as there.
"""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.scores import NO_CLASS

TOLERANCE = 0.0075  # of the diagonal


class BoundaryCounts:
    """Sums of F by class, and numbers of pictures. A class counts in a picture whose ground truth has it.

    Args:
        class_ids: the ids that count.
    """

    def __init__(self, class_ids: Sequence[int]) -> None:
        self.class_ids = tuple(class_ids)
        self.f_sum = np.zeros(len(self.class_ids))
        self.n_pictures = np.zeros(len(self.class_ids), np.int64)

    def update(self, prediction: np.ndarray | None, truth: np.ndarray) -> None:
        """Add a picture.

        Args:
            prediction: (H, W) class ids, any other value is no class; None for a picture without labels.
            truth: (H, W) class ids and NO_CLASS, beside which there is no outline to find.
        """
        is_counted = truth != NO_CLASS
        radius = max(1, round(TOLERANCE * math.hypot(*truth.shape)))
        true_edges = _edges(truth, is_counted)
        edges = None if prediction is None else _edges(prediction, is_counted)
        present = set(np.unique(truth).tolist())
        for k, class_id in enumerate(self.class_ids):
            if class_id in present:
                self.n_pictures[k] += 1
                if prediction is not None and edges is not None:
                    true = true_edges & (truth == class_id)
                    is_class = (prediction == class_id) & is_counted
                    self.f_sum[k] += _f_score(edges & is_class, true, radius, is_predicted=bool(is_class.any()))

    def __iadd__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        self.f_sum += other.f_sum
        self.n_pictures += other.n_pictures
        return self

    def scores(self) -> dict[int, float]:
        """By class id, in [0, 1]; classes that no picture has are left out."""
        found = zip(self.class_ids, self.f_sum.tolist(), self.n_pictures.tolist(), strict=True)
        return {class_id: total / n for class_id, total, n in found if n}


def _edges(mask: np.ndarray, is_counted: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with another value to the left, right, above or below; both have to count."""
    edges = np.zeros(mask.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (mask[one] != mask[other]) & is_counted[one] & is_counted[other]
        edges[one] |= differ
        edges[other] |= differ
    return edges


def _f_score(predicted: np.ndarray, true: np.ndarray, radius: int, *, is_predicted: bool) -> float:
    """Of one class. A class without an outline fills all that counts, and is right if the prediction does so too."""
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    if not n_predicted or not n_true:
        return float(is_predicted and n_predicted == n_true)
    box = _box(predicted | true, radius)
    predicted, true = predicted[box], true[box]
    precision = int((predicted & _grown(true, radius)).sum()) / n_predicted
    recall = int((true & _grown(predicted, radius)).sum()) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    return slice(top, int(rows[-1]) + margin + 1), slice(left, int(columns[-1]) + margin + 1)


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """All pixels whose centre is within `radius` of the centre of one of the mask's: a row of the disc at a time."""
    height, width = mask.shape
    sums = np.zeros((height, width + 2 * radius + 1), np.int32)
    np.cumsum(mask, axis=1, out=sums[:, radius + 1 : radius + 1 + width], dtype=np.int32)
    sums[:, radius + 1 + width :] = sums[:, radius + width, None]
    grown = np.zeros(mask.shape, bool)
    for down in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        half = math.isqrt(radius * radius - down * down)
        start, end = radius - half, radius + half + 1
        near = sums[:, end : end + width] > sums[:, start : start + width]
        source = slice(max(0, -down), height - max(0, down))
        grown[slice(max(0, down), height - max(0, -down))] |= near[source]
    return grown
