"""Corrections come back from every tool: what was exported and mended is stored, and nothing else."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from pipeline.corrections import Change, merge_corrections
from pipeline.corrections.summary import merge_lines
from pipeline.export import export_labels
from pipeline.export.brush import decode_brush, encode_brush
from pipeline.export.formats import Choices
from pipeline.output.labelled import open_one_vocabulary
from pipeline.output.masks import mask_of
from schemas.errors import InputError
from tests.pipeline.labelled_output import STORAGE
from tests.pipeline.odd_names import WORDS

MENDED = "a/2.jpg"
NAME = "a/2.jpg"  # shares its stem with a/2.png


@pytest.fixture
def output(labelled, tmp_path) -> str:
    shutil.copytree(labelled, tmp_path / "out")
    return str(tmp_path / "out")


def mend_png(folder, shifted=0):
    path = folder / "annotations" / f"{NAME}.png"
    image = Image.open(path)
    mask = np.array(image)
    mask[:5, :7] = 9 + shifted
    mended = Image.fromarray(mask)
    mended.putpalette(image.getpalette())
    mended.save(path)


def mend_panoptic(folder):
    path = folder / "panoptic" / f"{NAME}.png"
    colors = np.array(Image.open(path))
    colors[:5, :7] = (10, 0, 0)
    Image.fromarray(colors).save(path)


def mend_run_lengths(folder):
    found = json.loads((folder / "annotations.json").read_text())
    image = next(each for each in found["images"] if each["image_id"] == MENDED)
    box = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    box[:5, :7] = 1
    encoded = rle.encode(box)
    about = {"image_id": image["id"], "category_id": 9, "id": 10**6}
    found["annotations"].append({**about, "segmentation": {**encoded, "counts": encoded["counts"].decode()}})
    (folder / "annotations.json").write_text(json.dumps(found))


def mend_label_studio(folder):
    """What Label Studio exports: annotations that began as the predictions."""
    tasks = [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_text())]
    for task in tasks:
        result = task.pop("predictions")[0]["result"]
        task["annotations"] = [{"result": result, "was_cancelled": False, "updated_at": "2026-01-01"}]
        if task["data"]["image_id"] == MENDED:
            task["annotations"].append({"result": [], "was_cancelled": True, "updated_at": "2026-01-03"})
            for region in result:
                size_hw = (region["original_height"], region["original_width"])
                mask = decode_brush(region["value"]["rle"], size_hw)
                mask[:5, :7] = region["value"]["brushlabels"] == ["ship"]
                region["value"]["rle"] = encode_brush(mask)
    tasks.append({"data": {"image": "x.jpg", "image_id": "never corrected"}, "predictions": [], "annotations": []})
    (folder / "project.json").write_text(json.dumps(tasks))


def mend_cvat(folder):
    path = folder / "SegmentationClass" / f"{NAME}.png"
    colors = np.array(Image.open(path))
    colors[:5, :7] = WORDS.classes[2].color
    Image.fromarray(colors).save(path)


WAYS = {
    "png": ("png", Choices(), mend_png, "e/annotations"),
    "png of an export": ("png", Choices(), mend_png, "e"),
    "png shifted": ("png", Choices(shift_ids=True), lambda folder: mend_png(folder, 1), "e/annotations"),
    "coco-panoptic": ("coco-panoptic", Choices(), mend_panoptic, "e/panoptic.json"),
    "coco-rle": ("coco-rle", Choices(), mend_run_lengths, "e/annotations.json"),
    "label-studio": ("label-studio", Choices(), mend_label_studio, "e/project.json"),
    "cvat": ("cvat", Choices(), mend_cvat, "e"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mended_mask_comes_back_and_only_that(output, truth, tmp_path, way):
    name, choices, mend, corrections = WAYS[way]
    export_labels(output, str(tmp_path / "e"), name, choices=choices)
    unchanged = merge_corrections(output, str(tmp_path / "e"), author="ada") if name in ("png", "cvat") else None
    assert unchanged is None or (unchanged.stored, unchanged.files) == ((), ())
    mend(tmp_path / "e")
    report = merge_corrections(output, str(tmp_path / corrections), author="ada")
    assert (report.n_masks, len(report.stored), len(report.files)) == (6, 1, 1)
    assert merge_lines(report)[0] == "6 corrected masks read, 1 of them differ from the labels"
    labels = open_one_vocabulary(output, STORAGE)
    for row in labels.stream():
        if row.mask is not None:
            expected = truth[row.image_id].copy()
            if row.image_id == MENDED:
                expected[:5, :7] = 9
            assert (mask_of(row, labels) == expected).all()
    override = labels.overrides.get("words", MENDED)
    assert override is not None
    assert (override.author, override.source) == ("ada", str(tmp_path / corrections))
    assert (
        sum(each["pixels"] for each in override.classes)
        == (truth[MENDED] != 255).sum() + (truth[MENDED][:5, :7] == 255).sum()
    )
    assert merge_corrections(output, str(tmp_path / corrections), author="ada").stored == ()


def write_mask(folder, name, mask):
    (folder / "m").mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / "m" / name)


def test_a_picture_that_failed_may_be_labelled_by_hand(output, tmp_path):
    write_mask(tmp_path, "broken.png", np.full((4, 5), 7, np.uint8))
    assert merge_corrections(output, str(tmp_path / "m"), author="ada").stored == (Change("broken.jpg", None, None),)
    row = next(row for row in open_one_vocabulary(output, STORAGE).stream() if row.image_id == "broken.jpg")
    assert (row.status, row.width, row.height) == ("labelled", 5, 4)


@pytest.mark.parametrize(
    ("name", "mask", "said"),
    [
        ("up.png", np.zeros((2, 3), np.uint8), "masks of 'up' belong to no picture of "),
        ("ünï c.png", np.zeros((2, 3), np.uint8), "the mask of 'ünï c.jpg' is 3 x 2, but the picture is 41 x 34"),
        ("ünï c.png", np.full((34, 41), 8, np.uint8), "holds 8 (1,394 pixels), no ids of vocabulary 'words'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_stored(output, tmp_path, name, mask, said):
    write_mask(tmp_path, "broken.png", np.full((4, 5), 7, np.uint8))
    write_mask(tmp_path, name, mask)
    with pytest.raises(InputError) as caught:
        merge_corrections(output, str(tmp_path / "m"), author="ada")
    assert said in str(caught.value)
    assert len(open_one_vocabulary(output, STORAGE).overrides) == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gone.json", None, "gone.json: not found"),
        ("x.json", "{", "x.json: is no JSON"),
        ("x.json", "3", "x.json: is no such file (TypeError"),
        ("x.json", '{"annotations": []}', "x.json: is no such file (KeyError: 'images'), expected a folder of PNG"),
        ("x.json", '[{"data": {"image": "a"}, "predictions": []}]', "none of its 1 tasks has an annotation"),
        ("labelmap.txt", "sky\n", "labelmap.txt: found no lines `label:r,g,b::`"),
        ("labelmap.txt", "skye:1,2,3::\n", "'skye' is no class of vocabulary 'words'; did you mean 'sky'?"),
        ("folder", None, "folder: not found, expected a folder of PNG masks"),
    ],
)
def test_files_that_are_no_corrections_are_one_line(output, tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    corrections = tmp_path if name == "labelmap.txt" else tmp_path / name
    with pytest.raises(InputError) as caught:
        merge_corrections(output, str(corrections), author="ada")
    assert said in str(caught.value)
