"""Archives that are not as they should be: one line each that names the file and what was expected."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.prepare import prepare_dataset
from schemas.errors import InputError, SourceError
from tests.pipeline.datasets.dataset_files import ade, context, gray, label_map, picture, text, values, voc


def prepare_ade(tmp_path: Path) -> None:
    prepare_dataset("ade20k-150", str(tmp_path / "ade"), str(tmp_path / "out"), splits=("val",))


def test_a_value_that_is_no_class_is_an_error(tmp_path):
    ade(tmp_path / "ade", values(1, 151))
    with pytest.raises(
        SourceError, match=r"ADE_val_00000001\.png: holds the value 151, which is no class of ade20k-150"
    ):
        prepare_ade(tmp_path)
    assert not (tmp_path / "out/manifest.parquet").exists()


def test_a_category_that_coco_never_annotated_is_an_error(tmp_path):
    picture(tmp_path / "coco/val2017/1.jpg")
    gray(tmp_path / "coco/val2017/1.png", values(11))
    with pytest.raises(SourceError, match="holds the value 11, which is no class of coco-stuff-171"):
        prepare_dataset("coco-stuff-171", str(tmp_path / "coco"), str(tmp_path / "out"), splits=("val",))


def test_a_mask_of_another_size_is_an_error(tmp_path):
    ade(tmp_path / "ade", np.ones((16, 12), np.uint8))
    with pytest.raises(SourceError, match=r"ADE_val_00000001\.png: is 12 x 16, expected 16 x 12 as .*00001\.jpg"):
        prepare_ade(tmp_path)


def test_a_mask_in_colours_is_an_error(tmp_path):
    ade(tmp_path / "ade", np.zeros((12, 16, 3), np.uint8))
    with pytest.raises(SourceError, match=r"00001\.png: is a RGB picture, expected an 8-bit gray or palette PNG"):
        prepare_ade(tmp_path)


@pytest.mark.parametrize(
    "broken", ["images/validation/ADE_val_00000001.jpg", "annotations/validation/ADE_val_00000001.png"]
)
def test_a_damaged_file_is_named(tmp_path, broken):
    ade(tmp_path / "ade", values(1))
    path = tmp_path / "ade" / broken
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(SourceError, match=rf"{path.name}: cannot be read as a .*; unpack the archive again"):
        prepare_ade(tmp_path)


def test_a_damaged_matlab_file_is_named(tmp_path):
    context(tmp_path / "VOC2010")
    (tmp_path / "VOC2010/trainval/2008_000003.mat").write_bytes(b"MATLAB 5.0 " * 30)
    with pytest.raises(SourceError, match=r"2008_000003\.mat: cannot be read as a MATLAB file"):
        prepare_dataset("pascal-context-59", str(tmp_path / "VOC2010"), str(tmp_path / "out"))
    label_map(tmp_path / "VOC2010/trainval/2008_000003.mat", np.zeros((12, 16)))
    with pytest.raises(SourceError, match=r"2008_000003\.mat: holds a LabelMap of shape \(12, 16\) and type float64"):
        prepare_dataset("pascal-context-59", str(tmp_path / "VOC2010"), str(tmp_path / "out"))


def test_a_picture_without_a_mask_and_one_that_is_only_listed_are_errors(tmp_path):
    voc(tmp_path / "VOC2012")
    (tmp_path / "VOC2012/SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(
        SourceError, match=r"2007_000033\.jpg: has no mask, expected .*SegmentationClass/2007_000033\.png"
    ):
        prepare_dataset("pascal-voc-20", str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}-out"))
    (tmp_path / "VOC2012/JPEGImages/2007_000032.jpg").unlink()
    with pytest.raises(SourceError, match=r"2007_000032\.jpg: is in the split's list and not there"):
        prepare_dataset("pascal-voc-20", str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}-out"))
    street = tmp_path / "images/ADE/validation/urban/street"
    picture(street / "ADE_val_00000002.jpg")
    with pytest.raises(SourceError, match=r"00002\.jpg: has no mask, expected .*ADE_val_00000002_seg\.png"):
        prepare_dataset("ade20k-847", str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}-out"), splits=("val",))


def test_an_empty_split_is_an_error(tmp_path):
    for folder in ("images/training", "annotations/training"):
        (tmp_path / "ade" / folder).mkdir(parents=True)
    with pytest.raises(SourceError, match="split train of ade20k-150 is empty, expected 20,210 pictures"):
        prepare_dataset("ade20k-150", str(tmp_path / "ade"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_root_without_the_archives_says_what_is_there_and_what_should_be(tmp_path):
    root = tmp_path / "downloads"
    text(root / "ADEChallengeData2016.zip", "")
    with pytest.raises(SourceError) as caught:
        prepare_dataset("ade20k-150", str(root), str(tmp_path / "out"), splits=("val",))
    assert str(caught.value) == (
        f"{root}: found ADEChallengeData2016.zip, expected images/validation or "
        "ADEChallengeData2016/images/validation; unpacked, the archives give "
        "ADEChallengeData2016/images/{training,validation}/*.jpg and "
        ".../annotations/{training,validation}/*.png"
    )
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        prepare_dataset("ade20k-150", str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ade20k150", "r", "o"), "ade20k150: no such dataset; did you mean 'ade20k-150'"),
        (("ade20k-150", "s3://bucket/ade", "o"), "s3://bucket/ade: is no local folder"),
        (("ade20k-150", "r", "s3://bucket/ade"), "s3://bucket/ade: is no local folder"),
    ],
)
def test_what_is_no_dataset_and_no_folder_is_an_error(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        prepare_dataset(*arguments)
    assert str(caught.value).startswith(message)


def test_a_split_that_the_dataset_lacks_is_an_error(tmp_path):
    with pytest.raises(InputError, match="trainaug: no split of ade20k-150, which has train, val"):
        prepare_dataset("ade20k-150", str(tmp_path), str(tmp_path / "out"), splits=("trainaug",))


def test_matlab_files_without_scipy_are_one_line(tmp_path, monkeypatch):
    context(tmp_path / "VOC2010")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match="scipy is not installed; run: pip install"):
        prepare_dataset("pascal-context-59", str(tmp_path / "VOC2010"), str(tmp_path / "out"))
