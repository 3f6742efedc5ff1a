"""`yolo-seg`: Ultralytics' segmentation data, one polygon a line.

Polygons have no holes and no ignored pixels, so this format loses both. They run along the edges of the pixels, the
largest first: what lies in a hole and is of a class is drawn over it again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices
from pipeline.export.item import Item
from pipeline.export.polygons import area, outlines
from schemas.vocabulary import Vocabulary


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "Yolo":  # noqa: ARG001
    """The writer of the format."""
    return Yolo(folder, vocabulary)


class Yolo:
    """`images/train/`, `labels/train/` and `dataset.yaml`. Classes are numbered from 0 in the order of their ids."""

    def __init__(self, folder: Folder, vocabulary: Vocabulary) -> None:
        self._folder = folder
        ordered = sorted(vocabulary.classes, key=lambda each: each.id)
        self._numbers = {each.id: k for k, each in enumerate(ordered)}
        self._names = [each.name for each in ordered]

    def picture(self, item: Item) -> int:
        found, mask = item.picture(), item.mask()
        lines, n_holes = [], 0
        for class_id in (each for each in np.unique(mask).tolist() if each in self._numbers):
            for corners in outlines(mask == class_id):
                size = area(corners)
                n_holes += size < 0
                if size > 0:
                    lines.append((-size, self._line(class_id, corners, mask.shape)))
        self._folder.write(f"images/train/{item.name}{found.suffix}", found.data)
        text = "".join(f"{line}\n" for _, line in sorted(lines))
        self._folder.write(f"labels/train/{item.name}.txt", text.encode())
        return n_holes

    def shard(self, number: int, found: Iterator[int]) -> list[Any]:  # noqa: ARG002
        return [sum(found)]

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:  # noqa: ARG002
        import yaml

        data = {"path": ".", "train": "images/train", "val": "images/train", "names": dict(enumerate(self._names))}
        self._folder.write("dataset.yaml", yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode())

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:
        n_holes = sum(part[0] for part in parts())
        note = "polygons hold no ignored pixels and no holes"
        return [f"{note}: {n_holes:,} holes are filled where no smaller polygon lies in them"] if n_holes else [note]

    def _line(self, class_id: int, corners: np.ndarray, size_hw: tuple[int, ...]) -> str:
        points = corners / (size_hw[1], size_hw[0])
        return f"{self._numbers[class_id]} " + " ".join(f"{value:.6f}" for value in points.ravel())
