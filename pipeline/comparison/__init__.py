"""Two runs over the same pictures, compared pixel by pixel: where they agree, class by class, and where they do not."""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.comparison.counts import IGNORED, ClassAgreement, Names, Pairs, agreement, class_agreements, count_pairs
from pipeline.comparison.places import Places
from pipeline.output.labelled import LabelledOutput, open_labelled
from pipeline.picture.budget import PixelBudget
from pipeline.picture.mask_file import read_mask
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import InputError, OutputError
from schemas.labels import LABELLED, LabelRow

DEFAULT_WORST = 20

_COLUMNS = ("width", "height", "mask")
_SHARDS_HELD = 4  # of the second run, whose shards may be cut in another way
_THREADS = 8
_PIXELS_AT_ONCE = 2**25
_BECOMES = 3  # other classes named for each


class Differing(NamedTuple):
    """How far a picture agrees in both, in [0, 1], and in which of the two a person corrected it."""

    image_id: str
    agreement: float
    corrected: tuple[str, ...]


@dataclass
class Comparison:
    """What a comparison found.

    Args:
        first, second: the outputs, without secrets.
        n_compared: pictures labelled in both, with one size.
        n_only_first, n_only_second: pictures that the other one does not have.
        n_failed_first, n_failed_second, n_failed_both: pictures of both without labels in the first, second, both.
        n_other_size: pictures of another size in each.
        n_corrected_first, n_corrected_second: pictures compared of which it is a person's mask.
        pairs: pixels by pair of numbers of names.
        names: of classes, by number; 0 is ignored.
        worst: the pictures that differ most, the worst first.
    """

    first: str
    second: str
    names: tuple[str, ...]
    n_compared: int = 0
    n_only_first: int = 0
    n_only_second: int = 0
    n_failed_first: int = 0
    n_failed_second: int = 0
    n_failed_both: int = 0
    n_other_size: int = 0
    n_corrected_first: int = 0
    n_corrected_second: int = 0
    pairs: Pairs = field(default_factory=Counter)
    worst: list[Differing] = field(default_factory=list)

    @property
    def n_pixels(self) -> int:
        """In the pictures compared."""
        return sum(self.pairs.values())

    @property
    def pixel_agreement(self) -> float:
        """Of all pixels those of one name in both, or ignored in both; in [0, 1]."""
        return agreement(self.pairs)

    @property
    def labelled_agreement(self) -> float | None:
        """Of the pixels that neither ignores; None if there are none."""
        labelled = Counter({key: n for key, n in self.pairs.items() if IGNORED not in key})
        return agreement(labelled) if labelled else None

    @property
    def classes(self) -> list[ClassAgreement]:
        """The names that occur, the lowest IoU first."""
        return class_agreements(self.pairs, self.names, _BECOMES)

    def ignored(self, which: int) -> float:
        """The share of pixels that the first (0) or second (1) ignores."""
        return sum(n for key, n in self.pairs.items() if key[which] == IGNORED) / self.n_pixels

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/report.md describes it."""
        classes = self.classes
        counts = {name: value for name, value in vars(self).items() if name.startswith("n_")}
        return {
            "first": self.first,
            "second": self.second,
            **counts,
            "n_pixels": self.n_pixels,
            "pixel_agreement": self.pixel_agreement,
            "labelled_agreement": self.labelled_agreement,
            "miou": sum(each.iou for each in classes) / len(classes) if classes else None,
            "ignored_first": self.ignored(0),
            "ignored_second": self.ignored(1),
            "per_class": [asdict(each) for each in classes],
            "worst": [each._asdict() for each in self.worst],
        }


def compare(
    first: str, second: str, *, n_worst: int = DEFAULT_WORST, storage: StorageOptions | None = None
) -> Comparison:
    """Compare the labels of the pictures that two outputs share; classes are the same if their names are.

    Shards of the first are read one after another. It is fastest where both have the pictures in one order.

    Raises:
        InputError: an output that cannot be used, or two without a picture to compare.
    """
    storage = storage or StorageOptions()
    a, b = open_labelled(first, storage), open_labelled(second, storage)
    names = Names([*a.vocabularies.values(), *b.vocabularies.values()])
    found = Comparison(a.name, b.name, names.names)
    with Places.of(b) as places:
        _compare_all(found, _Side(a, names), _Side(b, names), places, n_worst)
    if not found.n_compared:
        raise InputError(
            f"{a.name} and {b.name}: no picture of one name and size is labelled in both; compare two runs of a source"
        )
    return found


class _Side:
    """One of the two outputs, with the last few shards that were read."""

    def __init__(self, labels: LabelledOutput, names: Names) -> None:
        self.labels = labels
        self._tables = {name: names.table(words) for name, words in labels.vocabularies.items()}
        self._held: OrderedDict[int, list[LabelRow]] = OrderedDict()

    def shard(self, number: int) -> list[LabelRow]:
        """All rows of a done shard."""
        if number not in self._held:
            self._held[number] = self.labels.rows(self.labels.done[number], _COLUMNS)
            if len(self._held) > _SHARDS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]

    def is_corrected(self, row: LabelRow) -> bool:
        """Is the row's mask a person's?"""
        return (row.vocabulary, row.image_id) in self.labels.overrides

    def numbers(self, row: LabelRow) -> np.ndarray:
        """(H, W) int32: the number of each pixel's name."""
        try:
            mask = read_mask(row.mask or b"", (row.height or 1, row.width or 1))
        except ValueError as error:
            raise OutputError(
                f"{self.labels.name}: labels of {row.image_id!r} cannot be used; its mask: {error}"
            ) from error
        return self._tables[row.vocabulary][mask]


