"""One labelled output for exports and whatever reads labels: holes, ignored pixels, odd names, a failed picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.output.labelled import open_one_vocabulary
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import STORAGE, Answer, Answers, Failure, write_output

WORDS = Vocabulary(
    name="words",
    classes=[{"id": 0, "name": "sky"}, {"id": 7, "name": "deep sea", "min_confidence": 0.3}, {"id": 9, "name": "ship"}],
)
NAMES = {
    "a/1.jpg": "a/1",
    "a/2.png": "a/2.png",
    "a/2.jpg": "a/2.jpg",
    "../up.jpg": "%2E%2E/up",
    "/etc/nul.jpg": "%/etc/%6Eul",
    "ünï c.jpg": "ünï c",
}


def _scene(number: int) -> Answer:
    """A ship with a hole and loose pixels in a sea that is partly unsure, under a sky."""
    rng = np.random.default_rng(number)
    winner = np.zeros((29 + number, 41), np.int32)
    winner[12:] = 7
    winner[8:20, 10:30] = 9
    winner[11:15, 14:20] = 0
    winner[rng.integers(0, 29, 40), rng.integers(0, 41, 40)] = 9
    return Answer(winner, rng.integers(0, 256, (-(-winner.shape[0] // 4), 11)).astype(np.uint8))


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> str:
    """The URI of the output; its pictures lie where its manifest says."""
    folder = tmp_path_factory.mktemp("labelled")
    answers: Answers = {image_id: _scene(k) for k, image_id in enumerate(NAMES)}
    answers["broken.jpg"] = Failure()
    write_output(str(folder / "out"), {"words": answers}, [WORDS], shard_size=3, folder=str(folder / "photos"))
    (folder / "photos").mkdir()
    for k, image_id in enumerate(NAMES):
        pixels = np.random.default_rng(k).integers(0, 256, (29 + k, 41, 3)).astype(np.uint8)
        path = photo(folder / "out", image_id)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, "PNG")
    return str(folder / "out")


@pytest.fixture(scope="session")
def truth(labelled) -> dict[str, np.ndarray]:
    """The masks by image id, read on another way than exports read them."""
    rows = open_one_vocabulary(labelled, STORAGE).stream()
    return {row.image_id: np.array(Image.open(io.BytesIO(row.mask))) for row in rows if row.mask is not None}


def photo(labelled: str | Path, image_id: str) -> Path:
    """Where a picture of the output lies."""
    return Path(f"{Path(labelled).parent}/photos/{image_id}")
