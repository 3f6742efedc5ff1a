"""A model for tests of everything around it: what a picture's first pixel says, it does."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from escnet.scoring import Segmentation
from pipeline.actors import shard
from pipeline.actors.actor import ReplicaSetup, load_segmenter
from pipeline.actors.orders import Segmenter

KILLS = 250  # the values of a first pixel that do harm
HANGS = 251
RAISES = 252


@dataclass
class Seen:
    size_hw: tuple[int, int]
    value: int


class ByBrightness:
    """One class a picture, by its brightness."""

    def compile(self, vocabulary):
        return len(vocabulary.classes)

    def prepare(self, picture):
        return Seen(picture.shape[:2], int(picture[0, 0, 0]))

    def segment(self, batch, n_classes):
        return [self._one(seen, n_classes) for seen in batch]

    def _one(self, seen, n_classes):
        if seen.value == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if seen.value == HANGS:
            hours_pass()
            time.sleep(3600)
        if seen.value == RAISES:
            raise RuntimeError("as asked")
        h, w = seen.size_hw
        cells = (-(-h // 4), -(-w // 4))
        winner = seen.value % n_classes
        sure = np.full(cells, 255, np.uint8)
        other = np.full(cells, (winner + 1) % n_classes, np.int32)
        return Segmentation(seen.size_hw, np.full((h, w), winner, np.int32), other, sure, sure, 0.0)


def hours_pass() -> None:
    """By the clock by which the runner of this process knows how long its model has been at work."""
    later = SimpleNamespace(**{name: getattr(time, name) for name in ("sleep", "perf_counter", "thread_time")})
    later.monotonic = lambda: time.monotonic() + 10 * 3600
    shard.time = later


def load(_: ReplicaSetup) -> ByBrightness:
    return ByBrightness()


def load_without_end(folder: Path, _: ReplicaSetup) -> ByBrightness:
    """A file in `folder` names every process that loads."""
    (folder / f"loading-{os.getpid()}").touch()
    time.sleep(3600)
    return ByBrightness()


class Held:
    """The real model. From the third picture of a process on it waits for a file."""

    def __init__(self, segmenter: Segmenter, file: Path) -> None:
        self._segmenter, self._file, self._n_done = segmenter, file, 0
        self.compile, self.prepare = segmenter.compile, segmenter.prepare

    def segment(self, batch, vocabulary):
        while self._n_done >= 2 and not self._file.exists():
            time.sleep(0.05)
        self._n_done += len(batch)
        return self._segmenter.segment(batch, vocabulary)


def load_held(file: Path, setup: ReplicaSetup) -> Held:
    return Held(load_segmenter(setup), file)


class Patient(ByBrightness):
    """Labels nothing before other processes have died `n` times."""

    def __init__(self, deaths: Path, n: int) -> None:
        self._deaths, self._n = deaths, n

    def segment(self, batch, n_classes):
        while len(list(self._deaths.iterdir())) < self._n:
            time.sleep(0.1)
        return super().segment(batch, n_classes)


def load_in_one_process(folder: Path, n_deaths: int, _: ReplicaSetup) -> ByBrightness:
    """Loads in the first process that asks, and ends all others."""
    deaths = folder / "deaths"
    try:
        deaths.mkdir(parents=True)
    except FileExistsError:
        (deaths / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Patient(deaths, n_deaths)


def load_counting_embeddings(setup: ReplicaSetup) -> Segmenter:
    """The real model. A file in the output tells of every actor that loads one, and of every embedding computed."""
    from pipeline.actors import text_cache

    folder = Path(setup.output)
    embed = text_cache.embed_vocabulary

    def compute(network, vocabulary):
        (folder / f"computed-{os.getpid()}").touch()
        give_up_at = time.monotonic() + 300
        while len(list(folder.glob("loads-*"))) < 2 and time.monotonic() < give_up_at:  # so that another is at hand
            time.sleep(0.1)
        return embed(network, vocabulary)

    (folder / f"loads-{os.getpid()}").touch()
    text_cache.TextCache.__init__.__defaults__ = (compute,)
    return load_segmenter(setup)
