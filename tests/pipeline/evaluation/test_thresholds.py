"""Thresholds for a precision: by hand on made-up pictures, and on scenes that they were not fitted on."""

import numpy as np
import pytest

from escnet.models import load_model, resolve_model
from escnet.scoring import per_pixel
from escnet.segmenter import Segmenter
from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import MATERIALS, draw_names, world_vocabulary
from pipeline.evaluation import evaluate
from pipeline.evaluation.scores import NO_CLASS
from pipeline.evaluation.summary import evaluation_lines
from pipeline.evaluation.thresholds import LevelCounts, PrecisionTally, fit_thresholds
from pipeline.picture.decide import decide
from pipeline.relabel import RelabelRequest, relabel
from pipeline.vocabularies import load_vocabulary, write_vocabulary
from schemas.vocabulary import Vocabulary, VocabularyClass
from schemas.vocabulary_files import parse_vocabulary, vocabulary_yaml
from tests.pipeline.labelled_output import STORAGE, Answer, save_mask, write_output

WORDS = Vocabulary(
    name="words",
    classes=({"id": 3, "name": "sea"}, {"id": 8, "name": "sand", "min_margin": 0.5}, {"id": 9, "name": "ship"}),
)


def picture(pixels: dict[tuple[int, int, int], int]) -> LevelCounts:
    """By winner, truth and level, how many pixels."""
    values = np.repeat(np.array(list(pixels), np.uint16), list(pixels.values()), axis=0)
    counts = LevelCounts()
    counts.update(values[:, 0], values[:, 1], values[:, 2].astype(np.uint8))
    return counts


def tally(*pictures: LevelCounts) -> PrecisionTally:
    total = PrecisionTally([3, 8, 9])
    for each in pictures:
        total.add(each)
    return total


def test_counts_are_by_winner_and_level_of_pixels_with_ground_truth():
    found = picture({(3, 3, 200): 5, (3, 8, 200): 2, (3, NO_CLASS, 200): 7, (NO_CLASS, 3, 90): 4, (8, 8, 10): 1})
    assert found.n_pixels == 12
    assert {i: (levels[0].nonzero()[0].tolist(), levels.sum(1).tolist()) for i, levels in found.classes.items()} == {
        3: ([200], [7, 5]), 8: ([10], [1, 1]),
    }  # fmt: skip


def test_the_threshold_is_the_lowest_level_that_is_right_often_enough():
    same = {(3, 3, 250): 90, (3, 8, 100): 2, (3, 3, 100): 18, (3, 8, 40): 30, (8, 8, 60): 5}
    found = fit_thresholds((tally(*[picture(same)] * 2), tally(*[picture(same)] * 2)), 0.95)
    sea, sand, ship = found.classes
    assert (sea.precision, sea.coverage, sea.pictures, sea.is_reached) == (108 / 110, 110 / 140, 4, True)
    assert 99 / 255 < sea.min_confidence <= 100 / 255
    assert (sand.min_confidence, sand.precision, sand.coverage) == (0.0, 1.0, 1.0)
    assert (ship.precision, ship.coverage, ship.pictures) == (None, None, 0)
    assert 59 / 255 < ship.min_confidence <= 60 / 255  # nothing is known of it: the level of all classes together
    none, *_ = found.curve
    assert (none.target, none.precision, none.coverage) == (None, 113 / 145, 1.0)
    asked = next(point for point in found.curve if point.target == 0.95)
    assert (asked.precision, asked.coverage) == (113 / 115, 115 / 145)


def test_pictures_that_differ_ask_for_more_than_the_mean_of_their_pixels():
    good, bad = {(3, 3, 250): 100, (3, 3, 100): 100}, {(3, 3, 250): 100, (3, 8, 100): 20}
    pictures = [picture(good)] * 7 + [picture(bad)]
    found = fit_thresholds((tally(*pictures[:4]), tally(*pictures[4:])), 0.98).classes[0]
    assert 1500 / 1520 > 0.98  # the mean alone would let level 100 pass
    assert (found.min_confidence > 100 / 255, found.precision) == (True, 1.0)


