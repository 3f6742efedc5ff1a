"""How much a picture is worth a person's time, from the statistics in its label row alone.

Four numbers from 0 to 1, and the score is their mean. Three of them are the picture's own:

    unsure   1 - (1 - ignored_fraction) * margin_mean: how little the winners lead, ignored pixels counting as no lead
    rare     of its rarest class log(N / n) / log(N), where n of N labelled pictures have the class; a class with less
             than a hundredth of the picture counts in proportion
    odd      half the sum of |share - mean share| over classes and ignore, the mean being that of its shard: the total
             variation distance of two histograms

The fourth, `new`, depends on what is chosen already (`spreading`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np
import pyarrow as pa

from pipeline.output.class_table import ClassTable

COLUMNS = ("image_id", "status", "classes", "margin_mean", "ignored_fraction")

_WHOLE_CLASS = 0.01  # of a picture


@dataclass(frozen=True)
class ShardScores:
    """Of the labelled pictures of a shard, one value each; (N,).

    Args:
        position: in the shard.
        rarest: id of the class that `rare` speaks of; -1 if nothing is labelled.
        histogram: (N, K + 1) shares of the classes, in the order of `class_ids`, and of ignore.
        class_ids: (K,) those that occur in the shard.
    """

    position: np.ndarray
    unsure: np.ndarray
    rare: np.ndarray
    odd: np.ndarray
    rarest: np.ndarray
    histogram: np.ndarray
    class_ids: np.ndarray


def rarities(pictures: Mapping[int, int], n_pictures: int) -> dict[int, float]:
    """By class id, in [0, 1]: 0 if every picture has it, 1 if one has.

    Args:
        pictures: by class id, how many of the labelled pictures have it.
    """
    if n_pictures < 2:
        return dict.fromkeys(pictures, 0.0)
    return {class_id: log(n_pictures / max(1, n)) / log(n_pictures) for class_id, n in pictures.items()}


def score_shard(table: pa.Table, rarity: Mapping[int, float]) -> ShardScores:
    """The numbers of each labelled picture.

    Args:
        table: `COLUMNS` of a shard.
        rarity: see `rarities`.
    """
    classes = ClassTable.of(table["classes"])
    class_ids, column = np.unique(classes.class_id, return_inverse=True)
    histogram = np.zeros((table.num_rows, len(class_ids) + 1))
    histogram[classes.row, column] = classes.values["fraction"]
    histogram[:, -1] = _values(table["ignored_fraction"], 0.0)
    is_labelled = np.asarray(table["status"].to_pylist()) == "labelled"
    position = np.flatnonzero(is_labelled)
    histogram = histogram[position]
    margin = _values(table["margin_mean"], 0.0)[position]
    weights = np.array([rarity.get(class_id, 0.0) for class_id in class_ids.tolist()])
    rare = np.minimum(1.0, histogram[:, :-1] / _WHOLE_CLASS) * weights
    best = rare.argmax(axis=1) if rare.size else np.zeros(len(position), np.int64)
    has_class = (histogram[:, :-1] > 0).any(axis=1)
    return ShardScores(
        position=position,
        unsure=1.0 - (1.0 - histogram[:, -1]) * margin,
        rare=rare.max(axis=1) if rare.size else np.zeros(len(position)),
        odd=np.abs(histogram - histogram.mean(axis=0)).sum(axis=1) / 2 if len(position) else np.zeros(0),
        rarest=np.where(has_class, class_ids[best] if len(class_ids) else -1, -1),
        histogram=histogram,
        class_ids=class_ids,
    )


def _values(column: pa.ChunkedArray, missing: float) -> np.ndarray:
    return column.fill_null(missing).to_numpy()
