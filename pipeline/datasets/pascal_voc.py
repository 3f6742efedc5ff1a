"""PASCAL VOC 2012 (Everingham et al. 2010, IJCV): 20 objects, without background (PAS-20) or with it (PAS-20b).

Masks hold 0 for background, 1 to 20 for the objects, 255 for their outlines and for what is too difficult.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.datasets.archives import Dataset, LabelledPicture, below, find_file, find_folder, pair, read_list
from pipeline.datasets.mask_files import read_gray_png

_N_OBJECTS = 20
_BACKGROUND_ID = 20  # in the vocabulary pascal-voc-20b
_OUTER = ("", "VOC2012", "VOCdevkit/VOC2012")
_LAYOUT = "VOCdevkit/VOC2012/{JPEGImages/*.jpg,SegmentationClass/*.png,ImageSets/Segmentation/{train,val}.txt}"
_AUGMENTED = "trainaug"
_AUGMENTED_LAYOUT = f"{_LAYOUT}, to which SegmentationClassAug.zip adds VOCdevkit/VOC2012/SegmentationClassAug/*.png"


def _list_pictures(root: Path, split: str) -> list[LabelledPicture]:
    pictures = find_folder(root, below(_OUTER, "JPEGImages"), _LAYOUT)
    if split == _AUGMENTED:
        masks = find_folder(root, below(_OUTER, "SegmentationClassAug"), _AUGMENTED_LAYOUT)
        return pair(_augmented_stems(root, masks), pictures, masks)
    masks = find_folder(root, below(_OUTER, "SegmentationClass"), _LAYOUT)
    return pair(_listed_stems(root, split), pictures, masks)


def _listed_stems(root: Path, split: str) -> list[str]:
    return read_list(find_file(root, below(_OUTER, f"ImageSets/Segmentation/{split}.txt"), _LAYOUT))


def _augmented_stems(root: Path, masks: Path) -> list[str]:
    """The masks of the augmented set less those of val: it came without a list of its own, and so are its 10,582."""
    held_out = set(_listed_stems(root, "val"))
    stems = (path.stem for path in masks.glob("*.png") if not path.name.startswith("."))
    return sorted(stem for stem in stems if stem not in held_out)


def _class_ids(background_id: int | None) -> dict[int, int | None]:
    return {0: background_id, 255: None, **{value: value - 1 for value in range(1, _N_OBJECTS + 1)}}


def _dataset(name: str, class_ids: Callable[[], dict[int, int | None]]) -> Dataset:
    return Dataset(
        name=name,
        archives="VOCtrainval_11-May-2012.tar (trainaug: SegmentationClassAug.zip)",
        layout=_LAYOUT,
        n_official={"train": 1_464, "val": 1_449, _AUGMENTED: 10_582},
        extra_splits=(_AUGMENTED,),
        list_pictures=_list_pictures,
        read_values=read_gray_png,
        class_ids=class_ids,
    )


PASCAL_VOC_20 = _dataset("pascal-voc-20", partial(_class_ids, None))
PASCAL_VOC_20B = _dataset("pascal-voc-20b", partial(_class_ids, _BACKGROUND_ID))
