"""What a format of an export is, and which there are."""

import importlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.export.folder import Folder
from pipeline.export.item import Item
from schemas.errors import InputError
from schemas.spelling import did_you_mean
from schemas.vocabulary import Vocabulary

FORMATS = {
    "png": "png",
    "coco-panoptic": "coco",
    "coco-rle": "coco",
    "huggingface": "huggingface",
    "webdataset": "webdataset",
    "yolo-seg": "yolo",
    "label-studio": "label_studio",
    "cvat": "cvat",
    "fiftyone": "png",
}  # name -> module of this package, which has a `make(name, ...)`


@dataclass(frozen=True)
class Choices:
    """What may be chosen for a format.

    Args:
        with_images: copy the pictures too, where the format does not do so anyway.
        shift_ids: class ids one higher and 0 for ignore.
    """

    with_images: bool = False
    shift_ids: bool = False


class Format(Protocol):
    """Writes the files of one format. Names come from items, which are safe; a shard written twice is the same."""

    def picture(self, item: Item) -> Any:
        """Write what is one picture's alone; any number of threads may call.

        Returns what `shard` needs of it.

        Raises:
            PictureError: the picture is needed and cannot be read; it is left out.
        """

    def shard(self, number: int, found: Iterator[Any]) -> list[Any]:
        """Write what is one shard's, and return what `finish` needs of it, as JSON can hold it."""

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:
        """Write what is the whole export's. `parts` gives what `shard` returned, shard after shard, each time."""

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:
        """What the format could not hold, one line each."""


def make_format(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> Format:
    """The writer of a format."""
    return importlib.import_module(f"pipeline.export.{FORMATS[name]}").make(name, folder, vocabulary, choices)


def check_choices(name: str, vocabulary: Vocabulary, choices: Choices) -> None:
    """Refuse a format that is not there and choices without effect.

    Raises:
        InputError: it is so.
    """
    if name not in FORMATS:
        raise InputError(f"no format {name!r}{did_you_mean(name, FORMATS)}; expected one of {', '.join(FORMATS)}")
    if choices.shift_ids and name not in ("png", "fiftyone"):
        raise InputError(f"--shift-ids goes with the formats png and fiftyone, not with {name}; leave it out")
    if choices.with_images and name not in ("png", "coco-panoptic", "coco-rle", "cvat"):
        has = "has no place for pictures" if name == "label-studio" else "holds the pictures anyway"
        raise InputError(f"--with-images: {name} {has}; leave it out")
    if choices.shift_ids and max(each.id for each in vocabulary.classes) >= vocabulary.ignore_id - 1:
        raise InputError(f"--shift-ids: vocabulary {vocabulary.name!r} has a class of the highest id; leave it out")


def class_table(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Id, name and colour of each class, by id."""
    ordered = sorted(vocabulary.classes, key=lambda each: each.id)
    return [{"id": each.id, "name": each.name, "color": list(each.color)} for each in ordered]


def json_bytes(value: Any) -> bytes:
    """Plain data as indented text."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def json_list(values: Iterable[Any]) -> Iterator[bytes]:
    """A JSON list, one value a line, never whole in memory."""
    comma = itertools.chain([b"\n"], itertools.repeat(b",\n"))
    yield b"["
    for value in values:
        yield next(comma) + json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
    yield b"\n]"
