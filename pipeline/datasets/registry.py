"""The datasets by name: each has the name of the bundled vocabulary whose ids its masks get."""

from pipeline.datasets.ade20k import ADE20K_150, ADE20K_847
from pipeline.datasets.archives import Dataset
from pipeline.datasets.coco_stuff import COCO_STUFF_171
from pipeline.datasets.pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_459
from pipeline.datasets.pascal_voc import PASCAL_VOC_20, PASCAL_VOC_20B
from schemas.errors import InputError
from schemas.spelling import did_you_mean

DATASETS = {
    each.name: each
    for each in (
        COCO_STUFF_171, ADE20K_150, ADE20K_847, PASCAL_VOC_20, PASCAL_VOC_20B, PASCAL_CONTEXT_59, PASCAL_CONTEXT_459,
    )
}  # fmt: skip


def find_dataset(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        InputError: there is none; says which there are.
    """
    if name not in DATASETS:
        raise InputError(f"{name}: no such dataset{did_you_mean(name, DATASETS)}; known are {', '.join(DATASETS)}")
    return DATASETS[name]