@pytest.mark.parametrize(("lower", "coverage"), [(1, 0.9), (0, 1.0)])  # also where all its pixels are at the highest
def test_a_class_that_is_never_right_enough_has_the_highest_threshold(lower, coverage):
    found = fit_thresholds((tally(picture({(3, 8, 255): 9, (3, 3, 9): lower})), tally()), 0.9).classes[0]
    assert (found.is_reached, found.min_confidence, found.coverage, found.precision) == (False, 1.0, coverage, 0.0)


def test_what_a_class_keeps_that_no_threshold_makes_right_enough_is_said(tmp_path):
    """Sea is half wrong where the model is surest, sand where it never is."""
    answers = {
        f"{k}.jpg": Answer(np.array([[3] * 16 + [8] * 4], np.int32), np.array([[255, 255, 255, 40, 50]]))
        for k in range(4)
    }
    write_output(str(tmp_path / "out"), {"words": answers}, [WORDS])
    for k in range(4):
        save_mask(tmp_path / "masks" / f"{k}.png", np.array([[3] * 6 + [9] * 14], np.uint8))
    lines = evaluation_lines(evaluate(str(tmp_path / "out"), str(tmp_path / "masks"), target_precision=0.9))
    said = "sea keeps 75.0% of its pixels, at precision 0.500; sand keeps nothing"
    assert f"No threshold reaches it for 2 classes. With the highest there is, {said}." in lines


def test_the_vocabulary_written_has_the_thresholds_and_nothing_else_is_changed():
    half = tally(*[picture({(3, 3, 250): 90, (3, 8, 40): 90, (8, 8, 60): 5})] * 4)
    found = fit_thresholds((half, half), 0.95)
    again = parse_vocabulary(vocabulary_yaml(found.applied_to(WORDS)), "again.yaml")
    limits = [each.min_confidence for each in found.classes]
    assert [(c.id, c.min_confidence, c.min_margin) for c in again.classes] == [
        (3, limits[0], 0), (8, 0, 0), (9, limits[2], 0),
    ]  # fmt: skip
    assert [c.model_copy(update={"min_confidence": 0, "min_margin": 0}) for c in again.classes] == [
        c.model_copy(update={"min_margin": 0}) for c in WORDS.classes
    ]


def test_an_evaluation_fits_from_evidence_and_says_what_it_costs(tmp_path):
    half_right = np.array([[3] * 4 + [3] * 4], np.int32)
    answers = {f"{k}.jpg": Answer(half_right, np.array([[250, 40]])) for k in range(4)}
    write_output(str(tmp_path / "out"), {"words": answers}, [WORDS])
    for k in range(4):
        save_mask(tmp_path / "masks" / f"{k}.png", np.array([[3] * 4 + [8] * 4], np.uint8))
    found = evaluate(str(tmp_path / "out"), str(tmp_path / "masks"), target_precision=0.9)
    assert found.as_json()["thresholds"]["per_class"][0]["precision"] == 1.0
    lines = "\n".join(evaluation_lines(found))
    assert "  no thresholds      0.500    100.0%" in lines
    assert "  0.9                1.000     50.0%  <- asked for" in lines


ANIMALS = Vocabulary(
    name="animals",
    level="parent",
    classes=(
        {"id": 0, "name": "cat", "parent": "animal"}, {"id": 1, "name": "dog", "parent": "animal"},
        {"id": 2, "name": "car"}, {"id": 3, "name": "animal", "prompts": []},
    ),
)  # fmt: skip


