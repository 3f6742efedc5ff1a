"""PNG folders and COCO's formats, read back by Pillow, pycocotools and the formulas of the panoptic format."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.export import export_labels
from pipeline.export.formats import Choices
from tests.pipeline.odd_names import NAMES, WORDS, photo


def test_png_masks_hold_class_ids_under_the_vocabularys_colours(labelled, truth, tmp_path):
    report = export_labels(labelled, str(tmp_path / "e"), "png")
    assert (report.n_exported, report.n_failed, report.n_waiting) == (6, 1, 0)
    for image_id, name in NAMES.items():
        with Image.open(tmp_path / "e" / "annotations" / f"{name}.png") as image:
            assert image.mode == "P"
            assert (np.asarray(image) == truth[image_id]).all()
            sea = np.argwhere(truth[image_id] == 7)[0]
            assert image.convert("RGB").getpixel((int(sea[1]), int(sea[0]))) == WORDS.classes[1].color
    assert not (tmp_path / "e" / "images").exists()
    table = json.loads((tmp_path / "e" / "classes.json").read_text())
    assert [(each["id"], each["name"]) for each in table["classes"]] == [(0, "sky"), (7, "deep sea"), (9, "ship")]


def test_shifted_ids_and_pictures_as_ade20k_has_them(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "png", choices=Choices(with_images=True, shift_ids=True))
    for image_id, name in NAMES.items():
        shifted = np.asarray(Image.open(tmp_path / "e" / "annotations" / f"{name}.png"))
        assert ((shifted.astype(int) - 1) % 256 == truth[image_id]).all()  # mmsegmentation's reduce_zero_label
        assert (tmp_path / "e" / "images" / f"{name}.png").read_bytes() == photo(labelled, image_id).read_bytes()


def test_fiftyone_finds_each_picture_beside_a_mask_of_the_same_name(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "fiftyone")
    data, masks = ({p.relative_to(tmp_path / "e" / n).with_suffix("") for p in (tmp_path / "e" / n).rglob("*.*")
                    if p.is_file()} for n in ("data", "labels"))  # fmt: skip
    assert data == masks
    for image_id, name in NAMES.items():
        assert (np.asarray(Image.open(tmp_path / "e" / "labels" / f"{name}.png")) == truth[image_id]).all()
    assert json.loads((tmp_path / "e" / "mask_targets.json").read_text()) == {"0": "sky", "7": "deep sea", "9": "ship"}


def test_a_threshold_on_the_fly_ignores_what_is_less_sure(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "png", min_confidence=0.6)
    n_more = 0
    for k, (image_id, name) in enumerate(NAMES.items()):
        rng = np.random.default_rng(k)
        rng.integers(0, 29, 40), rng.integers(0, 41, 40)
        height = 29 + k
        level = rng.integers(0, 256, (-(-height // 4), 11)).repeat(4, 0).repeat(4, 1)[:height, :41]
        expected = np.where(level >= 153, truth[image_id], 255)
        assert (np.asarray(Image.open(tmp_path / "e" / "annotations" / f"{name}.png")) == expected).all()
        n_more += int((expected != truth[image_id]).sum())
    assert n_more > 1000


def test_panoptic_segments_are_the_classes(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "coco-panoptic")
    found = json.loads((tmp_path / "e" / "panoptic.json").read_text())
    assert [(each["id"], each["name"], each["isthing"]) for each in found["categories"]] == [
        (0, "sky", 0),
        (7, "deep sea", 0),
        (9, "ship", 0),
    ]
    ids = {image["id"]: image["image_id"] for image in found["images"]}
    assert sorted(ids.values()) == sorted(NAMES)
    for each in found["annotations"]:
        colors = np.asarray(Image.open(tmp_path / "e" / "panoptic" / each["file_name"])).astype(int)
        segment_of = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
        mask = np.full(segment_of.shape, 255)
        for segment in each["segments_info"]:
            is_segment = segment_of == segment["id"]
            mask[is_segment] = segment["category_id"]
            left, top, width, height = segment["bbox"]
            assert segment["area"] == is_segment.sum() == is_segment[top : top + height, left : left + width].sum()
        assert (mask == truth[ids[each["image_id"]]]).all()


def test_run_lengths_decode_with_pycocotools(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "coco-rle", choices=Choices(with_images=True))
    coco = COCO(str(tmp_path / "e" / "annotations.json"))
    assert len(coco.imgs) == len(NAMES)
    for image in coco.imgs.values():
        mask = np.full((image["height"], image["width"]), 255)
        for each in coco.loadAnns(coco.getAnnIds([image["id"]])):
            decoded = coco.annToMask(each).astype(bool)
            assert decoded.sum() == each["area"]
            mask[decoded] = each["category_id"]
        assert (mask == truth[image["image_id"]]).all()
        assert (tmp_path / "e" / "images" / image["file_name"]).is_file()


@pytest.mark.parametrize("name", ["png", "coco-rle"])
def test_everything_lies_below_the_folder(labelled, tmp_path, name):
    (tmp_path / "deep" / "in").mkdir(parents=True)
    export_labels(labelled, str(tmp_path / "deep" / "in" / "e"), name, choices=Choices(with_images=True))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > len(NAMES)
    assert all(Path("deep/in/e") in path.relative_to(tmp_path).parents for path in files)
