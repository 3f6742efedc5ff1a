"""An output against ground truth: scores worked out by hand, and one clear line for what cannot be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation import evaluate
from pipeline.evaluation.summary import evaluation_lines
from schemas.errors import InputError, OutputError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Answers, Failure, save_mask, write_output

WORDS = Vocabulary(
    name="words",
    classes=[
        {"id": 0, "name": "sky"},
        {"id": 2, "name": "sea", "min_confidence": 0.5},
        {"id": 7, "name": "sand", "heldout": True},
        {"id": 9, "name": "ship"},
    ],
    distractors=({"prompts": ["fog"]}, {"prompts": ["dune"], "becomes": 7}),
)
DUNE, FOG = -1, -2  # codes: distractors are numbered by their sorted prompts


def grid(*rows: str, dtype=np.uint8) -> np.ndarray:
    """One value a word."""
    return np.array([[int(value) for value in row.split()] for row in rows], np.int32 if dtype is int else dtype)


# Four cells of 2 x 4 pixels would be one picture; here a picture is one cell high and two wide.
ANSWERS: Answers = {
    "a/1.jpg": Answer(grid("0 0 0 0 2 2 2 2", "0 0 0 0 2 2 2 2", dtype=int), np.array([[204, 102]])),
    "a/2.jpg": Answer(np.where(grid("0 0 0 0 1 1 1 1", dtype=int) == 1, DUNE, FOG), 255),
    "b.jpg": Failure((1, 2)),
}
TRUTHS = {
    "a/1.png": grid("0 0 0 2 2 2 2 2", "255 0 0 0 2 2 2 2"),
    "a/2.png": grid("0 0 0 0 7 7 7 9"),
    "b.png": grid("2 255"),
}


@pytest.fixture
def output(tmp_path) -> str:
    write_output(str(tmp_path / "out"), {"words": ANSWERS}, [WORDS])
    for name, mask in TRUTHS.items():
        save_mask(tmp_path / "masks" / name, mask)
    return str(tmp_path / "out")


def test_the_scores_of_an_output_are_those_of_its_pixels(output, tmp_path):
    found = evaluate(output, str(tmp_path / "masks")).as_json()
    # a/1: six of seven sky pixels right (one is sea in truth); the sea is ignored, being less sure than its threshold.
    # a/2: the fog is ignored over sky; the dune becomes sand: three right, one is a ship. b: one sea pixel, failed.
    assert found["per_class"] == [
        {"id": 0, "name": "sky", "iou": 6 / 11, "accuracy": 6 / 10, "pixels": 10, "predicted": 7, "heldout": False},
        {"id": 2, "name": "sea", "iou": 0.0, "accuracy": 0.0, "pixels": 10, "predicted": 0, "heldout": False},
        {"id": 7, "name": "sand", "iou": 3 / 4, "accuracy": 1.0, "pixels": 3, "predicted": 4, "heldout": True},
        {"id": 9, "name": "ship", "iou": 0.0, "accuracy": 0.0, "pixels": 1, "predicted": 0, "heldout": False},
    ]
    assert found["miou"] == pytest.approx((6 / 11 + 3 / 4) / 4)
    assert found["miou_seen"] == pytest.approx(6 / 11 / 3)
    assert found["miou_heldout"] == 3 / 4
    assert found["pixel_accuracy"] == 9 / 24
    assert found["ignored_fraction"] == 13 / 24
    counted = {key: found[key] for key in found if key.startswith("n_")}
    assert counted == {
        "n_classes": 4,
        "n_pixels": 24,
        "n_pictures": 3,
        "n_failed": 1,
        "n_planned": 3,
        "n_done": 3,
        "n_without_mask": 0,
        "n_unused_masks": 0,
    }


@pytest.mark.usefixtures("output")  # for the masks
def test_labels_that_are_rolled_up_are_compared_with_ground_truth_that_is_rolled_up(tmp_path):
    classes = [each.model_dump() | {"parent": {2: "sky", 7: "ship"}.get(each.id)} for each in WORDS.classes]
    parents = Vocabulary(name="words", classes=classes, distractors=WORDS.distractors, level="parent")
    write_output(str(tmp_path / "parents"), {"words": ANSWERS}, [parents])
    found = evaluate(str(tmp_path / "parents"), str(tmp_path / "masks")).as_json()
    # a/1: the sea that is ignored is missing, all of the rest is sky. a/2: the ship under the dune is right now.
    assert [(each["id"], each["accuracy"], each["pixels"]) for each in found["per_class"]] == [
        (0, 7 / 20, 20), (2, None, 0), (7, None, 0), (9, 1.0, 4),
    ]  # fmt: skip


def test_calibration_judges_winners_before_thresholds_and_knows_no_failed_pictures(output, tmp_path):
    found = evaluate(output, str(tmp_path / "masks")).as_json()
    # 0.8: six of seven right. 0.4: the sea below its threshold, all eight right. 1.0: three of eight; fog is wrong.
    filled = [(each["pixels"], each["confidence"], each["accuracy"]) for each in found["calibration"] if each["pixels"]]
    assert filled == [(8, 0.4, 1.0), (7, 0.8, 6 / 7), (8, 1.0, 3 / 8)]
    assert found["ece"] == pytest.approx((8 * 0.6 + 7 * (6 / 7 - 0.8) + 8 * 5 / 8) / 23)


def test_a_manifest_pairs_masks_by_image_id(output, tmp_path):
    rows = [f"{name.replace('.png', '.jpg')},x.jpg,masks/{name}" for name in TRUTHS]
    (tmp_path / "truth.csv").write_text("\n".join(["image_id,uri,mask_uri", *rows, "c.jpg,c.jpg,masks/c.png"]))
    by_manifest = evaluate(output, str(tmp_path / "truth.csv"))
    by_folder = evaluate(output, str(tmp_path / "masks"))
    assert by_manifest.scores == by_folder.scores
    assert (by_manifest.n_unused_masks, by_folder.n_unused_masks) == (1, 0)


def test_large_pictures_are_counted_in_bands_without_a_seam(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    answer = Answer(random.choice([0, 2, 7, 9, DUNE, FOG], (45, 30)), random.integers(0, 256, (12, 8)))
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": answer}}, [WORDS])
    save_mask(tmp_path / "masks" / "a.png", random.choice(np.array([0, 2, 7, 9, 255], np.uint8), (45, 30)))
    whole = evaluate(str(tmp_path / "out"), str(tmp_path / "masks"))
    monkeypatch.setattr("pipeline.evaluation.judge._BAND_PIXELS", 240)
    assert evaluate(str(tmp_path / "out"), str(tmp_path / "masks")) == whole


def test_ids_of_16_bits_are_ids_and_255_is_one(tmp_path):
    words = Vocabulary(name="many", classes=[{"id": k, "name": f"class {k}"} for k in (255, 1000)])
    answer = Answer(grid("255 255 1000 1000", dtype=int))
    write_output(str(tmp_path / "out"), {"many": {"a.jpg": answer}}, [words])
    save_mask(tmp_path / "masks" / "a.png", grid("255 1000 1000 65535", dtype=np.uint16))
    found = evaluate(str(tmp_path / "out"), str(tmp_path / "masks"))
    assert [(each.iou, each.pixels) for each in found.scores.classes] == [(1 / 2, 1), (1 / 2, 2)]


def test_an_output_on_object_storage_is_read_from_there(s3, output, tmp_path):
    write_output(s3.uri("out"), {"words": ANSWERS}, [WORDS])
    for name in TRUTHS:
        s3.put(f"truth/{name}", (tmp_path / "masks" / name).read_bytes())
    found = evaluate(s3.uri("out"), s3.uri("truth"))
    assert found.scores == evaluate(output, str(tmp_path / "masks")).scores


@pytest.mark.usefixtures("output")
def test_a_job_that_is_not_finished_is_compared_as_far_as_it_is(tmp_path):
    unfinished = str(tmp_path / "unfinished")
    write_output(unfinished, {"words": ANSWERS}, [WORDS], n_done=1)
    found = evaluate(unfinished, str(tmp_path / "masks"))
    assert (found.n_pictures, found.n_done, found.n_planned, found.n_failed, found.n_unused_masks) == (2, 2, 3, 0, 1)
    notes = evaluation_lines(found)[-2:]
    assert notes == [
        "The job is not finished: 2 of 3 pictures are there yet.",
        "1 mask of the ground truth left out: no labels of that name.",
    ]


def test_a_picture_without_a_mask_is_an_error_unless_allowed(output, tmp_path):
    (tmp_path / "masks" / "a" / "2.png").unlink()
    with pytest.raises(InputError, match=r"masks: no mask for picture 'a/2\.jpg', expected a/2 with \.png, \.tif or"):
        evaluate(output, str(tmp_path / "masks"))
    found = evaluate(output, str(tmp_path / "masks"), allow_missing=True)
    assert (found.n_pictures, found.n_without_mask, found.scores.n_pixels) == (2, 1, 16)
    assert "1 picture without a mask in the ground truth left out." in evaluation_lines(found)


def test_the_vocabulary_is_chosen_where_there_are_several(tmp_path):
    other = Vocabulary(name="other", classes=[{"id": 0, "name": "day"}, {"id": 1, "name": "night"}])
    answers = {"words": {"a.jpg": Answer(grid("0 2", dtype=int))}, "other": {"b.jpg": Answer(grid("0 1", dtype=int))}}
    write_output(str(tmp_path / "out"), answers, [WORDS, other])
    save_mask(tmp_path / "masks" / "b.png", grid("0 1"))
    found = evaluate(str(tmp_path / "out"), str(tmp_path / "masks"), vocabulary="other")
    assert (found.scores.miou, found.n_planned, found.n_done) == (1.0, 1, 1)
    with pytest.raises(InputError, match=r"labels of 2 vocabularies; choose one with --vocabulary: other, words"):
        evaluate(str(tmp_path / "out"), str(tmp_path / "masks"))
    with pytest.raises(InputError, match=r"no labels of vocabulary 'othr'; did you mean 'other'"):
        evaluate(str(tmp_path / "out"), str(tmp_path / "masks"), vocabulary="othr")


@pytest.mark.parametrize(
    ("name", "mask", "said"),
    [
        ("a/1.png", np.zeros((3, 8), np.uint8), r"a/1\.png: the mask is 8 x 3, but the picture's labels are 8 x 2"),
        (
            "b.png",
            grid("0 1"),
            r"b\.png: holds 1 \(1 pixels\), no ids of vocabulary 'words'; expected its ids, between 0",
        ),
        ("b.png", grid("0"), r"b\.png: the mask is 1 x 1, but the picture's labels are 2 x 1"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(output, tmp_path, name, mask, said):
    save_mask(tmp_path / "masks" / name, mask)
    with pytest.raises(InputError, match=said):
        evaluate(output, str(tmp_path / "masks"))


def test_an_output_that_cannot_be_compared_is_one_line(output, tmp_path):
    masks = str(tmp_path / "masks")
    with pytest.raises(OutputError, match=r"masks: found no job\.json, expected the --output of `escnet annotate`"):
        evaluate(masks, masks)
    write_output(str(tmp_path / "new"), {"words": ANSWERS}, [WORDS], n_done=0)
    with pytest.raises(OutputError, match="none of its 2 shards is labelled yet"):
        evaluate(str(tmp_path / "new"), masks)
    save_mask(tmp_path / "others" / "x.png", grid("0"))
    with pytest.raises(InputError, match="others: has a mask for none of the 3 pictures"):
        evaluate(output, str(tmp_path / "others"), allow_missing=True)
    for name, mask in TRUTHS.items():
        save_mask(tmp_path / "masks" / name, np.full_like(mask, 255))
    with pytest.raises(InputError, match="every pixel of its masks is ignored"):
        evaluate(output, masks)
    path = tmp_path / "out" / "vocabularies" / "words.yaml"
    path.write_text(path.read_text().replace("ship", "boat"))
    with pytest.raises(OutputError, match=r"words\.yaml: was changed after the labels were made"):
        evaluate(output, masks)


def test_labels_that_are_damaged_are_named(tmp_path, monkeypatch):
    save_mask(tmp_path / "masks" / "a.png", grid("0 0"))
    for column, said in (
        ("mask", "its mask: neither PNG nor TIFF"),
        ("evidence", "evidence of a picture: found 4 bytes"),
    ):
        with monkeypatch.context() as patch:
            answer = Answer(grid("0 2", dtype=int))
            patch.setattr(
                Answer,
                "row",
                lambda self, row, words, c=column, w=Answer.row: replace(w(self, row, words), **{c: b"left"}),
            )
            write_output(str(tmp_path / column), {"words": {"a.jpg": answer}}, [WORDS])
        with pytest.raises(OutputError, match=rf"{column}: labels of 'a\.jpg' cannot be used; {said}"):
            evaluate(str(tmp_path / column), str(tmp_path / "masks"))


def test_a_protocol_refuses_labels_of_other_words(output, tmp_path):
    with pytest.raises(
        InputError, match=r"PAS-20 is measured with .* 'pascal-voc-20', and .* \(it is 'words', expected"
    ):
        evaluate(output, str(tmp_path / "masks"), protocol="PAS-20")
    with pytest.raises(InputError, match=r"no protocol 'PAS-21'; did you mean 'PAS-20'\?; expected one of A-150"):
        evaluate(output, str(tmp_path / "masks"), protocol="PAS-21")


def test_what_is_said_shows_the_scores_and_the_classes(output, tmp_path):
    found = evaluate(output, str(tmp_path / "masks"))
    assert evaluation_lines(found) == [
        f"3 pictures compared with {tmp_path}/masks, vocabulary words",
        "",
        "  mIoU               0.324  4 of 4 classes: those in the ground truth",
        "  mIoU seen          0.182  3 classes",
        "  mIoU held-out      0.750  1 class",
        "  weighted IoU       0.321  each class by its pixels in the ground truth",
        "  pixel accuracy     0.375  24 pixels",
        "  calibration error  0.443  0 is best: then confidence is how often it is right",
        "  ignored            54.2%  left without a class; counted as wrong",
        "",
        "  CLASS              IOU  ACCURACY  TRUTH  PREDICTED",
        "  sand (held-out)  0.750     1.000  12.5%      16.7%",
        "  sky              0.545     0.600  41.7%      29.2%",
        "  sea              0.000     0.000  41.7%       0.0%",
        "  ship             0.000     0.000   4.2%       0.0%",
        "",
        "  MISTAKEN  FOR   PIXELS",
        "  sea       sky     4.2%",
        "  ship      sand    4.2%",
        "",
        "1 picture could not be labelled: all their pixels count as wrong.",
    ]
    assert json.loads(json.dumps(found.as_json())) == found.as_json()


def test_of_many_classes_the_best_and_the_worst_are_shown(tmp_path):
    words = Vocabulary(name="many", classes=[f"class {k}" for k in range(12)])
    truth = np.repeat(np.arange(12, dtype=np.uint8), 12).reshape(12, 12)
    winner = truth.astype(np.int32)
    for k in range(12):
        winner[k, :k] = (k + 1) % 12
    write_output(str(tmp_path / "out"), {"many": {"a.jpg": Answer(winner)}}, [words])
    save_mask(tmp_path / "masks" / "a.png", truth)
    lines = evaluation_lines(evaluate(str(tmp_path / "out"), str(tmp_path / "masks")))
    start = lines.index("", 2) + 1
    tables = [line.split("  ")[1].strip() for line in lines[start : lines.index("", start)]]
    best, worst = (1, 2, 3, 4, 0), (7, 8, 9, 10, 11)
    assert tables[:6] == ["BEST CLASSES", *(f"class {k}" for k in best)]
    assert tables[6:] == ["WORST CLASSES", *(f"class {k}" for k in worst)]
    assert [line.split() for line in lines[-5:-3]] == [
        ["class", "11", "class", "0", "7.6%"],
        ["class", "10", "class", "11", "6.9%"],
    ]
