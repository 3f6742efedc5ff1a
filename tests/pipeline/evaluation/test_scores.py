"""Scores against values worked out by hand."""

import pickle

import numpy as np
import pytest

from pipeline.evaluation.scores import NO_CLASS, CalibrationBin, ClassScore, PixelCounts

IDS = (7, 0, 300, 5)
TRUTH = np.array([[7, 7, 0, 0], [300, 300, NO_CLASS, NO_CLASS]], np.uint16)
PREDICTION = np.array([[7, 0, 0, NO_CLASS], [300, 7, 300, 7]], np.uint16)


def counted(prediction=PREDICTION, truth=TRUTH, **more) -> PixelCounts:
    counts = PixelCounts(IDS)
    counts.update(prediction, truth, **more)
    return counts


def test_scores_are_those_of_the_definition():
    scores = counted().scores()
    assert scores.classes == (
        ClassScore(7, 1 / 3, 1 / 2, pixels=2, predicted=2),
        ClassScore(0, 1 / 3, 1 / 2, pixels=2, predicted=2),
        ClassScore(300, 1 / 2, 1 / 2, pixels=2, predicted=1),
        ClassScore(5, None, None, pixels=0, predicted=0),
    )
    assert scores.miou == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert (scores.mean_accuracy, scores.pixel_accuracy, scores.ignored_fraction) == (0.5, 0.5, 1 / 6)
    assert scores.frequency_weighted_iou == pytest.approx(7 / 18)
    assert (scores.n_pixels, scores.ece) == (6, None)


def test_means_over_some_classes_leave_out_those_that_do_not_occur():
    scores = counted().scores()
    assert scores.mean_iou({7, 300, 5}) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores.mean_iou({5}) is None


def test_a_class_that_does_not_occur_lowers_no_mean_but_takes_its_pixels_from_others():
    counts = PixelCounts((0, 1))
    counts.update(np.array([0, 0, 1, 1], np.uint16), np.zeros(4, np.uint16))
    scores = counts.scores()
    assert (scores.miou, scores.classes[1]) == (0.5, ClassScore(1, None, None, pixels=0, predicted=2))


def test_a_prediction_that_is_no_class_is_wrong():
    counts = counted(prediction=np.full_like(TRUTH, 9999))
    assert (counts.scores().miou, counts.scores().ignored_fraction) == (0.0, 1.0)


def test_a_missing_picture_is_wrong_everywhere_and_says_nothing_of_calibration():
    counts = counted(prediction=TRUTH, confidence=np.full(TRUTH.shape, 255, np.uint8))
    counts.update_missing(TRUTH)
    scores = counts.scores()
    assert (scores.miou, scores.pixel_accuracy, scores.ignored_fraction, scores.ece) == (0.5, 0.5, 0.5, 0.0)


def test_calibration_bins_hold_their_upper_edge():
    truth = np.zeros(8, np.uint16)
    prediction = np.array([0, 7, 0, 7, 7, 0, 0, 7], np.uint16)
    levels = np.array([0, 17, 18, 34, 35, 255, 255, 255], np.uint8)
    scores = counted(prediction, truth, confidence=levels).scores()
    filled = [each for each in scores.calibration if each.pixels]
    assert filled == [
        CalibrationBin(0, 1 / 15, 2, 17 / 255 / 2, 0.5),
        CalibrationBin(1 / 15, 2 / 15, 2, 52 / 255 / 2, 0.5),
        CalibrationBin(2 / 15, 3 / 15, 1, 35 / 255, 0.0),
        CalibrationBin(14 / 15, 1.0, 3, 1.0, 2 / 3),
    ]
    assert scores.ece == pytest.approx(sum(e.pixels * abs(e.accuracy - e.confidence) for e in filled) / 8)
    assert len(scores.calibration) == 15


def test_calibration_judges_the_winner_and_the_rest_the_decision():
    ignored = np.full_like(TRUTH, NO_CLASS)
    scores = counted(ignored, winner=TRUTH, confidence=np.full(TRUTH.shape, 51, np.uint8)).scores()
    assert (scores.pixel_accuracy, scores.ece) == (0.0, pytest.approx(0.8))


def test_counts_of_parts_and_of_other_processes_add_up():
    levels = np.arange(8, dtype=np.uint8).reshape(TRUTH.shape) * 30
    whole = counted(confidence=levels)
    parts = PixelCounts(IDS)
    for row in range(2):
        part = counted(PREDICTION[row], TRUTH[row], confidence=levels[row])
        parts += pickle.loads(pickle.dumps(part))
    assert parts.scores() == whole.scores()
    with pytest.raises(ValueError, match="different classes"):
        parts += PixelCounts((1, 2))


def test_memory_does_not_grow_with_the_square_of_the_classes():
    ids = tuple(range(65535))
    counts = PixelCounts(ids)
    counts.update(np.array([65534, 3], np.uint16), np.array([65534, 4], np.uint16))
    assert counts.scores().miou == 0.5


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"no class: \[8, 9\]"):
        counted(truth=np.array([[7, 9, 8, 0], [0, 0, 0, 0]], np.uint16))
    with pytest.raises(ValueError, match="expected that of the truth"):
        counted(prediction=PREDICTION.T)
    with pytest.raises(ValueError, match="no pixel of ground truth"):
        counted(truth=np.full_like(TRUTH, NO_CLASS)).scores()
