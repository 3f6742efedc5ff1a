"""Folders of masks: `png`, as ADE20K and mmsegmentation have them, and `fiftyone`'s ImageSegmentationDirectory.

8-bit masks carry the vocabulary's colours as a palette, so that a viewer shows them while readers find class ids.
16-bit masks are gray: PNG knows no palette of more than 256 colours.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, class_table, json_bytes
from pipeline.export.item import Item, png_bytes
from schemas.vocabulary import IGNORE_ID_8_BIT, Vocabulary


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "MaskFolders":
    """The writer of one of the two formats."""
    if name == "fiftyone":
        return MaskFolders(folder, vocabulary, ("data", "labels"), with_images=True, shift_ids=choices.shift_ids)
    return MaskFolders(folder, vocabulary, ("images", "annotations"), choices.with_images, choices.shift_ids)


class MaskFolders:
    """A folder of pictures, if asked for, and one of masks with the same names.

    Args:
        names: of the two folders.
        shift_ids: ids one higher, and 0 for ignore: mmsegmentation's `reduce_zero_label=True` takes that back.
    """

    def __init__(
        self, folder: Folder, vocabulary: Vocabulary, names: tuple[str, str], with_images: bool, shift_ids: bool
    ) -> None:
        self._folder, self._vocabulary, self._names = folder, vocabulary, names
        self._with_images, self._shift = with_images, shift_ids
        self._palette = _palette(vocabulary, shift_ids)

    def picture(self, item: Item) -> None:
        images, masks = self._names
        if self._with_images:
            found = item.picture()
            self._folder.write(f"{images}/{item.name}{found.suffix}", found.data)
        self._folder.write(f"{masks}/{item.name}.png", self._encode(item.mask()))

    def shard(self, number: int, found: Iterator[None]) -> list[Any]:  # noqa: ARG002
        return [None for _ in found][:0]

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:  # noqa: ARG002
        words, step = self._vocabulary, int(self._shift)
        classes = [{**each, "id": each["id"] + step} for each in class_table(words)]
        ignore_id = 0 if self._shift else words.ignore_id
        table = {"vocabulary": words.name, "ignore_id": ignore_id, "reduce_zero_label": self._shift, "classes": classes}
        self._folder.write("classes.json", json_bytes(table))
        if self._names[1] == "labels":
            targets = {str(each["id"]): each["name"] for each in classes}
            self._folder.write("mask_targets.json", json_bytes(targets))

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        notes = []
        if self._vocabulary.ignore_id > IGNORE_ID_8_BIT:
            notes.append("masks of 16 bits have no palette: viewers show them nearly black")
        if self._names[1] == "labels" and not self._shift and any(c.id == 0 for c in self._vocabulary.classes):
            notes.append("FiftyOne's app draws nothing where the id is 0; --shift-ids makes class 0 visible")
        return notes

    def _encode(self, mask: np.ndarray) -> bytes:
        if self._shift:
            mask = np.where(mask == self._vocabulary.ignore_id, 0, mask + 1).astype(mask.dtype)
        image = Image.fromarray(mask)
        if mask.dtype == np.uint8:
            image.putpalette(self._palette)
        return png_bytes(image)


def _palette(vocabulary: Vocabulary, shifted: bool) -> list[int]:
    """256 colours; ignore is black."""
    colors = np.zeros((256, 3), np.uint8)
    for each in vocabulary.classes:
        if each.id + shifted < 256:
            colors[each.id + shifted] = each.color
    return colors.ravel().tolist()
