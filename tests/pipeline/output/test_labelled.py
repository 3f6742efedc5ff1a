"""The labels of an output with corrections in place, whole and by column."""

import io
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation import evaluate
from pipeline.output.labelled import open_one_vocabulary
from pipeline.output.overrides import Overrides, write_overrides
from schemas.errors import InputError, OutputError
from schemas.labels import LABELLED
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import NOON, STORAGE, Answer, Answers, Failure, override, save_mask, write_output

WORDS = Vocabulary(name="words", classes=[{"id": 0, "name": "sky"}, {"id": 7, "name": "sand"}])
ANSWERS: Answers = {
    "a.jpg": Answer(np.zeros((2, 4), np.int32)),
    "b.jpg": Answer(np.full((2, 4), 7, np.int32)),
    "c.jpg": Failure(),
}


def masks(output: str, columns: tuple[str, ...] | None = None) -> dict:
    rows = open_one_vocabulary(output, STORAGE).stream(columns)
    return {row.image_id: row.mask and np.asarray(Image.open(io.BytesIO(row.mask))).tolist() for row in rows}


@pytest.fixture
def output(tmp_path) -> str:
    write_output(str(tmp_path / "out"), {"words": ANSWERS}, [WORDS])
    return str(tmp_path / "out")


def test_the_latest_correction_of_a_picture_counts_and_the_others_stay_the_models(output):
    early, late = np.full((2, 4), 7, np.uint8), np.array([[0, 0, 7, 7], [255, 255, 7, 7]], np.uint8)
    write_overrides([override("a.jpg", late, WORDS, time=NOON + timedelta(hours=1))], output, STORAGE)
    write_overrides([override("a.jpg", early, WORDS), override("c.jpg", early, WORDS)], output, STORAGE)
    sand = [[7] * 4] * 2
    expected = {"a.jpg": late.tolist(), "b.jpg": sand, "c.jpg": sand}
    assert masks(output) == masks(output, ("mask",)) == expected
    rows = {row.image_id: row for row in open_one_vocabulary(output, STORAGE).stream()}
    assert [(c["class_id"], c["name"], c["pixels"], c["fraction"]) for c in rows["a.jpg"].classes or ()] == [
        (0, "sky", 2, 0.25),
        (7, "sand", 4, 0.5),
    ]
    assert (rows["a.jpg"].ignored_fraction, rows["a.jpg"].evidence, rows["a.jpg"].confidence_mean) == (0.25, None, None)
    assert rows["b.jpg"].evidence is not None
    assert (rows["c.jpg"].status, rows["c.jpg"].error_kind, rows["c.jpg"].width) == (LABELLED, None, 4)


def test_columns_that_are_not_asked_for_are_not_there(output):
    rows = list(open_one_vocabulary(output, STORAGE).stream(("width", "error_kind")))
    assert [(row.width, row.mask, row.evidence, row.classes) for row in rows] == [
        (4, None, None, None),
        (4, None, None, None),
        (None, None, None, None),
    ]
    assert [row.error_kind for row in rows] == [None, None, "truncated"]


def test_rows_lie_beside_their_pictures(output):
    labels = open_one_vocabulary(output, STORAGE)
    pairs = [
        (picture.image_id, row.image_id)
        for shard in labels.done
        for picture, row in zip(labels.pictures(shard), labels.rows(shard), strict=True)
    ]
    assert pairs == [(each, each) for each in ANSWERS]


def test_corrections_are_read_from_and_written_to_object_storage(s3):
    write_output(s3.uri("out"), {"words": ANSWERS}, [WORDS])
    write_overrides([override("b.jpg", np.zeros((2, 4), np.uint8), WORDS)], s3.uri("out"), STORAGE)
    assert masks(s3.uri("out"), ("mask",))["b.jpg"] == [[0] * 4] * 2
    assert len(Overrides(s3.uri("out"), STORAGE)) == 1


def test_masks_of_corrections_are_read_where_they_lie_and_many_are_no_trouble(output):
    many = [override(f"{k}.jpg", np.full((1, 1), k % 2 * 7, np.uint8), WORDS) for k in range(700)]
    write_overrides(many, output, STORAGE)
    found = Overrides(output, STORAGE)
    assert [found.get("words", f"{k}.jpg") for k in (0, 699, 31, 32)] == [many[k] for k in (0, 699, 31, 32)]
    assert found.get("other", "0.jpg") is None


def test_evaluation_counts_what_people_corrected(output, tmp_path):
    for name in "abc":
        save_mask(tmp_path / "masks" / f"{name}.png", np.full((2, 4), 7, np.uint8))
    assert evaluate(output, str(tmp_path / "masks")).scores.pixel_accuracy == pytest.approx(1 / 3)
    sand = np.full((2, 4), 7, np.uint8)
    write_overrides([override("a.jpg", sand, WORDS), override("c.jpg", sand, WORDS)], output, STORAGE)
    found = evaluate(output, str(tmp_path / "masks"))
    assert (found.scores.pixel_accuracy, found.n_failed) == (1.0, 0)


def test_a_file_that_holds_no_corrections_is_named(output, tmp_path):
    (tmp_path / "out" / "overrides").mkdir()
    (tmp_path / "out" / "overrides" / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(
        OutputError, match=r"overrides/x.parquet: found Parquet that cannot be read, expected a file of"
    ):
        open_one_vocabulary(output, STORAGE)
    (label_file, *_) = sorted((tmp_path / "out" / "labels").iterdir())
    (tmp_path / "out" / "overrides" / "x.parquet").write_bytes(label_file.read_bytes())
    with pytest.raises(OutputError, match=r"x.parquet: found columns image_id, uri"):
        open_one_vocabulary(output, STORAGE)


def test_one_of_several_vocabularies_has_to_be_chosen(tmp_path):
    other = Vocabulary(name="other", classes=WORDS.classes)
    write_output(str(tmp_path / "out"), {"words": ANSWERS, "other": {"d.jpg": ANSWERS["a.jpg"]}}, [WORDS, other])
    with pytest.raises(InputError, match="has labels of 2 vocabularies; choose one with --vocabulary: other, words"):
        open_one_vocabulary(str(tmp_path / "out"), STORAGE)
    labels = open_one_vocabulary(str(tmp_path / "out"), STORAGE, "other")
    assert ([row.image_id for row in labels.stream()], labels.n_planned, labels.n_done) == (["d.jpg"], 1, 1)


def test_damaged_columns_are_a_damaged_file(output, tmp_path):
    for path in (tmp_path / "out" / "labels").iterdir():
        data = bytearray(path.read_bytes())
        data[40:400] = bytes(360)
        path.write_bytes(data)
    with pytest.raises(OutputError, match="found Parquet that cannot be read, expected a label file"):
        list(open_one_vocabulary(output, STORAGE).stream(("mask",)))
