"""`cvat`: the format that CVAT calls "Segmentation mask 1.1", which is PASCAL VOC's with colours of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices
from pipeline.export.item import Item, png_bytes
from schemas.vocabulary import Vocabulary, class_color

LABELMAP = "labelmap.txt"
CLASS_FOLDER = "SegmentationClass"
BACKGROUND = "background"


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "Cvat":  # noqa: ARG001
    """The writer of the format."""
    return Cvat(folder, vocabulary, choices.with_images)


class Cvat:
    """`labelmap.txt`, `ImageSets/Segmentation/default.txt`, and masks of colours for classes and for objects.

    Labels know no instances, so that the objects are the classes. Ignored pixels are background, black.
    """

    def __init__(self, folder: Folder, vocabulary: Vocabulary, with_images: bool) -> None:
        self._folder, self._vocabulary, self._with_images = folder, vocabulary, with_images
        self._colors = distinct_colors(vocabulary)
        self._table = np.zeros((vocabulary.ignore_id + 1, 3), np.uint8)
        for class_id, color in self._colors.items():
            self._table[class_id] = color

    def picture(self, item: Item) -> str:
        if self._with_images:
            found = item.picture()
            self._folder.write(f"JPEGImages/{item.name}{found.suffix}", found.data)
        data = png_bytes(Image.fromarray(self._table[item.mask()]))
        self._folder.write(f"{CLASS_FOLDER}/{item.name}.png", data)
        self._folder.write(f"SegmentationObject/{item.name}.png", data)
        return item.name

    def shard(self, number: int, found: Iterator[str]) -> list[Any]:  # noqa: ARG002
        return list(found)

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:
        names = (f"{name}\n".encode() for part in parts() for name in part)
        self._folder.write_parts("ImageSets/Segmentation/default.txt", names)
        lines = ["# label:color_rgb:parts:actions", f"{BACKGROUND}:0,0,0::"]
        lines += [f"{self._name(c.name)}:{','.join(map(str, self._colors[c.id]))}::" for c in self._vocabulary.classes]
        self._folder.write(LABELMAP, ("\n".join(lines) + "\n").encode())

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        changed = [c.name for c in self._vocabulary.classes if self._colors[c.id] != c.color]
        notes = ["zip the folder to upload it; in CVAT the task's pictures need the same names, without suffix"]
        return (
            [*notes, f"classes with a colour of another or black got their own: {', '.join(changed)}"]
            if changed
            else notes
        )

    @staticmethod
    def _name(name: str) -> str:
        return name.replace(":", ";")


def distinct_colors(vocabulary: Vocabulary) -> dict[int, tuple[int, int, int]]:
    """By class id the vocabulary's colour, or, where another class has it or it is black, one that no class has."""
    found: dict[int, tuple[int, int, int]] = {}
    taken = {(0, 0, 0)}
    for each in sorted(vocabulary.classes, key=lambda each: each.id):
        color, k = each.color, each.id
        while color in taken:
            color, k = class_color(k), k + 1
        taken.add(color)
        found[each.id] = color
    return found
