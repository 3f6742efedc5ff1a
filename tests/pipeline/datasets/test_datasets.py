"""Benchmarks in the layout their archives unpack to: every mask and every row of what is made of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.datasets.ade20k_codes import CODES_847
from pipeline.datasets.coco_stuff import COCO_STUFF_171
from pipeline.datasets.pascal_context import PASCAL_CONTEXT_59
from pipeline.datasets.prepare import prepare_dataset
from pipeline.picture.decode import decode
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.manifest import ManifestRow
from schemas.vocabulary_files import parse_vocabulary
from tests.pipeline.datasets.dataset_files import SIZE_WH, ade_code, context, gray, picture, text, values, voc


def masks(output: Path) -> dict[str, tuple[np.dtype, list]]:
    found = {}
    for path in sorted((output / "masks").rglob("*")):
        if path.is_file():
            mask = np.asarray(Image.open(path))
            found[path.relative_to(output / "masks").as_posix()] = (mask.dtype, mask.tolist())
    return found


def expected(*left_to_right: int, dtype=np.uint8) -> tuple[np.dtype, list]:
    return np.dtype(dtype), values(*left_to_right, dtype=dtype).tolist()


def rows(output: Path) -> list[ManifestRow]:
    return [row for batch in read_manifest(str(output / "manifest.parquet"), StorageOptions()) for row in batch]


def row(output: Path, image_id: str, path: Path, split: str) -> ManifestRow:
    mask = output / "masks" / Path(image_id).with_suffix(".png")
    return ManifestRow(image_id, str(path), *SIZE_WH, size_bytes=path.stat().st_size, mask_uri=str(mask), split=split)


def bundled_vocabulary(output: Path) -> str:
    found = parse_vocabulary((output / "vocabulary.yaml").read_text(), "vocabulary.yaml")
    assert found == load_vocabulary(found.name)
    return found.name


@pytest.mark.parametrize(
    ("pictures", "maps"),
    [("images/", "stuffthingmaps/"), ("images/", "annotations/"), ("", ""), ("", "stuffthingmaps/")],
)
def test_coco_stuff_numbers_the_annotated_categories_in_order(tmp_path, pictures, maps):
    root, output = tmp_path / "coco", tmp_path / "out"
    train = picture(root / f"{pictures}train2017/000000000009.jpg")
    val = picture(root / f"{pictures}val2017/000000000139.jpg")
    gray(root / f"{maps}train2017/000000000009.png", values(0, 10, 12, 24, 26, 89, 91, 181, 255))
    gray(root / f"{maps}val2017/000000000139.png", values(92, 255))
    prepared = prepare_dataset("coco-stuff-171", str(root), str(output), workers=2)
    assert masks(output) == {
        "train2017/000000000009.png": expected(0, 10, 11, 23, 24, 79, 80, 170, 255),
        "val2017/000000000139.png": expected(81, 255),
    }
    assert rows(output) == [
        row(output, "train2017/000000000009.jpg", train, "train"),
        row(output, "val2017/000000000139.jpg", val, "val"),
    ]
    assert bundled_vocabulary(output) == "coco-stuff-171"
    assert sorted(path.name for path in output.iterdir()) == [".lock", "manifest.parquet", "masks", "vocabulary.yaml"]
    assert dict(prepared.pixels) == {
        0: 13, 10: 12, 11: 12, 23: 12, 24: 12, 79: 12, 80: 12, 170: 12, 81: 13, 255: 95 + 179,
    }  # fmt: skip


def test_coco_names_stand_at_the_ids_of_their_categories():
    """COCO's own ids, which count from 1, of a few categories on both sides of the gaps."""
    names = {each.id: each.name for each in load_vocabulary("coco-stuff-171").classes}
    official = {1: "person", 13: "stop sign", 27: "backpack", 31: "handbag", 46: "wine glass", 67: "dining table",
                70: "toilet", 72: "tv", 84: "book", 90: "toothbrush",
                92: "banner", 155: "sea", 182: "wood"}  # fmt: skip
    class_ids = COCO_STUFF_171.class_ids()
    assert {each: names[class_ids[each - 1]] for each in official} == official
    assert sorted(each for each in class_ids.values() if each is not None) == list(range(171))


