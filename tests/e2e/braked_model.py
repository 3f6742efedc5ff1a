"""The stand-in of the crash tests with a brake: while it is on, a picture waits until it is let pass."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil

from pipeline.actors.actor import ReplicaSetup
from tests.crash.processes import ROOT
from tests.crash.stand_in import MadeUp, PreparedPicture, StandIn, segmentation_of

BRAKE_VARIABLE = "ESCNET_TEST_BRAKE"
_COMMAND = f"""#!{sys.executable}
import sys
from functools import partial
sys.path.insert(0, {str(ROOT)!r})
import pipeline.annotation.annotate as place
from tests.e2e import braked_model
place.annotate = partial(place.annotate, load_segmenter=braked_model.load)
from jobs.main import main
main()
"""


class Brake:
    """On while `folder` is there, whose files are permits for a picture each; processes that wait leave theirs beside.

    `folder` is the value of BRAKE_VARIABLE in the environment of actors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._waiting = folder, Path(f"{folder}.waiting")

    def put_on(self) -> None:
        self._folder.mkdir()
        self._waiting.mkdir(exist_ok=True)

    def let_pass(self, n_pictures: int) -> None:
        for _ in range(n_pictures):
            (self._folder / uuid4().hex).touch()

    def take_off(self) -> None:
        shutil.rmtree(self._folder)

    def holds(self, processes: Iterable[psutil.Process]) -> bool:
        """Does one of these wait, with a picture before its model?"""
        return any((self._waiting / str(process.pid)).exists() for process in processes)

    @property
    def n_held(self) -> int:
        """Processes that wait, or were killed while they did."""
        return len(list(self._waiting.iterdir()))

    def wait(self) -> None:
        """Of an actor: until a picture may pass."""
        mine = self._waiting / str(os.getpid())
        while self._folder.exists() and not self._takes_permit():
            mine.touch()
            time.sleep(0.05)
        mine.unlink(missing_ok=True)

    def _takes_permit(self) -> bool:
        with suppress(FileNotFoundError):  # another one was faster, or the brake is off
            for permit in self._folder.iterdir():
                permit.unlink()
                return True
        return False


class Braked(StandIn):
    """What the shard runner takes for the model."""

    def segment(self, batch: Sequence[PreparedPicture], vocabulary: np.ndarray) -> list[MadeUp]:
        for _ in batch:
            Brake(Path(os.environ[BRAKE_VARIABLE])).wait()
        return [segmentation_of(picture.pixels, vocabulary) for picture in batch]


def load(setup: ReplicaSetup) -> Braked:  # noqa: ARG001
    """Takes the place of `pipeline.actors.actor.load_segmenter`."""
    return Braked()


def write_command(folder: Path) -> Path:
    """Write an `escnet` that labels with this model; returns its path."""
    folder.mkdir()
    path = folder / "escnet"
    path.write_text(_COMMAND)
    path.chmod(0o755)
    return path
