"""Several people correct copies of one export: what one did not touch does not undo what another corrected."""

import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.corrections import Change, MergeReport, merge_corrections
from pipeline.corrections.summary import merge_lines
from pipeline.export import export_labels
from pipeline.output.labelled import open_one_vocabulary
from pipeline.output.masks import mask_of
from pipeline.output.overrides import write_overrides
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import NOON, STORAGE, Answer, Failure, override, write_output

WORDS = Vocabulary(name="words", classes=["land", "water", "sky"])
LAND, WATER, SKY = range(3)
NAMES = ("1.jpg", "2.jpg", "3.jpg")


def mask(class_id: int, first: int | None = None) -> np.ndarray:
    """All of one class, but perhaps for the first pixel."""
    found = np.full((3, 4), class_id, np.uint8)
    found[0, 0] = class_id if first is None else first
    return found


@dataclass
class Shared:
    """An output, and the folder of people's copies of its export."""

    folder: Path

    @property
    def uri(self) -> str:
        return str(self.folder / "out")

    def export(self, person: str, name: str = "png") -> Path:
        export_labels(self.uri, str(self.folder / person), name)
        return self.folder / person

    def correct(self, person: str, picture: str, changed: np.ndarray) -> None:
        path = self.folder / person / "annotations" / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(changed).save(path.with_suffix(".png"))

    def merge(self, person: str, **options) -> MergeReport:
        return merge_corrections(self.uri, str(self.folder / person), author=person, **options)

    def first_pixels(self) -> list[int]:
        labels = open_one_vocabulary(self.uri, STORAGE)
        return [int(mask_of(row, labels)[0, 0]) for row in labels.stream() if row.mask is not None]

    def change(self, picture: str) -> Change:
        """A change in place of the correction that stands."""
        standing = open_one_vocabulary(self.uri, STORAGE).overrides.get("words", picture)
        assert standing is not None
        return Change(picture, standing.author, standing.time)


@pytest.fixture
def shared(tmp_path) -> Shared:
    answers = {name: Answer(mask(LAND).astype(np.int32)) for name in NAMES}
    write_output(str(tmp_path / "out"), {"words": {**answers, "failed.jpg": Failure()}}, [WORDS])
    return Shared(tmp_path)


def test_what_bob_did_not_touch_does_not_undo_what_ada_corrected(shared):
    shutil.copytree(shared.export("ada"), shared.folder / "bob")
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    shared.correct("bob", "2.jpg", mask(LAND, SKY))
    assert shared.merge("ada").stored == (Change("1.jpg", None, None),)
    by_ada = shared.change("1.jpg")
    report = shared.merge("bob")
    assert (report.n_masks, report.stored, report.passed_over) == (3, (Change("2.jpg", None, None),), (by_ada,))
    assert shared.first_pixels() == [WATER, SKY, LAND]
    assert shared.merge("bob").files == ()  # nor when it comes again


@pytest.mark.parametrize("name", ["png", "cvat", "coco-panoptic", "coco-rle"])
def test_an_export_from_before_a_correction_changes_nothing_in_any_format(shared, name):
    shared.export("bob", name)
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    shared.merge("ada")
    report = shared.merge("bob")
    assert (report.stored, report.passed_over, report.files) == ((), (shared.change("1.jpg"),), ())


def test_what_the_threshold_of_an_export_ignored_is_no_correction(tmp_path):
    unsure = Answer(mask(LAND).astype(np.int32), level=100)
    write_output(str(tmp_path / "out"), {"words": dict.fromkeys(NAMES, unsure)}, [WORDS])
    shared = Shared(tmp_path)
    export_labels(shared.uri, str(tmp_path / "bob"), "png", min_confidence=0.5)
    shared.correct("bob", "2.jpg", mask(SKY))
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    shared.merge("ada")
    report = shared.merge("bob", min_confidence=0.5)
    assert (report.stored, report.passed_over) == ((Change("2.jpg", None, None),), (shared.change("1.jpg"),))
    shared.export("eve")
    assert shared.merge("eve", min_confidence=0.5).stored == ()  # nor are masks that it did not touch


def test_an_earlier_correction_does_not_come_back_either_whoever_made_it(shared):
    for k, class_id in enumerate((WATER, SKY, WATER, SKY)):  # the mask that stands was there before as well
        correction = override("1.jpg", mask(LAND, class_id), WORDS, NOON + timedelta(seconds=k))
        write_overrides([replace(correction, author="ada" if k else "bob")], shared.uri, STORAGE)
    shared.correct("bob", "1.jpg", mask(LAND, WATER))
    assert shared.merge("bob").passed_over == (Change("1.jpg", "ada", NOON + timedelta(seconds=3)),)
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    assert shared.merge("ada").passed_over == (Change("1.jpg", "ada", NOON + timedelta(seconds=3)),)
    shared.correct("ada", "1.jpg", mask(LAND, SKY))
    assert (shared.merge("ada").stored, shared.merge("ada").passed_over) == ((), ())


def test_a_hand_labelled_picture_that_failed_keeps_its_later_correction(shared):
    for class_id in (WATER, SKY):
        shared.correct("ada", "failed.jpg", mask(class_id))
        assert len(shared.merge("ada").stored) == 1
    shared.correct("bob", "failed.jpg", mask(WATER))
    assert shared.merge("bob").passed_over == (shared.change("failed.jpg"),)


def test_with_revert_a_correction_is_undone(shared):
    shared.export("bob")
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    shared.merge("ada")
    by_ada = shared.change("1.jpg")
    report = shared.merge("bob", revert=True)
    assert (report.stored, report.passed_over) == ((by_ada,), ())
    assert shared.first_pixels() == [LAND, LAND, LAND]


def test_a_picture_that_both_corrected_is_as_the_second_has_it_and_named(shared):
    shared.correct("ada", "1.jpg", mask(LAND, WATER))
    shared.correct("bob", "1.jpg", mask(LAND, SKY))
    shared.merge("ada")
    by_ada = shared.change("1.jpg")
    assert (report := shared.merge("bob")).stored == (by_ada,)
    assert report.passed_over == ()
    assert shared.first_pixels() == [SKY, LAND, LAND]


def test_the_lines_name_pictures_and_whose_correction_they_are_about():
    first = tuple(Change(f"{k}.jpg", None, None) for k in range(5))
    replaced, over = Change("x\ny.jpg", "ada", NOON), Change("z.jpg", "bob", NOON)
    assert merge_lines(MergeReport(9, (*first, replaced), (over,), ("overrides/1.parquet",))) == [
        "9 corrected masks read, 7 of them differ from the labels",
        "  5 stored: 0.jpg, 1.jpg, 2.jpg and 2 more",
        "  1 stored in place of an earlier correction: x\\ny.jpg (ada's of 2026-05-01 12:00:00 UTC)",
        "  1 passed over, which shows its picture as it was before a correction: "
        "z.jpg (bob's of 2026-05-01 12:00:00 UTC)",
        "    --revert stores it as well, which undoes the correction",
        "Wrote overrides/1.parquet",
    ]
