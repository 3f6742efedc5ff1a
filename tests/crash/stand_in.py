"""A stand-in for the model: its labels follow from the pixels at once, and a picture takes a fixed time.

It loads in no time and needs no torch, so that a crash test is spent on crashes. All else in the actor, from the
manifest's row to the published file, is the real path.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.actors.actor import ReplicaSetup
from pipeline.picture.decide import CELL
from schemas.vocabulary import Vocabulary

SECONDS_A_PICTURE = 0.06
_REGION = 8  # pixels a side of what gets one label


@dataclass(frozen=True)
class PreparedPicture:
    """`pixels` is (H, W, 3) uint8 RGB."""

    pixels: np.ndarray

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class MadeUp:
    """Fields and shapes of `escnet.scoring.Segmentation`, whose module would import torch."""

    size_hw: tuple[int, int]
    winner: np.ndarray
    runner_up: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray
    entropy_mean: float


class StandIn:
    """What the shard runner takes for the model."""

    def compile(self, vocabulary: Vocabulary) -> np.ndarray:
        """(K,) int32 codes of the entries in canonical order."""
        return np.array([entry.code for entry in vocabulary.entries], np.int32)

    def prepare(self, picture: np.ndarray) -> PreparedPicture:
        return PreparedPicture(picture)

    def segment(self, batch: Sequence[PreparedPicture], vocabulary: np.ndarray) -> list[MadeUp]:
        time.sleep(SECONDS_A_PICTURE * len(batch))
        return [segmentation_of(picture.pixels, vocabulary) for picture in batch]


def load(setup: ReplicaSetup) -> StandIn:  # noqa: ARG001
    """Takes the place of `pipeline.actors.actor.load_segmenter`."""
    return StandIn()


def segmentation_of(pixels: np.ndarray, codes: np.ndarray) -> MadeUp:
    """Labels that differ from picture to picture, from region to region and in all columns of a label file."""
    height, width = pixels.shape[:2]
    corners = pixels[::_REGION, ::_REGION].astype(np.int64).sum(axis=2)
    winner = codes[corners % len(codes)].repeat(_REGION, axis=0).repeat(_REGION, axis=1)[:height, :width]
    cells = pixels[::CELL, ::CELL].astype(np.int64)  # the upper left pixel of every cell
    confidence = (cells[..., 0] | 64).astype(np.uint8)
    return MadeUp(
        size_hw=(height, width),
        winner=winner,
        runner_up=codes[cells.sum(axis=2) % len(codes)],
        confidence=confidence,
        margin=np.minimum(confidence, cells[..., 1]).astype(np.uint8),
        entropy_mean=float(np.mean(cells[..., 2])) / 255,
    )
