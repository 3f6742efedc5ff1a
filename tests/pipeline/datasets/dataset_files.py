"""Small archives in the layout of the official ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE_WH = (16, 12)


def picture(path: Path, size_wh=SIZE_WH, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, "gray").save(path, **options)
    return path


def values(*left_to_right: int, dtype=np.uint8) -> np.ndarray:
    """(12, 16) columns of equal values: the last one fills what the others leave, less a corner of the first."""
    mask = np.full(SIZE_WH[::-1], left_to_right[-1], dtype)
    mask[:, : len(left_to_right)] = left_to_right
    mask[-1, -1] = left_to_right[0]
    return mask


def gray(path: Path, mask: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def label_map(path: Path, mask: np.ndarray) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"LabelMap": mask}, do_compression=True)


def ade_code(path: Path, codes: np.ndarray) -> None:
    """As the release encodes them: red is ten times the high byte, green the low byte, blue an object."""
    objects = np.arange(codes.size, dtype=np.uint16).reshape(codes.shape) % 7
    Image.fromarray(np.stack([codes // 256 * 10, codes % 256, objects], axis=2).astype(np.uint8)).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def voc(root: Path) -> tuple[Path, Path]:
    train, val = (picture(root / f"JPEGImages/{name}.jpg") for name in ("2007_000032", "2007_000033"))
    picture(root / "JPEGImages/2007_000027.jpg")  # of a challenge other than segmentation
    gray(root / "SegmentationClass/2007_000032.png", values(0, 1, 20, 255), mode="P")
    gray(root / "SegmentationClass/2007_000033.png", values(15, 255, 0), mode="P")
    text(root / "ImageSets/Segmentation/train.txt", "2007_000032")
    text(root / "ImageSets/Segmentation/val.txt", "2007_000033", "")
    return train, val


def context(root: Path) -> tuple[Path, Path]:
    train, val = (picture(root / f"JPEGImages/{name}.jpg") for name in ("2008_000002", "2008_000003"))
    # 2 aeroplane, 397 table, 427 tvmonitor, 458 wood, 459 wool, 1 accordion, 0 unlabelled
    label_map(root / "trainval/2008_000002.mat", values(2, 397, 427, 458, 459, 1, 0, dtype=np.uint16))
    label_map(root / "trainval/2008_000003.mat", values(9, 0, dtype=np.uint16))
    text(root / "ImageSets/Main/train.txt", "2008_000002")
    text(root / "ImageSets/Main/val.txt", "2008_000003")
    return train, val


def ade(root: Path, mask: np.ndarray) -> None:
    picture(root / "images/validation/ADE_val_00000001.jpg")
    gray(root / "annotations/validation/ADE_val_00000001.png", mask)