@pytest.mark.parametrize("inner", ["", "ADEChallengeData2016"])
def test_ade20k_150_counts_from_one_and_ignores_zero(tmp_path, inner):
    root, output = tmp_path / "ade", tmp_path / "out"
    train = picture(root / inner / "images/training/ADE_train_00000001.jpg")
    val = picture(root / inner / "images/validation/ADE_val_00000001.jpg")
    gray(root / inner / "annotations/training/ADE_train_00000001.png", values(1, 150, 0))
    gray(root / inner / "annotations/validation/ADE_val_00000001.png", values(13, 0, 2))
    prepare_dataset("ade20k-150", str(root), str(output))
    assert masks(output) == {
        "training/ADE_train_00000001.png": expected(0, 149, 255),
        "validation/ADE_val_00000001.png": expected(12, 255, 1),
    }
    assert rows(output) == [
        row(output, "training/ADE_train_00000001.jpg", train, "train"),
        row(output, "validation/ADE_val_00000001.jpg", val, "val"),
    ]
    assert bundled_vocabulary(output) == "ade20k-150"


def test_ade20k_847_reads_class_codes_from_red_and_green(tmp_path):
    root, output = tmp_path / "ADE20K_2021_17_01", tmp_path / "out"
    street = root / "images/ADE/validation/urban/street"
    val = picture(street / "ADE_val_00000002.jpg")
    # 401 is a car, 2420 sky, 3156 the largest of the 847; 5 is none of them, 0 nothing at all.
    ade_code(street / "ADE_val_00000002_seg.png", values(401, 2420, 3156, 5, 0, dtype=np.uint16))
    gray(street / "ADE_val_00000002_parts_1.png", values(1))
    gray(street / "ADE_val_00000002/instance_000_ADE_val_00000002.png", values(255))
    picture(street / "ADE_val_00000002/not_a_picture_of_its_own.jpg")
    lobby = picture(root / "images/ADE/validation/work_place/lobby/ADE_val_00000001.jpg")
    ade_code(lobby.with_name("ADE_val_00000001_seg.png"), values(2978, dtype=np.uint16))
    prepare_dataset("ade20k-847", str(root), str(output), splits=("val",))
    names = [each.name for each in load_vocabulary("ade20k-847").classes]
    car, sky, last = names.index("car"), names.index("sky"), names.index("alga")
    assert masks(output) == {
        "validation/urban/street/ADE_val_00000002.png": expected(car, sky, last, 65535, 65535, dtype=np.uint16),
        "validation/work_place/lobby/ADE_val_00000001.png": expected(0, dtype=np.uint16),
    }
    assert rows(output) == [
        row(output, "validation/urban/street/ADE_val_00000002.jpg", val, "val"),
        row(output, "validation/work_place/lobby/ADE_val_00000001.jpg", lobby, "val"),
    ]
    assert bundled_vocabulary(output) == "ade20k-847"


def test_codes_of_the_full_ade20k_are_those_of_its_own_annotations():
    """Names and numbers (`name_ndx`) as the release's JSON files pair them, in pictures its authors publish."""
    names = {each.id: each.prompts for each in load_vocabulary("ade20k-847").classes}
    published = {
        64: "ashcan", 77: "awning", 118: "banner", 187: "bicycle", 312: "building", 401: "car",
        461: "central reservation", 597: "container", 1023: "fountain", 1231: "helmet", 1563: "minibike",
        1831: "person", 2131: "road",
        2377: "sidewalk", 2380: "signboard", 2420: "sky", 2616: "streetlight", 2833: "trade name",
        2836: "traffic light", 2855: "tree", 2880: "truck", 2901: "umbrella", 2928: "van", 3113: "alarm",
    }  # fmt: skip
    assert {code: names[CODES_847.index(code)][0] for code in published} == published
    assert len(set(CODES_847)) == len(CODES_847) == len(names)


