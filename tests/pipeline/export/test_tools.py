"""The formats of training and labelling tools, read back with those tools' libraries or as their pages describe."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset
import yaml
from PIL import Image
from skimage.draw import polygon2mask

from pipeline.export import export_labels
from pipeline.export.brush import decode_brush, encode_brush
from pipeline.export.polygons import area, outlines
from tests.pipeline.odd_names import NAMES, WORDS, photo


def test_hugging_face_opens_pictures_and_masks(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "huggingface")
    found = datasets.load_dataset(str(tmp_path / "e"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(found["image_id"]) == sorted(NAMES)
    for row in found:
        assert (np.asarray(row["mask"]) == truth[row["image_id"]]).all()
        assert (np.asarray(row["image"]) == np.asarray(Image.open(photo(labelled, row["image_id"])))).all()


def test_webdataset_finds_picture_mask_and_name_under_one_key(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "webdataset")
    tars = sorted(str(path) for path in (tmp_path / "e").glob("*.tar"))
    found = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert sorted(json.loads(each["json"])["image_id"] for each in found) == sorted(NAMES)
    for each in found:
        image_id = json.loads(each["json"])["image_id"]
        assert (np.asarray(Image.open(io.BytesIO(each["mask.png"]))) == truth[image_id]).all()
        assert each["image.png"] == photo(labelled, image_id).read_bytes()


def test_label_studios_regions_are_the_classes(labelled, truth, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "label-studio")
    names = {each.name: each.id for each in WORDS.classes}
    tasks = [task for path in sorted((tmp_path / "e").glob("tasks-*.json")) for task in json.loads(path.read_text())]
    assert sorted(task["data"]["image_id"] for task in tasks) == sorted(NAMES)
    for task in tasks:
        mask = np.full(truth[task["data"]["image_id"]].shape, 255)
        for region in task["predictions"][0]["result"]:
            assert (region["original_height"], region["original_width"]) == mask.shape
            mask[_label_studio_decode(region["value"]["rle"], mask.shape)] = names[region["value"]["brushlabels"][0]]
        assert (mask == truth[task["data"]["image_id"]]).all()
    assert '<Label value="deep sea"' in (tmp_path / "e" / "config.xml").read_text()


def _label_studio_decode(rle: list[int], size_hw: tuple[int, int]) -> np.ndarray:
    """Bit by bit, as the format's JavaScript reads it."""
    bits, at = "".join(f"{byte:08b}" for byte in rle), 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return int(bits[at - n : at], 2)

    n, word = take(32), take(5) + 1
    sizes, out = [take(4) + 1 for _ in range(4)], []
    while len(out) < n:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        out += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    return np.array(out).reshape(*size_hw, 4)[..., 3] > 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (200, 300)])
def test_brush_masks_go_there_and_back(shape):
    rng = np.random.default_rng(0)
    for mask in (np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.3):
        encoded = encode_brush(mask)
        assert (decode_brush(encoded, shape) == mask).all()
        assert (_label_studio_decode(encoded, shape) == mask).all()
    with pytest.raises(ValueError, match="pixels, expected"):
        decode_brush(encoded, (shape[0] + 1, shape[1]))


def test_cvats_colours_are_those_of_its_label_map(labelled, truth, tmp_path):
    report = export_labels(labelled, str(tmp_path / "e"), "cvat")
    assert "zip the folder" in report.notes[0]
    lines = (tmp_path / "e" / "labelmap.txt").read_text().splitlines()[1:]
    colors = {line.split(":")[0]: tuple(map(int, line.split(":")[1].split(","))) for line in lines}
    listed = (tmp_path / "e" / "ImageSets" / "Segmentation" / "default.txt").read_text().splitlines()
    assert listed == list(NAMES.values())
    ids = {each.name: each.id for each in WORDS.classes} | {"background": 255}
    for image_id, name in NAMES.items():
        rgb = np.asarray(Image.open(tmp_path / "e" / "SegmentationClass" / f"{name}.png"))
        mask = np.full(rgb.shape[:2], -1)
        for label, color in colors.items():
            mask[(rgb == color).all(-1)] = ids[label]
        assert (mask == truth[image_id]).all()


def test_yolos_polygons_give_the_classes_back_but_for_what_they_cannot_hold(labelled, truth, tmp_path):
    report = export_labels(labelled, str(tmp_path / "e"), "yolo-seg")
    assert report.notes[0].startswith("polygons hold no ignored pixels and no holes: ")
    names = yaml.safe_load((tmp_path / "e" / "dataset.yaml").read_text())["names"]
    ids = {number: next(each.id for each in WORDS.classes if each.name == name) for number, name in names.items()}
    for image_id, name in NAMES.items():
        assert Path(tmp_path / "e" / "images" / "train" / f"{name}.png").is_file()
        true = truth[image_id]
        mask = np.full(true.shape, 255)
        for line in (tmp_path / "e" / "labels" / "train" / f"{name}.txt").read_text().splitlines():
            number, *values = line.split()
            corners = np.array(values, float).reshape(-1, 2)[:, ::-1] * true.shape - 0.5  # skimage counts from centres
            mask[polygon2mask(true.shape, corners)] = ids[int(number)]
        assert (mask == true)[true != 255].all()


def test_outlines_run_along_the_edges_of_pixels():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]], bool)
    found = sorted(outlines(ring), key=area)
    assert [area(each) for each in found] == [-1, 10]
    assert len(found[0]) == 4
    corner = np.array([[1, 0], [0, 1]], bool)
    assert [area(each) for each in outlines(corner)] == [1, 1]
