"""The names of the demo world, their ids, and which of them training never sees.

A class is a material ("grass") or an object: a colour, a pattern and a shape ("red striped star"). Ids are pinned for
good: a name has the same id in every vocabulary of this world. `heldout.txt` lists the combinations that training
neither draws nor names; each of their words, and each pair of them, occurs in combinations that it does see.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product

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
        ValueError: the world has no such name.
    """
    return _IDS[str(name)]


_IDS = {name: place for place, name in enumerate(NAMES)}
