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
    NAMES,
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
_NEIGHBOURS = 3  # names that differ in one word, for each object in the batch
_N_OBJECT_NAMES = 96  # in a batch, if no more are in the pictures


@dataclass(frozen=True)
class Naming:
    """names: one text for each class of the batch. places: for an id in a mask, its place in `names`."""

    names: tuple[str, ...]
    places: dict[int, int]


class Namer(Protocol):
    """Chooses the names of a batch."""

    @property
    def ids(self) -> Sequence[int]:
        """All ids that may stand in the masks."""

    def name(self, rng: random.Random, present: Iterable[int]) -> tuple[Naming, ...]:
        """Names for a batch whose masks hold the ids `present`, in one or more ways; the first is the fullest."""


class VocabularyNamer:
    """All classes of a vocabulary that compete for pixels, each by one of its prompts.

    Distractors take no part. Classes that are held out must stay unknown: they are never named, and their pixels, like
    those of an id without prompts of its own, are left out of the losses.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._classes = [each for each in vocabulary.classes if each.prompts and not each.heldout]
        self.ids: Sequence[int] = [each.id for each in self._classes]

    def name(self, rng: random.Random, present: Iterable[int]) -> tuple[Naming, ...]:  # noqa: ARG002
        names = tuple(rng.choice(each.prompts) for each in self._classes)
        return (Naming(names, {each.id: place for place, each in enumerate(self._classes)}),)


class WorldNamer:
    """Names of the demo world; combinations that are held out are never among them.

    Every batch is named three times: by colour (mostly), pattern and shape against names that differ in one word, by
    pattern and shape, and by shape alone, since few objects of a batch differ in nothing but their shape.
    """

    _WORDS = (COLOURS, PATTERNS, SHAPES)
    _WHOLE, _COLOUR_SHAPE, _PATTERN_SHAPE, _SHAPE = (0, 1, 2), (0, 2), (1, 2), (2,)
    ids: Sequence[int] = range(len(NAMES))
    _WHOLE_SHARE = 0.8  # of the fullest namings; the others leave the pattern out

    def name(self, rng: random.Random, present: Iterable[int]) -> tuple[Naming, ...]:
        objects = [OBJECTS[i - len(MATERIALS)] for i in sorted(present) if i >= len(MATERIALS)]
        fullest = self._WHOLE if rng.random() < self._WHOLE_SHARE else self._COLOUR_SHAPE
        return (
            self._naming(rng, self._competitors(rng, objects), fullest),
            self._naming(rng, OBJECTS, self._PATTERN_SHAPE),
            self._naming(rng, OBJECTS, self._SHAPE),
        )

    def _naming(self, rng: random.Random, objects: Iterable[ObjectName], level: tuple[int, ...]) -> Naming:
        """Names of objects by some of their words, and of all materials."""
        phrases: dict[tuple[str, ...], int] = {(material,): place for place, material in enumerate(MATERIALS)}
        places = {place: place for place in range(len(MATERIALS))}
        for each in objects:
            words = (each.colour, each.pattern, each.shape)
            places[class_id(each)] = phrases.setdefault(tuple(words[i] for i in level), len(phrases))
        return Naming(tuple(self._phrase(rng, words) for words in phrases), places)

    def _competitors(self, rng: random.Random, present: Sequence[ObjectName]) -> list[ObjectName]:
        """The objects in the pictures, and for each some that differ in one word, colours the least often."""
        chosen = dict.fromkeys(present)
        for each in present:
            for i in rng.choices(range(3), (1, 2, 2), k=_NEIGHBOURS):
                words = [each.colour, each.pattern, each.shape]
                words[i] = rng.choice(self._WORDS[i])
                chosen[ObjectName(*words)] = None
        kept = [each for each in chosen if each not in heldout_objects()]
        return kept[: max(_N_OBJECT_NAMES, len(present))]

    @staticmethod
    def _phrase(rng: random.Random, words: Iterable[str]) -> str:
        return " ".join(
            SYNONYMS[word] if word in SYNONYMS and rng.random() < _SYNONYM_SHARE else word for word in words
        )
