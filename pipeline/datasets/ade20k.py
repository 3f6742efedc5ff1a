"""ADE20K (Zhou et al. 2019, arXiv:1608.05442): the scene parsing benchmark of 150 classes, and 847 of the full release.

The benchmark's masks hold 1 to 150, and 0 for everything else. In the full release the red and green channel of
`*_seg.png` make the number of a class among some 3,700, of which the 847 are those of `ade20k_codes`; the others are
ignored. Pictures and masks keep their full size: MaskFormer's preparation, which published figures go back to,
shrinks those whose shorter side is over 512 pixels.
"""

import os
from pathlib import Path

from pipeline.datasets.ade20k_codes import CODES_847
from pipeline.datasets.archives import (
    Dataset,
    LabelledPicture,
    below,
    find_folder,
    jpeg_stems,
    missing_mask,
    pair,
)
from pipeline.datasets.mask_files import MAX_ADE_CODE, read_ade_codes, read_gray_png

_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT_150 = "ADEChallengeData2016/images/{training,validation}/*.jpg and .../annotations/{training,validation}/*.png"
_LAYOUT_847 = "ADE20K_2021_17_01/images/ADE/{training,validation}/*/*/ADE_*.jpg with *_seg.png beside them"


def _list_150(root: Path, split: str) -> list[LabelledPicture]:
    outer = ("", "ADEChallengeData2016")
    pictures = find_folder(root, below(outer, f"images/{_FOLDERS[split]}"), _LAYOUT_150)
    masks = find_folder(root, below(outer, f"annotations/{_FOLDERS[split]}"), _LAYOUT_150)
    return pair(jpeg_stems(pictures), pictures, masks)


def _list_847(root: Path, split: str) -> list[LabelledPicture]:
    """All pictures below the split's folder, by scene; `image_id` begins with that folder's name."""
    top = find_folder(root, below(("", "ADE20K_2021_17_01"), f"images/ADE/{_FOLDERS[split]}"), _LAYOUT_847)
    found = []
    for folder, subfolders, names in os.walk(top):
        there = set(names)
        # Beside a picture lies a folder of its name with a mask of each object: tens of thousands not worth a look.
        subfolders[:] = [name for name in subfolders if f"{name}.jpg" not in there]
        for stem in jpeg_stems(Path(folder)):
            picture, mask = Path(folder, f"{stem}.jpg"), Path(folder, f"{stem}_seg.png")
            if mask.name not in there:
                raise missing_mask(picture, mask)
            found.append(LabelledPicture(picture.relative_to(top.parent).as_posix(), picture, mask))
    return sorted(found, key=lambda each: each.image_id)


def _class_ids_150() -> dict[int, int | None]:
    return {0: None, **{value: value - 1 for value in range(1, 151)}}


def _class_ids_847() -> dict[int, int | None]:
    ignored: dict[int, int | None] = dict.fromkeys(range(MAX_ADE_CODE + 1))
    return ignored | {code: class_id for class_id, code in enumerate(CODES_847)}


ADE20K_150 = Dataset(
    name="ade20k-150",
    archives="ADEChallengeData2016.zip",
    layout=_LAYOUT_150,
    n_official={"train": 20_210, "val": 2_000},
    list_pictures=_list_150,
    read_values=read_gray_png,
    class_ids=_class_ids_150,
)
ADE20K_847 = Dataset(
    name="ade20k-847",
    archives="ADE20K_2021_17_01.zip",
    layout=_LAYOUT_847,
    n_official={"train": 25_574, "val": 2_000},
    list_pictures=_list_847,
    read_values=read_ade_codes,
    class_ids=_class_ids_847,
)
