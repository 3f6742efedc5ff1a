"""Our scores against torchmetrics', which has them from elsewhere, on ground truth of real photographs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_jaccard_index,
)

from pipeline.evaluation import evaluate
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, save_mask, write_output

N_PHOTOS = 8
SHRINK = 4  # fewer pixels, quicker
VOID = 0  # what the masks say where there is no class

TRUTH_IGNORED = 255


def words_of(panoptic: dict) -> Vocabulary:
    """The 133 classes of the masks; the rarer half of them is held out, and one id needs a threshold."""
    classes = [
        {"id": each["id"], "name": each["name"], "heldout": each["id"] > 100, "min_confidence": 0.3}
        for each in panoptic["categories"]
    ]
    return Vocabulary(name="panoptic", classes=classes)


def answer_to(truth: np.ndarray, ids: np.ndarray, seed: int) -> Answer:
    """A model that is half right: the picture shifted, and some of its regions called by other names."""
    random = np.random.default_rng(seed)
    renamed = np.arange(256)
    present = np.setdiff1d(np.unique(truth), [TRUTH_IGNORED])
    some = random.choice(present, len(present) // 3, replace=False)
    renamed[some] = random.choice(ids, len(some))
    renamed[TRUTH_IGNORED] = ids[0]
    levels = random.integers(3, 255, (-(-truth.shape[0] // 4), -(-truth.shape[1] // 4)))
    # From 3 on the winner has more than any other of 133 classes.
    levels[levels % 17 == 0] += 1  # the edges of bins belong to the lower one here, to the upper one there
    return Answer(renamed[np.roll(truth, (3, 5), (0, 1))], levels)


@pytest.fixture(scope="module")
def compared(shared_data, tmp_path_factory):
    """The scores as JSON; and flat, over all pictures: truth, prediction, winner and confidence."""
    folder = tmp_path_factory.mktemp("agreement")
    words = words_of(json.loads((shared_data / "photos" / "panoptic.json").read_text()))
    ids = np.array([each.id for each in words.classes])
    answers, flat = {}, []
    for seed, path in enumerate(sorted((shared_data / "photos" / "masks").glob("*.png"))[:N_PHOTOS]):
        truth = np.asarray(Image.open(path))[::SHRINK, ::SHRINK].copy()
        truth[truth == VOID] = TRUTH_IGNORED
        answer = answer_to(truth, ids, seed)
        level = answer.level.repeat(4, 0).repeat(4, 1)[: truth.shape[0], : truth.shape[1]]
        answers[f"{path.stem}.jpg"] = answer
        flat.append(np.stack([truth, answer.winner, level]).reshape(3, -1))
        save_mask(folder / "masks" / path.name, truth)
    write_output(str(folder / "out"), {"panoptic": answers}, [words], shard_size=3)
    truth, winner, level = np.concatenate(flat, axis=1)
    return words, evaluate(str(folder / "out"), str(folder / "masks")).as_json(), truth, winner, level / 255


@pytest.fixture(scope="module")
def tensors(compared):
    """Positions in the vocabulary: truth (-1 is ignored), prediction (one more is no class), winner, confidence."""
    words, _, truth, winner, confidence = compared
    position = np.full(256, -1)
    position[[each.id for each in words.classes]] = np.arange(len(words.classes))
    prediction = np.where(confidence >= 0.3, position[winner], len(words.classes))
    return tuple(map(torch.from_numpy, (position[truth], prediction, position[winner], confidence)))


def test_iou_and_accuracy_of_every_class_agree_with_torchmetrics(compared, tensors):
    words, found, *_ = compared
    truth, prediction, *_ = tensors
    n = len(words.classes) + 1
    options = {"num_classes": n, "average": "none", "ignore_index": -1}
    iou = multiclass_jaccard_index(prediction, truth, **options)[:-1]
    accuracy = multiclass_accuracy(prediction, truth, **options)[:-1]
    occurs = torch.bincount(truth[truth >= 0], minlength=n)[:-1] > 0
    assert 20 < int(occurs.sum()) < len(words.classes)
    for each, known_iou, known_accuracy, is_there in zip(found["per_class"], iou, accuracy, occurs, strict=True):
        expected = (float(known_iou), float(known_accuracy)) if is_there else (None, None)
        assert (each["iou"], each["accuracy"]) == pytest.approx(expected, abs=1e-6), each
    heldout = torch.tensor([each.heldout for each in words.classes])
    assert found["miou"] == pytest.approx(float(iou[occurs].mean()), abs=1e-6)
    assert found["miou_seen"] == pytest.approx(float(iou[occurs & ~heldout].mean()), abs=1e-6)
    assert found["miou_heldout"] == pytest.approx(float(iou[occurs & heldout].mean()), abs=1e-6)
    micro = multiclass_accuracy(prediction, truth, num_classes=n, average="micro", ignore_index=-1)
    assert found["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-6)
    assert 0.1 < found["miou"] < 0.9
    assert 0.1 < found["ignored_fraction"] < 0.9


def test_calibration_agrees_with_torchmetrics(compared, tensors):
    words, found, *_ = compared
    truth, _, winner, confidence = (each[tensors[0] >= 0] for each in tensors)
    n = len(words.classes)
    rest = ((1 - confidence) / (n - 1)).float()
    probabilities = rest[:, None].repeat(1, n).scatter_(1, winner[:, None], confidence.float()[:, None])
    known = multiclass_calibration_error(probabilities, truth, num_classes=n, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(float(known), abs=1e-5)
    assert found["ece"] > 0.1
