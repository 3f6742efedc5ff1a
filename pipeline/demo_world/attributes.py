"""How often the pixels of demo-world objects get the right colour, pattern and shape, each for itself."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.demo_world.names import COLOURS, MATERIALS, OBJECTS, PATTERNS, SHAPES

ATTRIBUTES = ("colour", "pattern", "shape")
_WORDS = np.array(
    [(COLOURS.index(o.colour), PATTERNS.index(o.pattern), SHAPES.index(o.shape)) for o in OBJECTS], np.int16
)
_N_MATERIALS = len(MATERIALS)


@dataclass
class AttributeCounts:
    """Pixels of objects, and how many of them have each attribute right; a pixel given to a material has none.

    `right` is in the order of `ATTRIBUTES`.
    """

    pixels: int = 0
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(ATTRIBUTES), np.int64))

    def update(self, prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """Add a picture: masks (H, W) of class ids of the world."""
        is_object = truth >= _N_MATERIALS
        found, true = prediction[is_object].astype(np.int64), truth[is_object].astype(np.int64)
        is_named = (found >= _N_MATERIALS) & (found < _N_MATERIALS + len(OBJECTS))
        same = _WORDS[np.where(is_named, found, _N_MATERIALS) - _N_MATERIALS] == _WORDS[true - _N_MATERIALS]
        self.pixels += len(true)
        self.right += (same & is_named[:, None]).sum(axis=0)

    def shares(self) -> dict[str, float]:
        """The share of right pixels by attribute, 0 to 1; empty if no object has been counted."""
        if not self.pixels:
            return {}
        return dict(zip(ATTRIBUTES, (self.right / self.pixels).tolist(), strict=True))
