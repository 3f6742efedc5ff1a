"""`webdataset`: a tar a shard, with picture, mask and a JSON of each picture under one key."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, class_table, json_bytes
from pipeline.export.item import Item, png_bytes
from schemas.vocabulary import Vocabulary


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "WebDataset":  # noqa: ARG001
    """The writer of the format."""
    return WebDataset(folder, vocabulary)


class WebDataset:
    """`shard-<number>.tar`. Keys are numbers: WebDataset ends a key at the first dot, and image ids have any."""

    def __init__(self, folder: Folder, vocabulary: Vocabulary) -> None:
        self._folder, self._vocabulary = folder, vocabulary

    def picture(self, item: Item) -> list[tuple[str, bytes]]:
        found = item.picture()
        about = {"image_id": item.image_id, "uri": item.uri, "vocabulary": self._vocabulary.name}
        key = f"{item.number:012d}"
        return [
            (f"{key}.image{found.suffix}", found.data),
            (f"{key}.mask.png", png_bytes(Image.fromarray(item.mask()))),
            (f"{key}.json", json.dumps(about).encode()),
        ]

    def shard(self, number: int, found: Iterator[list[tuple[str, bytes]]]) -> list[Any]:
        with self._folder.new_file(f"shard-{number:06d}.tar") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for members in found:
                for name, data in members:
                    info = tarfile.TarInfo(name)  # of no time and nobody: the same bytes each time
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return []

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:  # noqa: ARG002
        words = self._vocabulary
        table = {"vocabulary": words.name, "ignore_id": words.ignore_id, "classes": class_table(words)}
        self._folder.write("classes.json", json_bytes(table))

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        return []
