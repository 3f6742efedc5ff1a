"""Which pictures a report shows: kept while statistics pass by, chosen at the end. No chance is in it."""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.output.class_table import ClassTable
from schemas.job import ShardRef

SHEETS = ("random", "unsure", "rare", "ignored")
PICTURES_A_CLASS = 6  # largest, and as many of which the model is unsure, if there is room
SMALLEST_SHOWN = 0.005  # of the picture: a class with less of it is no example of a class that the model is unsure of

ClassKey = tuple[str, int]  # name of the vocabulary, class id


@dataclass(frozen=True, order=True)
class Pick:
    """A picture: its shard, and its position in it."""

    image_id: str
    ref: ShardRef = field(compare=False)
    position: int = field(compare=False)


@dataclass(order=True)
class _Ranked:
    """Kept in a heap whose least item goes first."""

    rank: float
    pick: Pick


class _Best:
    """The `n` picks of the highest rank."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._heap: list[_Ranked] = []

    def offer(self, rank: float, pick: Pick) -> None:
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, _Ranked(rank, pick))
        elif self._n and rank > self._heap[0].rank:
            heapq.heapreplace(self._heap, _Ranked(rank, pick))

    def sorted(self) -> list[Pick]:
        return [each.pick for each in sorted(self._heap, key=lambda each: (-each.rank, each.pick))]


@dataclass
class Chosen:
    """The pictures of a report, each once, and the sheets: numbers of pictures in the order in which they are shown."""

    picks: list[Pick] = field(default_factory=list)
    sheets: dict[str, list[int]] = field(default_factory=dict)

    def take(self, pick: Pick) -> int:
        """Its number; a picture that is there already keeps the one it has."""
        if pick not in self.picks:
            self.picks.append(pick)
        return self.picks.index(pick)


class Candidates:
    """Pictures that may be shown: at most `n` for each sheet, and a few for each class."""

    def __init__(self, n: int) -> None:
        self._random, self._unsure, self._ignored = _Best(n), _Best(n), _Best(n)
        self._by_class: dict[ClassKey, dict[str, _Best]] = {}

    def add_rows(self, ref: ShardRef, rows: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Labelled rows of a sampled shard by position."""
        for position, row in rows:
            pick = Pick(row["image_id"], ref, position)
            self._random.offer(_lot(row["image_id"]), pick)
            if row["confidence_mean"] is not None:
                self._unsure.offer(-row["confidence_mean"], pick)
            if row["ignored_fraction"]:
                self._ignored.offer(row["ignored_fraction"], pick)

    def add_classes(self, ref: ShardRef, image_ids: Sequence[str], table: ClassTable) -> None:
        """The classes in the pictures of a shard: of each class the largest, and those of which it is least sure."""
        fraction, confidence = table.values["fraction"], table.values["confidence_mean"]
        unsure = np.where(fraction >= SMALLEST_SHOWN, -confidence, -np.inf)
        for kind, rank in (("largest", fraction), ("unsure", unsure)):
            order = np.lexsort((table.row, -rank, table.class_id))
            _, first, counts = np.unique(table.class_id[order], return_index=True, return_counts=True)
            place = np.arange(len(order)) - np.repeat(first, counts)  # of a picture among those with its class
            for k in order[(place < PICTURES_A_CLASS) & np.isfinite(rank[order])].tolist():
                row = int(table.row[k])
                best = self._by_class.setdefault((ref.vocabulary, int(table.class_id[k])), {})
                best.setdefault(kind, _Best(PICTURES_A_CLASS)).offer(float(rank[k]), Pick(image_ids[row], ref, row))

    def choose(self, n_pictures: int, classes: Sequence[ClassKey]) -> Chosen:
        """At most `n_pictures`: a sixth of them for each sheet, what is left for the pages of the classes.

        Args:
            classes: those that occur, the rarest first.
        """
        chosen = Chosen()
        a_sheet = max(1, n_pictures // 6)
        rare = [best["largest"].sorted()[0] for key in classes if (best := self._by_class.get(key))]
        found = {
            "random": self._random.sorted(),
            "unsure": self._unsure.sorted(),
            "rare": list(dict.fromkeys(rare)),
            "ignored": self._ignored.sorted(),
        }
        for sheet in SHEETS:
            some = found[sheet][: min(a_sheet, n_pictures - len(chosen.picks))]
            chosen.sheets[sheet] = [chosen.take(pick) for pick in some]
        self._fill(chosen, n_pictures, classes)
        return chosen

    def _fill(self, chosen: Chosen, n_pictures: int, classes: Sequence[ClassKey]) -> None:
        """Give every class its largest example, then one of which the model is unsure, then the next of each."""
        best = [{kind: each.sorted() for kind, each in self._by_class.get(key, {}).items()} for key in classes]
        for place in range(PICTURES_A_CLASS):
            for kind in ("largest", "unsure"):
                for of_class in best:
                    if len(chosen.picks) >= n_pictures:
                        return
                    if place < len(of_class.get(kind, ())):
                        chosen.take(of_class[kind][place])


def _lot(image_id: str) -> float:
    """A number in [0, 1) that the name alone decides, so that the same pictures are drawn every time."""
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