def test_thresholds_of_rolled_up_labels_are_written_to_the_children_that_they_are_decided_by(tmp_path):
    """Of three cells of animals two are right, as parents though not as children; all together need no limit."""
    truth = np.array([[0] * 4 + [1] * 4 + [2] * 52] * 4, np.uint8)  # cat, dog, car
    winner = np.array([[1] * 4 + [0] * 4 + [0] * 4 + [2] * 48] * 4, np.int32)  # dog, cat, cat, car
    answers = {f"{k}.jpg": Answer(winner, np.array([[250, 240, 90] + [80] * 12])) for k in range(4)}
    write_output(str(tmp_path / "out"), {"animals": answers}, [ANIMALS])
    for k in range(4):
        save_mask(tmp_path / "masks" / f"{k}.png", truth)
    found = evaluate(str(tmp_path / "out"), str(tmp_path / "masks"), target_precision=0.9)
    by_id = {each.id: each for each in found.thresholds.classes}
    assert (by_id[3].precision, by_id[3].coverage) == (1.0, 8 / 12)
    assert 239 / 255 < by_id[3].min_confidence <= 240 / 255
    write_vocabulary(
        found.thresholds.applied_to(found.vocabulary), str(tmp_path / "fitted.yaml"), STORAGE, replace=False
    )
    fitted = load_vocabulary(str(tmp_path / "fitted.yaml"), STORAGE)
    limits = {each.name: each.min_confidence for each in fitted.classes}
    assert limits == {**dict.fromkeys(("cat", "dog", "animal"), by_id[3].min_confidence), "car": 0.0}
    relabel(RelabelRequest(str(tmp_path / "out"), str(tmp_path / "again"), (str(tmp_path / "fitted.yaml"),), workers=1))
    again = evaluate(str(tmp_path / "again"), str(tmp_path / "masks"))
    assert (found.scores.pixel_accuracy, found.scores.ignored_fraction) == (56 / 60, 0.0)
    assert (again.scores.pixel_accuracy, again.scores.ignored_fraction) == (56 / 60, 4 / 60)


N_FITTED, N_HELD_OUT = 10, 8
MISSING = ("water", "snow", "gravel", "tiles")  # the vocabulary has no word for them: who wins their pixels is wrong


@pytest.fixture(scope="module")
def scenes():
    """Scenes as labelled, with truth, and the vocabulary that they were labelled with."""
    objects = draw_names(5, 6)
    whole = world_vocabulary(objects, name="world")
    other = VocabularyClass(id=900, name="other ground", prompts=())
    known = [each for each in whole.classes if each.name not in MISSING]
    known[0] = known[0].model_copy(update={"parent": "other ground"})
    words = Vocabulary(name="world", classes=(*known, other), ignore_id=65535)
    segmenter = Segmenter(load_model(resolve_model("escnet-nano")), views="single")
    compiled = segmenter.compile(words)
    truth_of = np.arange(65536, dtype=np.uint16)
    truth_of[[MATERIALS.index(name) for name in MISSING]] = 900
    drawn = [world_scene(objects, 5, number) for number in range(N_FITTED + N_HELD_OUT)]
    return words, [(segmenter(scene.picture, compiled), truth_of[scene.mask]) for scene in drawn]


def test_the_precision_is_met_on_scenes_it_was_not_fitted_on(scenes):
    words, labelled = scenes
    ids = [each.id for each in words.classes]
    halves = PrecisionTally(ids), PrecisionTally(ids)
    for k, (found, truth) in enumerate(labelled[:N_FITTED]):
        counts = LevelCounts()
        counts.update(found.winner.astype(np.uint16), truth, per_pixel(found).confidence)
        halves[k % 2].add(counts)
    before, after = (
        precision_and_coverage(labelled[N_FITTED:], vocabulary)
        for vocabulary in (words, fit_thresholds(halves, 0.95).applied_to(words))
    )
    assert before[0] < 0.85
    assert after[0] >= 0.93
    assert after[1] > 0.4


def precision_and_coverage(labelled, vocabulary):
    kept = right = pixels = 0
    for found, truth in labelled:
        mask = decide(found, vocabulary).mask
        kept += int((mask != vocabulary.ignore_id).sum())
        right += int((mask == truth).sum())
        pixels += truth.size
    return right / kept, kept / pixels
