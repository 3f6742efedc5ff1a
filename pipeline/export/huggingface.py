"""`huggingface`: Parquet files that `datasets.load_dataset` opens with pictures and masks as images."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, class_table, json_bytes
from pipeline.export.item import Item, png_bytes
from schemas.vocabulary import Vocabulary

_ROWS_A_GROUP = 32
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES = {
    "image_id": {"dtype": "string", "_type": "Value"},
    "image": {"_type": "Image"},
    "mask": {"_type": "Image"},
}
_SCHEMA = pa.schema([("image_id", pa.string()), ("image", _IMAGE), ("mask", _IMAGE)]).with_metadata(
    {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
)


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "HuggingFace":  # noqa: ARG001
    """The writer of the format."""
    return HuggingFace(folder, vocabulary)


class HuggingFace:
    """`data/train-<shard>.parquet`, one a shard, a card, and `classes.json` with what the values of masks mean."""

    def __init__(self, folder: Folder, vocabulary: Vocabulary) -> None:
        self._folder, self._vocabulary = folder, vocabulary

    def picture(self, item: Item) -> dict[str, Any]:
        found = item.picture()
        mask = png_bytes(Image.fromarray(item.mask()))
        return {
            "image_id": item.image_id,
            "image": {"bytes": found.data, "path": f"{item.name}{found.suffix}"},
            "mask": {"bytes": mask, "path": f"{item.name}.png"},
        }

    def shard(self, number: int, found: Iterator[dict[str, Any]]) -> list[Any]:
        name = f"data/train-{number:06d}.parquet"
        with self._folder.new_file(name) as file, pq.ParquetWriter(file, _SCHEMA) as writer:
            while rows := list(islice(found, _ROWS_A_GROUP)):
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        return []

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:  # noqa: ARG002
        words = self._vocabulary
        table = {"vocabulary": words.name, "ignore_id": words.ignore_id, "classes": class_table(words)}
        self._folder.write("classes.json", json_bytes(table))
        self._folder.write("README.md", _CARD.format(name=words.name, ignore_id=words.ignore_id).encode())

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        return []


_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
task_categories:
- image-segmentation
---
Pictures and masks of the vocabulary {name}. A mask's values are class ids (`classes.json`); {ignore_id} is ignored.
"""
