"""Official masks as they come: gray or palette PNG, ADE20K's colour code, MATLAB."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.errors import InputError, SourceError

MAX_ADE_CODE = 25 * 256 + 255
# What Pillow and scipy raise for files that are not as they should be.
READ_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Put what a damaged file raises into one line for the user.

    Raises:
        SourceError: in place of it.
    """
    try:
        yield
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(f"{path}: cannot be read as {expected} ({reason}); unpack the archive again") from error


def read_gray_png(path: Path) -> np.ndarray:
    """(H, W) uint8 values of a gray mask, or of the indices of one with a palette."""
    with reading(path, "a PNG"), Image.open(path) as image:
        mode, values = image.mode, np.asarray(image)
    if mode not in ("L", "P"):
        raise SourceError(
            f"{path}: is a {mode} picture, expected an 8-bit gray or palette PNG; take the official masks"
        )
    return values


def read_ade_codes(path: Path) -> np.ndarray:
    """(H, W) uint16 codes of classes, 0 to MAX_ADE_CODE, from the colours of a `*_seg.png` of the full release.

    Red is ten times the code's high byte and green the low byte; blue tells objects of one class apart.
    """
    with reading(path, "a PNG"), Image.open(path) as image:
        mode, values = image.mode, np.asarray(image)
    if mode != "RGB":
        raise SourceError(f"{path}: is a {mode} picture, expected RGB; take the masks of ADE20K_2021_17_01")
    return values[..., 0].astype(np.uint16) // 10 * 256 + values[..., 1]


def read_label_map(path: Path) -> np.ndarray:
    """(H, W) unsigned integers: the `LabelMap` of a MATLAB file of PASCAL Context.

    Raises:
        InputError: scipy, which reads these files, is not installed.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
        from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]
    except ImportError as error:
        raise InputError(
            f"{path}: a MATLAB file, and scipy is not installed; run: pip install 'escnet-pipeline[datasets]'"
        ) from error
    try:
        with reading(path, "a MATLAB file"):
            values = loadmat(path).get("LabelMap")
    except MatReadError as error:
        raise SourceError(f"{path}: cannot be read as a MATLAB file ({error}); unpack the archive again") from error
    if values is None or values.ndim != 2 or values.dtype.kind != "u":
        found = "no LabelMap" if values is None else f"a LabelMap of shape {values.shape} and type {values.dtype}"
        raise SourceError(f"{path}: holds {found}, expected one of unsigned integers, (height, width); unpack it again")
    return values
