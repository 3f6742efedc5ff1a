"""Pictures chosen one after another, so that they are spread over the classes.

`new` is how much a picture adds to what is chosen: with h its share of a class and H the sum of the shares in the
chosen ones, the sum over classes of sqrt(H + h) - sqrt(H), by its value for H = 0. It is 1 for classes that no chosen
picture has and falls as they fill up. That is a feature-based function as in Wei, Iyer and Bilmes (2015, "Submodularity
in data subset selection and active learning"), and since `new` can only fall, pictures wait in a heap by the value they
had last (Minoux 1978): few of them are computed again for each one that is chosen.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from schemas.job import ShardRef

ClassShares = tuple[tuple[tuple[str, int], float], ...]  # by vocabulary and class id, with -1 for ignore


@dataclass(frozen=True)
class Candidate:
    """A picture that may be chosen. `own` is the sum of its three own numbers."""

    image_id: str
    ref: ShardRef
    position: int
    unsure: float
    rare: float
    odd: float
    rarest: str  # name of a class; empty if nothing is labelled
    shares: ClassShares

    @property
    def own(self) -> float:
        return self.unsure + self.rare + self.odd


@dataclass(frozen=True)
class Choice:
    """A chosen picture, with `new` and the score that it had when it was chosen, both in [0, 1]."""

    candidate: Candidate
    new: float
    score: float


class Pool:
    """The `n` candidates of the highest own numbers; of equal ones the first by name."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._heap: list[tuple[float, _Backwards, Candidate]] = []

    @property
    def lowest(self) -> float:
        """Less own numbers than these need not be offered."""
        return self._heap[0][0] if len(self._heap) == self._n else 0.0

    def offer(self, candidate: Candidate) -> None:
        item = (candidate.own, _Backwards(candidate.image_id), candidate)
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, item)
        elif item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(each for _, _, each in self._heap)


class _Backwards(str):
    """A name of which the last in the alphabet is the least."""

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


def choose(candidates: Iterable[Candidate], n: int) -> list[Choice]:
    """The best `n` one after another; the order of the candidates changes nothing."""
    filled: dict[tuple[str, int], float] = {}
    heap = [(-(each.own + 1.0), each.image_id, each) for each in candidates]
    heapq.heapify(heap)
    chosen: list[Choice] = []
    while heap and len(chosen) < n:
        _, name, each = heapq.heappop(heap)
        new = _new(each.shares, filled)
        now = (-(each.own + new), name)
        if heap and now > heap[0][:2]:
            heapq.heappush(heap, (*now, each))
            continue
        chosen.append(Choice(each, new, (each.own + new) / 4))
        for key, share in each.shares:
            filled[key] = filled.get(key, 0.0) + share
    return chosen


def _new(shares: ClassShares, filled: dict[tuple[str, int], float]) -> float:
    h = np.array([share for _, share in shares])
    before = np.array([filled.get(key, 0.0) for key, _ in shares])
    whole = np.sqrt(h).sum()
    return float((np.sqrt(before + h) - np.sqrt(before)).sum() / whole) if whole else 0.0
