"""What a dataset is to us: where the pictures and masks of its unpacked archives lie, and what their values mean."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.errors import SourceError
from schemas.quantities import few

_SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and its official mask. `image_id` is the picture's path below the archive's outer folders."""

    image_id: str
    picture: Path
    mask: Path


@dataclass(frozen=True)
class Dataset:
    """One benchmark.

    Args:
        name: of the dataset, and of the bundled vocabulary whose ids its masks get.
        archives: the files to download, in words.
        layout: what they unpack to, in words, below ROOT.
        n_official: pictures of each split, as its authors count them. All but `extra_splits` are prepared by default.
        list_pictures: gives the pictures of a split below a root; raises SourceError.
        read_values: gives an official mask as (H, W) unsigned integers; raises SourceError.
        class_ids: gives the class id of each official value, None for ignore. A value without an entry is an error.
    """

    name: str
    archives: str
    layout: str
    n_official: dict[str, int]
    list_pictures: Callable[[Path, str], list[LabelledPicture]]
    read_values: Callable[[Path], np.ndarray]
    class_ids: Callable[[], dict[int, int | None]]
    extra_splits: tuple[str, ...] = ()

    @property
    def default_splits(self) -> tuple[str, ...]:
        return tuple(split for split in self.n_official if split not in self.extra_splits)


def find_folder(root: Path, candidates: Sequence[str], layout: str) -> Path:
    """The first of the candidates, which are paths below `root`, that is a folder.

    Raises:
        SourceError: there is none; says what `root` holds and what the archives unpack to.
    """
    return _find(root, candidates, layout, Path.is_dir)


def find_file(root: Path, candidates: Sequence[str], layout: str) -> Path:
    """The first of the candidates that is a file; like `find_folder`."""
    return _find(root, candidates, layout, Path.is_file)


def _find(root: Path, candidates: Sequence[str], layout: str, fits: Callable[[Path], bool]) -> Path:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; name the folder that the archives were unpacked into")
    for candidate in candidates:
        if fits(root / candidate):
            return root / candidate
    raise SourceError(
        f"{root}: found {_contents(root)}, expected {' or '.join(candidates)}; unpacked, the archives give {layout}"
    )


def _contents(folder: Path) -> str:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return few(names, _SHOWN_NAMES) or "nothing"


def below(folders: Sequence[str], path: str) -> list[str]:
    """`path` below each of the folders, "" being the root itself."""
    return [f"{folder}/{path}" if folder else path for folder in folders]


def jpeg_stems(folder: Path) -> list[str]:
    """Names of the .jpg files of a folder without their suffix, sorted."""
    return sorted(
        name.removesuffix(".jpg") for name in os.listdir(folder) if name.endswith(".jpg") and not name.startswith(".")
    )


def read_list(path: Path) -> list[str]:
    """The first word of every line that has one: names of pictures without suffix, each once, in the list's order."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def pair(stems: Iterable[str], pictures: Path, masks: Path, mask_suffix: str = ".png") -> list[LabelledPicture]:
    """Each picture `pictures/<stem>.jpg` with its mask `masks/<stem><mask_suffix>`, in the order of `stems`.

    Raises:
        SourceError: a picture or a mask is missing.
    """
    pictures_there, masks_there = set(os.listdir(pictures)), set(os.listdir(masks))
    found = []
    for stem in stems:
        picture, mask = pictures / f"{stem}.jpg", masks / f"{stem}{mask_suffix}"
        if picture.name not in pictures_there:
            raise SourceError(f"{picture}: is in the split's list and not there; unpack the pictures again")
        if mask.name not in masks_there:
            raise missing_mask(picture, mask)
        found.append(LabelledPicture(f"{pictures.name}/{picture.name}", picture, mask))
    return found


def missing_mask(picture: Path, mask: Path) -> SourceError:
    """The error of a picture without a mask."""
    return SourceError(f"{picture}: has no mask, expected {mask}; unpack the masks again")
