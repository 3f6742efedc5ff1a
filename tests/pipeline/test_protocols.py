"""The benchmarks: which words they are measured with, and what becomes of background."""

import numpy as np
import pytest

from pipeline.evaluation import evaluate
from pipeline.protocols import PROTOCOLS, vocabulary_differences
from pipeline.vocabularies import bundled_names, load_vocabulary
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, save_mask, write_output


def test_every_protocol_accepts_its_vocabulary_and_refuses_another():
    assert {each.vocabulary for each in PROTOCOLS.values()} == {*bundled_names()} - {"coco-stuff-171"}
    for protocol in PROTOCOLS.values():
        words = load_vocabulary(protocol.vocabulary)
        assert vocabulary_differences(words, words) == []
        marked = words.model_copy(
            update={"classes": tuple(c.model_copy(update={"heldout": True}) for c in words.classes)}
        )
        assert vocabulary_differences(marked, words) == []
        assert int(protocol.name.rstrip("b").split("-")[1]) == len(words.classes) - (protocol.name == "PAS-20b")


VOC = load_vocabulary("pascal-voc-20")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "mine"}, ["it is 'mine', expected 'pascal-voc-20'"]),
        ({"templates": ("a {}",)}, ["templates are ['a {}'], expected ['A photo of a {} in the scene']"]),
        ({"ignore_id": 65535}, ["ignore_id is 65535, expected 255"]),
        ({"distractors": ({"prompts": ["sky"]},)}, ["1 distractors that are not the 0 expected"]),
        ({"classes": VOC.classes[1:]}, ["classes differ: 0 none (expected 'aeroplane')"]),
        (
            {"classes": [c.model_copy(update={"min_margin": 0.5}) for c in VOC.classes]},
            ["prompts or thresholds of classes differ: 0, 1, 2 and 17 more"],
        ),
    ],
)
def test_what_differs_from_a_protocols_vocabulary_is_said(changes, said):
    plain = {name: getattr(VOC, name) for name in ("name", "templates", "classes", "ignore_id", "distractors")}
    assert vocabulary_differences(Vocabulary(**{**plain, **changes}), VOC) == said


def test_background_is_left_out_of_pas_20_and_a_class_of_pas_20b(tmp_path):
    save_mask(tmp_path / "masks" / "a.png", np.array([[0, 0, 0, 1, 20, 20, 20, 255]], np.uint8))
    with_background = load_vocabulary("pascal-voc-20b")
    wall = next(each.code for each in with_background.entries if each.prompts == ("wall",))
    answers = {
        "PAS-20": (VOC, np.array([[0, 0, 1, 1, 1, 0, 0, 0]])),
        "PAS-20b": (with_background, np.array([[0, 0, 1, 1, 1, wall, wall, wall]])),
    }
    found = {}
    for name, (words, winner) in answers.items():
        write_output(str(tmp_path / name), {words.name: {"a.jpg": Answer(winner)}}, [words])
        scores = evaluate(str(tmp_path / name), str(tmp_path / "masks"), protocol=name).scores
        found[name] = (scores.n_pixels, {each.id: each.iou for each in scores.classes if each.iou is not None})
    assert found == {"PAS-20": (4, {0: 2 / 3, 1: 1 / 2}), "PAS-20b": (7, {0: 2 / 3, 1: 1 / 3, 20: 2 / 3})}
