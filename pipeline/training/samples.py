"""Pictures with their masks, ready for the network: one function of a number, the same whenever it is asked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.demo_world.names import OBJECTS, heldout_objects
from pipeline.demo_world.scenes import draw_crop, draw_scene
from pipeline.training.naming import Namer, WorldNamer


@dataclass(frozen=True)
class Sample:
    """picture: (H, W, 3) uint8 RGB. mask: (H, W) int32 class ids, -1 where there is none. To train on, H = W = S."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.int32]


class SampleSource(Protocol):
    """Endless samples by number, and the words for their classes."""

    @property
    def namer(self) -> Namer:
        """Chooses the words of a batch."""

    def sample(self, number: int) -> Sample:
        """The sample of a number, the same on every call, in every process."""


class WorldScenes:
    """Scenes of the demo world with every combination that is not held out."""

    def __init__(self, seed: int, side_px: int) -> None:
        self.namer = WorldNamer()
        self._seed, self._side_px = seed, side_px
        self._objects = [each for each in OBJECTS if each not in heldout_objects()]

    def sample(self, number: int) -> Sample:
        scene = draw_scene(np.random.default_rng([self._seed, number]), self._objects, self._side_px)
        return Sample(scene.picture, scene.mask.astype(np.int32))


class WorldObjects(WorldScenes):
    """Single large objects, four or nine to a picture: what shapes are learnt from, many to a step."""

    def sample(self, number: int) -> Sample:
        rng = np.random.default_rng([self._seed, number])
        n = int(rng.integers(2, 4))  # a side
        crops = [draw_crop(rng, self._objects, -(-self._side_px // n)) for _ in range(n * n)]
        picture, mask = (
            _mosaic(parts, n)[: self._side_px, : self._side_px]
            for parts in zip(*((crop.picture, crop.mask) for crop in crops), strict=True)
        )
        return Sample(np.ascontiguousarray(picture), mask.astype(np.int32))


def _mosaic(parts: Sequence[NDArray], n: int) -> NDArray:
    """n * n squares as one, row by row."""
    return np.concatenate([np.concatenate(parts[i : i + n], axis=1) for i in range(0, n * n, n)], axis=0)


def seeded(*numbers: int) -> random.Random:
    """A generator that depends on all the numbers and on nothing else."""
    return random.Random(repr(numbers))
