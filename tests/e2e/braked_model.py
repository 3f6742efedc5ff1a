"""The stand-in of the crash tests with a brake: as long as a file is there, a picture takes a second."""

import os
import time
from collections.abc import Sequence

import numpy as np

from pipeline.actors.actor import ReplicaSetup
from tests.crash.stand_in import MadeUp, PreparedPicture, StandIn, segmentation_of

BRAKE_VARIABLE = "ESCNET_TEST_BRAKE"
SECONDS_A_PICTURE = 1.0


class Braked(StandIn):
    """What the shard runner takes for the model."""

    def segment(self, batch: Sequence[PreparedPicture], vocabulary: np.ndarray) -> list[MadeUp]:
        if os.path.exists(os.environ[BRAKE_VARIABLE]):
            time.sleep(SECONDS_A_PICTURE * len(batch))
        return [segmentation_of(picture.pixels, vocabulary) for picture in batch]


def load(setup: ReplicaSetup) -> Braked:  # noqa: ARG001
    """Takes the place of `pipeline.actors.actor.load_segmenter`."""
    return Braked()
