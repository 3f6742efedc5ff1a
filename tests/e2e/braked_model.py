"""The stand-in of the crash tests with a brake: as long as a file is there, a picture takes a second."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.actors.actor import ReplicaSetup
from tests.crash.processes import ROOT
from tests.crash.stand_in import MadeUp, PreparedPicture, StandIn, segmentation_of

BRAKE_VARIABLE = "ESCNET_TEST_BRAKE"
SECONDS_A_PICTURE = 1.0
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


class Braked(StandIn):
    """What the shard runner takes for the model."""

    def segment(self, batch: Sequence[PreparedPicture], vocabulary: np.ndarray) -> list[MadeUp]:
        if os.path.exists(os.environ[BRAKE_VARIABLE]):
            time.sleep(SECONDS_A_PICTURE * len(batch))
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
