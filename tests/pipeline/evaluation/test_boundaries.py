"""The boundary F-score: by hand, and against distances worked out by scipy."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from pipeline.evaluation.boundaries import BoundaryCounts, _edges, _grown
from pipeline.evaluation.scores import NO_CLASS


def scores(prediction, truth, ids=(0, 1, 2)):
    counts = BoundaryCounts(ids)
    counts.update(prediction, truth)
    return counts.scores()


def square(left: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((60, 80), np.uint16)
    mask[20 : 20 + size, left : left + size] = 1
    return mask


def test_an_outline_off_by_one_is_right_and_one_far_away_is_not():
    assert scores(square(30), square(30)) == {0: 1.0, 1: 1.0}
    assert scores(square(31), square(30))[1] == 1.0  # 0.75 % of a diagonal of 100 pixels is one pixel
    moved = scores(square(34), square(30))[1]
    # Top and bottom are near in 16 + 1 pixels of 20; of the side, the two pixels next to its corners.
    assert moved == pytest.approx((2 * 17 + 2) / 76)
    assert scores(np.zeros((60, 80), np.uint16), square(30)) == {0: 0.0, 1: 0.0}
    assert scores(None, square(30)) == {0: 0.0, 1: 0.0}


def test_a_class_that_fills_everything_has_no_outline_to_miss():
    ones = np.ones((8, 8), np.uint16)
    assert scores(ones, ones) == {1: 1.0}
    assert scores(ones * 2, ones) == {1: 0.0}


def test_there_is_no_outline_beside_pixels_without_ground_truth():
    truth = square(30)
    truth[18:42, 28:30] = truth[18:42, 50:52] = truth[18:20, 28:52] = truth[40:42, 28:52] = NO_CLASS
    assert not _edges(truth, truth != NO_CLASS).any()
    assert scores(square(30), truth)[1] == 1.0


@pytest.mark.parametrize("radius", [1, 2, 5, 9])
def test_growing_is_all_that_is_within_the_radius(radius):
    rng = np.random.default_rng(radius)
    mask = rng.random((7 * radius, 50)) < 0.01
    mask[3, 4] = True
    assert (_grown(mask, radius) == (distance_transform_edt(~mask) <= radius)).all()


def test_scores_of_many_classes_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, 3, (12, 16)).repeat(20, 0).repeat(20, 1).astype(np.uint16) for _ in range(2))
    radius = 3  # 0.75 % of 400
    expected = {}
    for k in range(3):
        true, predicted = (_edges(m, np.ones_like(m, bool)) & (m == k) for m in (truth, prediction))
        precision = (distance_transform_edt(~true)[predicted] <= radius).mean()
        recall = (distance_transform_edt(~predicted)[true] <= radius).mean()
        expected[k] = 2 * precision * recall / (precision + recall)
    assert scores(prediction, truth) == pytest.approx(expected)