def _compare_all(found: Comparison, a: _Side, b: _Side, places: Places, n_worst: int) -> None:
    budget = PixelBudget(_PIXELS_AT_ONCE)
    heap: list[tuple[float, str, tuple[str, ...]]] = []  # disagreement; the least goes first
    n_shared = n_done = 0

    def pairs_of(rows: tuple[LabelRow, LabelRow]) -> Pairs:
        with budget.take((rows[0].width or 0) * (rows[0].height or 0)):
            return count_pairs(a.numbers(rows[0]), b.numbers(rows[1]))

    refs = a.labels.done
    with Progress(sum(ref.n_rows for ref in refs)) as progress, ThreadPoolExecutor(_THREADS) as pool:
        for number in range(len(refs)):
            shared = list(_shared(found, a.shard(number), b, places))
            n_shared += len(shared)
            both = [rows for rows in shared if _is_comparable(found, *rows)]
            for (row, other), pairs in zip(both, pool.map(pairs_of, both), strict=True):
                found.pairs.update(pairs)
                corrected = _corrected(found, a.is_corrected(row), b.is_corrected(other))
                heapq.heappush(heap, (1.0 - agreement(pairs), row.image_id, corrected))
                if len(heap) > n_worst:
                    heapq.heappop(heap)
            found.n_compared += len(both)
            n_done += refs[number].n_rows
            progress.update(n_done, 0, is_loading=False)
    found.n_only_second = sum(ref.n_rows for ref in b.labels.done) - n_shared
    worst = sorted(heap, key=lambda each: (-each[0], each[1]))
    found.worst = [Differing(image_id, 1.0 - differing, corrected) for differing, image_id, corrected in worst]


def _corrected(found: Comparison, in_first: bool, in_second: bool) -> tuple[str, ...]:
    found.n_corrected_first += in_first
    found.n_corrected_second += in_second
    return tuple(name for name, is_there in (("first", in_first), ("second", in_second)) if is_there)


def _shared(found: Comparison, rows: list[LabelRow], b: _Side, places: Places) -> Iterator[tuple[LabelRow, LabelRow]]:
    """The rows of both sides for the pictures that the second has too, shard after shard of the second."""
    where = places.find([row.image_id for row in rows])
    found.n_only_first += where.count(None)
    known = [(place, row) for place, row in zip(where, rows, strict=True) if place is not None]
    for (shard, position), row in sorted(known, key=lambda item: item[0]):
        yield row, b.shard(shard)[position]


def _is_comparable(found: Comparison, first: LabelRow, second: LabelRow) -> bool:
    has_failed = first.status != LABELLED, second.status != LABELLED
    if all(has_failed):
        found.n_failed_both += 1
    elif has_failed[0]:
        found.n_failed_first += 1
    elif has_failed[1]:
        found.n_failed_second += 1
    elif (first.width, first.height) != (second.width, second.height):
        found.n_other_size += 1
    else:
        return True
    return False
