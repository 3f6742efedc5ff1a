"""PASCAL Context (Mottaghi et al. 2014, CVPR): VOC 2010's pictures with a class in every pixel, 459 or the frequent 59.

The masks are MATLAB files whose `LabelMap` holds 1 to 459, the lines of labels.txt, and 0 where nobody labelled. The 59
are found among the 459 by name, and the others ignored. Published figures take the 59 from the Detail API's
trainval_merged.json, a later edition of the same annotations.
"""

from pathlib import Path

from pipeline.datasets.archives import Dataset, LabelledPicture, below, find_file, find_folder, pair, read_list
from pipeline.datasets.mask_files import read_label_map
from pipeline.vocabularies import load_vocabulary

_OUTER = ("", "VOC2010", "VOCdevkit/VOC2010")
_LAYOUT = "VOCdevkit/VOC2010/{JPEGImages/*.jpg,ImageSets/Main/{train,val}.txt} and trainval/*.mat beside JPEGImages"
_N_LABELS = 459
_NAME_AMONG_THE_459 = {"diningtable": "table"}


def _list_pictures(root: Path, split: str) -> list[LabelledPicture]:
    """The pictures that a list names: one that was added (CAT-Seg's, mmsegmentation's), else VOC 2010's own."""
    pictures = find_folder(root, below(_OUTER, "JPEGImages"), _LAYOUT)
    masks = find_folder(root, below(_OUTER, "trainval"), _LAYOUT)
    lists = [f"{split}.txt", f"pascalcontext_{split}.txt"]
    lists += [f"ImageSets/{folder}/{split}.txt" for folder in ("SegmentationContext", "Main")]
    stems = read_list(find_file(root, [path for each in lists for path in below(_OUTER, each)], _LAYOUT))
    return pair(stems, pictures, masks, ".mat")


def _class_ids_459() -> dict[int, int | None]:
    return {0: None, **{value: value - 1 for value in range(1, _N_LABELS + 1)}}


def _class_ids_59() -> dict[int, int | None]:
    value_of = {each.name: each.id + 1 for each in load_vocabulary("pascal-context-459").classes}
    frequent = load_vocabulary("pascal-context-59").classes
    ignored: dict[int, int | None] = dict.fromkeys(range(_N_LABELS + 1))
    return ignored | {value_of[_NAME_AMONG_THE_459.get(each.name, each.name)]: each.id for each in frequent}


PASCAL_CONTEXT_459 = Dataset(
    name="pascal-context-459",
    archives="VOCtrainval_03-May-2010.tar, trainval.tar.gz",
    layout=_LAYOUT,
    n_official={"train": 4_998, "val": 5_105},
    list_pictures=_list_pictures,
    read_values=read_label_map,
    class_ids=_class_ids_459,
)
PASCAL_CONTEXT_59 = Dataset(
    name="pascal-context-59",
    archives=PASCAL_CONTEXT_459.archives,
    layout=_LAYOUT,
    n_official=PASCAL_CONTEXT_459.n_official,
    list_pictures=_list_pictures,
    read_values=read_label_map,
    class_ids=_class_ids_59,
)
