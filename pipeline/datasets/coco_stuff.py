"""COCO-Stuff 164k (Caesar et al. 2018, arXiv:1612.03716): COCO's 2017 pictures with things and stuff in every pixel.

The pixel maps hold COCO's own category ids less one: 0 to 90 things, 91 to 181 stuff, 255 unlabelled. Eleven
of the things were never annotated; without them 171 are left, numbered in order.
"""

from pathlib import Path

from pipeline.datasets.archives import Dataset, LabelledPicture, find_folder, jpeg_stems, pair
from pipeline.datasets.mask_files import read_gray_png

# street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush
_NEVER_ANNOTATED = frozenset((11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90))
_N_CATEGORIES = 182
_UNLABELLED = 255
_LAYOUT = "images/{train2017,val2017}/*.jpg and stuffthingmaps/{train2017,val2017}/*.png"


def _list_pictures(root: Path, split: str) -> list[LabelledPicture]:
    """Pictures in images/ or at the root; maps in stuffthingmaps/, in annotations/, or at the root as they unpack."""
    year = f"{split}2017"
    pictures = find_folder(root, [f"images/{year}", year], _LAYOUT)
    masks = find_folder(root, [f"stuffthingmaps/{year}", f"annotations/{year}", year], _LAYOUT)
    return pair(jpeg_stems(pictures), pictures, masks)


def _class_ids() -> dict[int, int | None]:
    annotated = (value for value in range(_N_CATEGORIES) if value not in _NEVER_ANNOTATED)
    return {_UNLABELLED: None, **{value: class_id for class_id, value in enumerate(annotated)}}


COCO_STUFF_171 = Dataset(
    name="coco-stuff-171",
    archives="train2017.zip, val2017.zip, stuffthingmaps_trainval2017.zip",
    layout=_LAYOUT,
    n_official={"train": 118_287, "val": 5_000},
    list_pictures=_list_pictures,
    read_values=read_gray_png,
    class_ids=_class_ids,
)
