"""Words for what is in the pictures of a batch: which names compete, and which of them each id of a mask means.

A network that shall take any words must not get used to one list of them. So the names change from batch to batch:
another prompt of a class, and in the demo world also names of fewer words ("star" for a red striped star), synonyms,
and beside the names in the pictures those that differ from them in one word.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.demo_world.names import (
    COLOURS,
    MATERIALS,
    OBJECTS,
    PATTERNS,
    SHAPES,
    SYNONYMS,
    ObjectName,
    class_id,
    heldout_objects,
)  # fmt: skip
from schemas.vocabulary import Vocabulary

_SYNONYM_SHARE = 0.25  # of the words that have one
_NEIGHBOURS = 4  # names that differ in one word, for each object in the batch
_N_OBJECT_NAMES = 48  # of two words or three in a batch, if no more are in the pictures


@dataclass(frozen=True)
class Naming:
    """names: one text for each class of the batch. places: for an id in a mask, its place in `names`."""

    names: tuple[str, ...]
    places: dict[int, int]


class Namer(Protocol):
    """Chooses the names of a batch."""

    def name(self, rng: random.Random, present: Iterable[int]) -> Naming:
        """Names for a batch whose masks hold the ids `present`."""


class VocabularyNamer:
    """All classes of a vocabulary that compete for pixels, each by one of its prompts.

    Distractors take no part. An id without prompts of its own is left out of the losses.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._classes = [each for each in vocabulary.classes if each.prompts]

    def name(self, rng: random.Random, present: Iterable[int]) -> Naming:  # noqa: ARG002
        names = tuple(rng.choice(each.prompts) for each in self._classes)
        return Naming(names, {each.id: place for place, each in enumerate(self._classes)})


class WorldNamer:
    """Names of the demo world; combinations that are held out are never among them."""

    _WORDS = (COLOURS, PATTERNS, SHAPES)
    _LEVELS: tuple[tuple[tuple[int, ...], float], ...] = (
        ((0, 1, 2), 0.4), ((2,), 0.3), ((0, 2), 0.1), ((1, 2), 0.2),
    )  # fmt: skip

    def __init__(self) -> None:
        self._trained = [each for each in OBJECTS if each not in heldout_objects()]

    def name(self, rng: random.Random, present: Iterable[int]) -> Naming:
        levels, weights = zip(*self._LEVELS, strict=True)
        (level,) = rng.choices(levels, weights)
        if len(level) > 1:
            objects = self._competitors(rng, [i for i in sorted(present) if i >= len(MATERIALS)])
        else:
            objects = list(OBJECTS)
        phrases: dict[tuple[str, ...], int] = {(material,): place for place, material in enumerate(MATERIALS)}
        places = {place: place for place in range(len(MATERIALS))}
        for each in objects:
            words = (each.colour, each.pattern, each.shape)
            places[class_id(each)] = phrases.setdefault(tuple(words[i] for i in level), len(phrases))
        return Naming(tuple(self._phrase(rng, words) for words in phrases), places)

    def _competitors(self, rng: random.Random, present: Sequence[int]) -> list[ObjectName]:
        """The objects in the pictures, some that differ from them in one word, and more by chance."""
        chosen = dict.fromkeys(OBJECTS[i - len(MATERIALS)] for i in present)
        for each in list(chosen):
            for _ in range(_NEIGHBOURS):
                words = [each.colour, each.pattern, each.shape]
                i = rng.randrange(len(words))
                words[i] = rng.choice(self._WORDS[i])
                chosen[ObjectName(*words)] = None
        chosen |= dict.fromkeys(rng.sample(self._trained, _N_OBJECT_NAMES))
        kept = [each for each in chosen if each not in heldout_objects()]
        return kept[: max(_N_OBJECT_NAMES, len(present))]

    @staticmethod
    def _phrase(rng: random.Random, words: Iterable[str]) -> str:
        return " ".join(
            SYNONYMS[word] if word in SYNONYMS and rng.random() < _SYNONYM_SHARE else word for word in words
        )
