"""How far two masks of one picture agree: pixels by pair of class names, which add up over pictures."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.vocabulary import Vocabulary

IGNORED = 0  # number of what has no class

Pairs = Counter[tuple[int, int]]  # pixels by number in the one mask and in the other


class Names:
    """Numbers for the class names of several vocabularies: one name, one number, whatever its ids. 0 is ignore."""

    def __init__(self, vocabularies: Iterable[Vocabulary]) -> None:
        self._vocabularies = list(vocabularies)
        named = dict.fromkeys(each.name for words in self._vocabularies for each in words.classes)
        self.names: tuple[str, ...] = ("", *named)
        self._number = {name: k for k, name in enumerate(self.names)}

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        """The number of each id of a vocabulary, up to its ignore id."""
        numbers = np.full(vocabulary.ignore_id + 1, IGNORED, np.int32)
        numbers[[each.id for each in vocabulary.classes]] = [self._number[each.name] for each in vocabulary.classes]
        return numbers


def count_pairs(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Pixels by pair of numbers, of two masks of one shape."""
    present = [np.unique(each) for each in (first, second)]
    local = [np.searchsorted(values, each) for values, each in zip(present, (first, second), strict=True)]
    n_second = len(present[1])
    counts = np.bincount((local[0] * n_second + local[1]).ravel(), minlength=len(present[0]) * n_second)
    found: Pairs = Counter()
    for k in np.flatnonzero(counts).tolist():
        found[int(present[0][k // n_second]), int(present[1][k % n_second])] = int(counts[k])
    return found


def agreement(pairs: Pairs) -> float:
    """Of all pixels those of one name in both, or ignored in both; in [0, 1]."""
    return sum(n for (a, b), n in pairs.items() if a == b) / sum(pairs.values())


@dataclass(frozen=True)
class ClassAgreement:
    """One class name.

    Args:
        iou: pixels that are it in both by those that are it in either, in [0, 1].
        pixels: of it in the first and in the second.
        becomes: what else its pixels of the first are in the second, by name, the most first; "" is ignored.
    """

    name: str
    iou: float
    pixels: tuple[int, int]
    becomes: dict[str, int] = field(default_factory=dict)


def class_agreements(pairs: Pairs, names: Sequence[str], n_becomes: int) -> list[ClassAgreement]:
    """The names that occur in either, the lowest IoU first."""
    firsts, seconds, others = Counter[int](), Counter[int](), dict[int, Counter[str]]()
    for (a, b), n in pairs.items():
        firsts[a] += n
        seconds[b] += n
        if a != b:
            others.setdefault(a, Counter())[names[b]] += n
    found = []
    for k in (firsts.keys() | seconds.keys()) - {IGNORED}:
        both = pairs[k, k]
        most = sorted(others.get(k, Counter()).items(), key=lambda item: (-item[1], item[0]))[:n_becomes]
        iou = both / (firsts[k] + seconds[k] - both)
        found.append(ClassAgreement(names[k], iou, (firsts[k], seconds[k]), dict(most)))
    return sorted(found, key=lambda each: (each.iou, each.name))
