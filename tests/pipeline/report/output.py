"""A small labelled output with pictures, for tests of what people look at."""

from pathlib import Path

import numpy as np
from PIL import Image

from schemas.errors import PictureError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

NASTY = "</script><b>&amp;'\"_b.png"  # a name that ends scripts, opens tags and quotes
WORDS = Vocabulary(
    name="words",
    classes=[
        {"id": 3, "name": "land", "color": [200, 120, 40]},
        {"id": 7, "name": "water <i>", "color": [20, 60, 220], "min_confidence": 0.4},
        {"id": 9, "name": "sky", "color": [90, 200, 250]},
        {"id": 11, "name": "moon", "color": [9, 9, 9]},
    ],
    distractors=["fog"],
)
# Left half land of 0.8; at the right water of 0.2, which is ignored; cells of 4 x 4 pixels.
HALVES = np.repeat([[3, 7]], 16, axis=1).repeat(24, axis=0)
HALF_LEVELS = np.repeat([[204, 51]], 4, axis=1).repeat(6, axis=0)


def write_pictures(folder: Path) -> str:
    """An output `out` below the folder with five labelled pictures, one of which is gone, and two failed ones."""
    answers = {
        "a.png": Answer(HALVES, HALF_LEVELS),
        NASTY: Answer(np.full((24, 32), 7, np.int32), 255),
        "c.png": Answer(np.full((24, 32), -1, np.int32), 128),  # fog, ignored
        "gone.png": Answer(np.full((24, 32), 9, np.int32), 102),
        "broken.png": Failure(),
        "lost.png": Failure(error=PictureError("fetch", "not_found", f"photos/{NASTY}: no such file")),
        "d.png": Answer(np.full((24, 32), 3, np.int32), 230),
    }
    write_output(str(folder / "out"), {"words": answers}, [WORDS], shard_size=3, folder=str(folder / "photos"))
    (folder / "photos").mkdir()
    for name, answer in answers.items():
        if isinstance(answer, Answer) and name != "gone.png":
            pixels = np.full((24, 32, 3), 128, np.uint8)
            path = folder / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return str(folder / "out")
