"""The names of the demo world, their ids, and which of them training never sees.

A class is a material ("grass") or an object: a colour, a pattern and a shape ("red striped star"). Ids are pinned for
good: a name has the same id in every vocabulary of this world. `heldout.txt` lists the combinations that training
neither draws nor names; each of their words, and each pair of them, occurs in combinations that it does see.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product

import numpy as np

from schemas.errors import InputError
from schemas.vocabulary import IGNORE_ID_16_BIT, Vocabulary, VocabularyClass

MATERIALS = (
    "grass", "sand", "water", "brick", "snow", "wood", "sky", "gravel", "marble", "tiles", "straw", "asphalt",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
PATTERNS = ("solid", "striped", "dotted", "checkered")
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent", "arrow", "bolt", "flower", "drop",
)  # fmt: skip
# A second word for the same thing, taught beside the first, so that several prompts for one class can be tried.
SYNONYMS = {
    "red": "crimson", "blue": "azure", "purple": "violet", "solid": "plain", "dotted": "spotted", "circle": "disc",
    "ring": "donut", "grass": "lawn", "wood": "timber",
}  # fmt: skip


_NAMES_STREAM = 1  # of a seed's random numbers; folder.py has the others


@dataclass(frozen=True)
class ObjectName:
    """A combination of words, each one of the tuples above."""

    colour: str
    pattern: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.pattern} {self.shape}"


OBJECTS: tuple[ObjectName, ...] = tuple(ObjectName(*words) for words in product(COLOURS, PATTERNS, SHAPES))
NAMES: tuple[str, ...] = (*MATERIALS, *map(str, OBJECTS))  # the place of a name is its class id


@cache
def heldout_objects() -> frozenset[ObjectName]:
    """The combinations that training never sees."""
    text = resources.files(__package__).joinpath("heldout.txt").read_text("utf-8")
    return frozenset(ObjectName(*line.split()) for line in text.splitlines() if line and not line.startswith("#"))


def class_id(name: str | ObjectName) -> int:
    """The id of a material or an object.

    Raises:
        KeyError: the world has no such name.
    """
    return _IDS[str(name)]


_IDS = {name: place for place, name in enumerate(NAMES)}


def draw_names(seed: int, n_objects: int) -> list[ObjectName]:
    """A set of objects to make a world of, half of them held out, in the order of their ids.

    Raises:
        InputError: an odd number, or one that is not between 2 and twice the held-out combinations.
    """
    heldout = [each for each in OBJECTS if each in heldout_objects()]
    trained = [each for each in OBJECTS if each not in heldout_objects()]
    most = 2 * min(len(heldout), len(trained))
    if n_objects % 2 or not 2 <= n_objects <= most:
        raise InputError(
            f"--n-objects {n_objects}: half of the objects are held out, expected an even number from 2 to {most}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NAMES_STREAM,)))
    drawn = [group[i] for group in (trained, heldout) for i in rng.choice(len(group), n_objects // 2, replace=False)]
    return sorted(drawn, key=class_id)


def world_vocabulary(objects: Iterable[ObjectName], *, name: str, synonyms: bool = False) -> Vocabulary:
    """All materials and these objects, with the ids they have in every vocabulary; masks are 16 bit.

    Args:
        objects: any of `OBJECTS`, each once.
        name: the vocabulary's.
        synonyms: a name with words that have a synonym gets a second prompt, with all of them exchanged.
    """

    def prompts(text: str) -> tuple[str, ...]:
        other = " ".join(SYNONYMS.get(word, word) for word in text.split())
        return (text, other) if synonyms else (text,)  # one that stands twice counts once

    names: list[str | ObjectName] = [*MATERIALS, *sorted(objects, key=class_id)]
    classes = tuple(
        VocabularyClass(
            id=class_id(each), name=str(each), prompts=prompts(str(each)), heldout=each in heldout_objects()
        )
        for each in names
    )
    return Vocabulary(
        name=name,
        description="Demo world: materials, and objects of a colour, a pattern and a shape",
        classes=classes,
        ignore_id=IGNORE_ID_16_BIT,
    )
