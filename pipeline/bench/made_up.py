"""Pictures and words to measure with: made up, the same every time, and as much work as real ones."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

_SOURCES = ("ade20k-847", "pascal-context-459", "coco-stuff-171")
_PATCH = 40  # pixels: as coarse as the things in photographs, whose JPEG files are as large
_GRAIN = 8  # gray levels


def made_up_picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: soft patches of colour under some grain. `size` is width and height."""
    width, height = size
    rng = np.random.default_rng(number)
    patches = rng.integers(0, 256, (-(-height // _PATCH), -(-width // _PATCH), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-_GRAIN, _GRAIN + 1, (height, width, 1), np.int16)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def made_up_vocabulary(n_classes: int) -> Vocabulary:
    """So many of the bundled vocabularies' names, in their order.

    Raises:
        InputError: they do not have so many.
    """
    names = _names()
    if n_classes > len(names):
        raise InputError(f"{n_classes} classes: there are {len(names):,} names to measure with; ask for fewer")
    return Vocabulary.model_validate({"name": f"names-{n_classes}", "classes": list(names[:n_classes])})


def write_pictures(folder: Path, n: int, size: tuple[int, int]) -> None:
    """JPEG files 00000.jpg and so on, as many as `n`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        Image.fromarray(made_up_picture(number, size)).save(folder / f"{number:05}.jpg", quality=90)


def write_words(path: Path, n_classes: int) -> str:
    """The vocabulary as a file; returns its name."""
    path.write_text(vocabulary_yaml(made_up_vocabulary(n_classes)), encoding="utf-8")
    return str(path)


@cache
def _names() -> tuple[str, ...]:
    found = (each.name for source in _SOURCES for each in load_vocabulary(source, StorageOptions()).classes)
    return tuple(dict.fromkeys(found))
