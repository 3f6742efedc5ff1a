"""`label-studio`: tasks with brush masks as predictions, and the labelling configuration that goes with them."""

from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from pipeline.export.brush import encode_brush
from pipeline.export.folder import Folder
from pipeline.export.formats import Choices, json_list
from pipeline.export.item import Item
from schemas.vocabulary import Vocabulary


def make(name: str, folder: Folder, vocabulary: Vocabulary, choices: Choices) -> "LabelStudio":  # noqa: ARG001
    """The writer of the format."""
    return LabelStudio(folder, vocabulary)


class LabelStudio:
    """`tasks-<shard>.json`, to be imported one by one, and `config.xml`. A class in a picture is one brush region."""

    def __init__(self, folder: Folder, vocabulary: Vocabulary) -> None:
        self._folder, self._vocabulary = folder, vocabulary
        self._names = {each.id: each.name for each in vocabulary.classes}

    def picture(self, item: Item) -> dict[str, Any]:
        mask = item.mask()
        ids = [each for each in np.unique(mask).tolist() if each != self._vocabulary.ignore_id]
        result = [self._region(mask == class_id, class_id) for class_id in ids]
        model = item.labels.job.model
        return {
            "id": item.number,
            "data": {"image": item.uri, "image_id": item.image_id},
            "predictions": [{"model_version": f"{model.name} {model.fingerprint}", "result": result}],
        }

    def shard(self, number: int, found: Iterator[dict[str, Any]]) -> list[Any]:
        self._folder.write_parts(f"tasks-{number:06d}.json", json_list(found))
        return []

    def finish(self, parts: Callable[[], Iterator[list[Any]]]) -> None:  # noqa: ARG002
        labels = [
            f'    <Label value={quoteattr(each.name)} background="#{bytes(each.color).hex()}"/>'
            for each in self._vocabulary.classes
        ]
        lines = ["<View>", '  <Image name="image" value="$image" zoom="true"/>', _BRUSH, *labels, "  </BrushLabels>"]
        self._folder.write("config.xml", "\n".join([*lines, "</View>", ""]).encode())

    def notes(self, parts: Callable[[], Iterator[list[Any]]]) -> list[str]:  # noqa: ARG002
        return ["Label Studio fetches pictures from where they lie; it needs storage that it may read"]

    def _region(self, is_class: np.ndarray, class_id: int) -> dict[str, Any]:
        height, width = is_class.shape
        return {
            "id": f"class-{class_id}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": encode_brush(is_class), "brushlabels": [self._names[class_id]]},
        }


_BRUSH = '  <BrushLabels name="label" toName="image">'