@pytest.mark.parametrize(("name", "background"), [("pascal-voc-20", 255), ("pascal-voc-20b", 20)])
@pytest.mark.parametrize("inner", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_pascal_voc_ignores_its_background_or_makes_it_a_class(tmp_path, name, background, inner):
    root, output = tmp_path / "voc", tmp_path / "out"
    train, val = voc(root / inner)
    prepare_dataset(name, str(root), str(output))
    assert masks(output) == {
        "JPEGImages/2007_000032.png": expected(background, 0, 19, 255),
        "JPEGImages/2007_000033.png": expected(14, 255, background),
    }
    assert rows(output) == [
        row(output, "JPEGImages/2007_000032.jpg", train, "train"),
        row(output, "JPEGImages/2007_000033.jpg", val, "val"),
    ]
    assert bundled_vocabulary(output) == name


def test_the_augmented_voc_is_all_its_masks_but_those_of_val(tmp_path):
    root, output = tmp_path / "VOC2012", tmp_path / "out"
    train, _ = voc(root)
    added = picture(root / "JPEGImages/2008_000008.jpg")
    for name, value in {"2007_000032": 1, "2007_000033": 15, "2008_000008": 13}.items():
        gray(root / f"SegmentationClassAug/{name}.png", values(value, 0))
    prepare_dataset("pascal-voc-20", str(root), str(output), splits=("trainaug",))
    assert masks(output) == {
        "JPEGImages/2007_000032.png": expected(0, 255),
        "JPEGImages/2008_000008.png": expected(12, 255),
    }
    assert rows(output) == [
        row(output, "JPEGImages/2007_000032.jpg", train, "trainaug"),
        row(output, "JPEGImages/2008_000008.jpg", added, "trainaug"),
    ]


@pytest.mark.parametrize(
    ("name", "dtype", "train_ids", "val_ids"),
    [
        ("pascal-context-459", np.uint16, (1, 396, 426, 457, 458, 0, 65535), (8, 65535)),
        ("pascal-context-59", np.uint8, (0, 49, 54, 58, 255, 255, 255), (1, 255)),
    ],
)
def test_pascal_context_takes_all_459_or_finds_the_59_by_name(tmp_path, name, dtype, train_ids, val_ids):
    root, output = tmp_path / "VOCdevkit", tmp_path / "out"
    train, val = context(root / "VOC2010")
    prepare_dataset(name, str(root), str(output))
    assert masks(output) == {
        "JPEGImages/2008_000002.png": expected(*train_ids, dtype=dtype),
        "JPEGImages/2008_000003.png": expected(*val_ids, dtype=dtype),
    }
    assert rows(output) == [
        row(output, "JPEGImages/2008_000002.jpg", train, "train"),
        row(output, "JPEGImages/2008_000003.jpg", val, "val"),
    ]
    assert bundled_vocabulary(output) == name


def test_the_59_of_pascal_context_are_those_that_everybody_takes():
    """Their numbers among the 459, as the benchmark's preparations list them."""
    found = {value for value, class_id in PASCAL_CONTEXT_59.class_ids().items() if class_id is not None}
    assert sorted(found) == [
        2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
        162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368,
        397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
    ]  # fmt: skip


def test_a_list_that_was_added_goes_before_voc_2010s_own(tmp_path):
    root, output = tmp_path / "VOC2010", tmp_path / "out"
    train, _ = context(root)
    text(root / "pascalcontext_val.txt", "2008_000002")
    prepare_dataset("pascal-context-59", str(root), str(output), splits=("val",))
    assert rows(output) == [row(output, "JPEGImages/2008_000002.jpg", train, "val")]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_picture_is_when_it_is_read(tmp_path, orientation):
    root, output = tmp_path / "ade", tmp_path / "out"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.kron(np.array([[1, 2], [3, 4]], np.uint8), np.ones((8, 16), np.uint8))  # (16, 32) in four quarters
    path = root / "images/validation/ADE_val_00000001.jpg"
    picture(path)
    Image.fromarray(stored * 60).convert("RGB").save(path, exif=exif, quality=95)
    gray(root / "annotations/validation/ADE_val_00000001.png", stored)
    prepare_dataset("ade20k-150", str(root), str(output), splits=("val",))
    (found,) = rows(output)
    seen = decode(path.read_bytes())
    assert (found.height, found.width) == seen.shape[:2]
    mask = np.asarray(Image.open(found.mask_uri))
    assert np.array_equal(mask, np.rint(seen[..., 0] / 60).astype(int) - 1)
