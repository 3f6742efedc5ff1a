"""COCO's two ways to hold every pixel: `coco-panoptic` (Kirillov et al. 2019, arXiv:1801.00868) and `coco-rle`.

A class in a picture is one segment: labels know no instances. Ignored pixels belong to none.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, json_bytes, json_list
from pipeline.export.item import Item, png_bytes
from schemas.vocabulary import Vocabulary

_VOID = 0  # the colour of pixels without a segment; so segment ids are class ids and one


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "Coco":
    """The writer of one of the two formats."""
    return (Panoptic if name == "coco-panoptic" else Rle)(folder, vocabulary, choices.with_images)


class Coco:
    """What both have in common: pictures and categories."""

    file: str

    def __init__(self, folder: Folder, vocabulary: Vocabulary, with_images: bool) -> None:
        self._folder, self._vocabulary, self._with_images = folder, vocabulary, with_images

    def picture(self, item: Item) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        name = item.image_id
        if self._with_images:
            found = item.picture()
            name = f"{item.name}{found.suffix}"
            self._folder.write(f"images/{name}", found.data)
        image = {
            "id": item.number,
            "file_name": name,
            "width": item.row.width,
            "height": item.row.height,
            "coco_url": item.uri,
            "image_id": item.image_id,
        }
        return image, self._annotations(item)

    def shard(self, number: int, found: Iterator[Any]) -> list[Any]:  # noqa: ARG002
        return list(found)

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:
        """Lists are written as they come: an export of millions is never whole in memory."""
        images = (image for part in parts() for image, _ in part)
        annotations = (each for part in parts() for _, some in part for each in some)
        self._folder.write_parts(self.file, self._document(images, annotations))

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        return []

    def _document(self, images: Iterable[Any], annotations: Iterable[Any]) -> Iterator[bytes]:
        categories = json_bytes([_category(each) for each in self._vocabulary.classes])
        yield b'{"info": {"description": ' + json_bytes(f"labels of {self._vocabulary.name}").strip() + b"},\n"
        yield b'"categories": ' + categories.strip() + b',\n"images": '
        yield from json_list(images)
        yield from itertools.chain([b',\n"annotations": '], json_list(annotations), [b"}\n"])

    def _annotations(self, item: Item) -> list[dict[str, Any]]:
        raise NotImplementedError


class Panoptic(Coco):
    """`panoptic.json`, and in `panoptic/` a PNG a picture whose colour R + 256 G + 65536 B is the segment's id."""

    file = "panoptic.json"

    def _annotations(self, item: Item) -> list[dict[str, Any]]:
        mask = item.mask()
        ids = np.where(mask == self._vocabulary.ignore_id, _VOID, mask.astype(np.int32) + 1)
        colors = np.stack([ids & 255, ids >> 8, np.zeros_like(ids)], axis=-1).astype(np.uint8)
        name = f"{item.name}.png"
        self._folder.write(f"panoptic/{name}", png_bytes(Image.fromarray(colors)))
        segments = [
            {"id": class_id + 1, "category_id": class_id, "area": area, "bbox": box, "iscrowd": 0}
            for class_id, area, box in _regions(mask, self._vocabulary.ignore_id)
        ]
        return [{"image_id": item.number, "file_name": name, "segments_info": segments}]


class Rle(Coco):
    """`annotations.json`, one annotation for each class of a picture, as run lengths that pycocotools decodes."""

    file = "annotations.json"

    def _annotations(self, item: Item) -> list[dict[str, Any]]:
        mask = item.mask()
        found = []
        for class_id, area, box in _regions(mask, self._vocabulary.ignore_id):
            encoded = rle.encode(np.asfortranarray((mask == class_id).astype(np.uint8)))
            encoded["counts"] = encoded["counts"].decode()
            about = {"image_id": item.number, "category_id": class_id, "area": area, "bbox": box, "iscrowd": 0}
            found.append({**about, "segmentation": encoded})
        return found

    def _document(self, images: Iterable[Any], annotations: Iterable[Any]) -> Iterator[bytes]:
        numbered = ({"id": number, **each} for number, each in enumerate(annotations, start=1))
        return super()._document(images, numbered)


def _category(each: Any) -> dict[str, Any]:
    parent = each.parent or each.name
    return {"id": each.id, "name": each.name, "supercategory": parent, "isthing": 0, "color": list(each.color)}


def _regions(mask: np.ndarray, ignore_id: int) -> Iterator[tuple[int, int, list[int]]]:
    """Id, area and box (left, top, width, height) of each class in a mask, by id."""
    for class_id in np.unique(mask).tolist():
        if class_id == ignore_id:
            continue
        is_class = mask == class_id
        rows, columns = np.flatnonzero(is_class.any(1)), np.flatnonzero(is_class.any(0))
        left, top = int(columns[0]), int(rows[0])
        yield class_id, int(is_class.sum()), [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
