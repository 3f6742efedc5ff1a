"""What re-deciding a picture needs beside its mask, in a few tens of kilobytes.

Stored are, each compressed on its own: the winner of every pixel whose mask value does not show it; and per
cell the runner-up, the confidence and the runner-up's confidence (confidence less margin, which is smoother
than the margin). Winners and runner-ups are positions in `vocabulary.entries`. The two confidences are
stored as differences from the plane through the left, upper and upper left cell, which is small where they
change smoothly. Equal input gives equal bytes.
"""

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, NoReturn, Protocol

import numpy as np
import pyarrow as pa

from pipeline.picture.decide import CELL, Undecided
from schemas.errors import OutputError
from schemas.vocabulary import Vocabulary

VERSION = 1

_MAGIC = b"ESCE"
_CODEC = pa.Codec("zstd", 9)  # level 19 saves a tenth more and takes ten times as long
_CHECKSUM = struct.Struct("<I")  # CRC-32 of everything after it


class _Header(NamedTuple):
    """Comes after the checksum. Sizes are in pixels, entries or bytes."""

    magic: bytes
    version: int
    height: int
    width: int
    n_entries: int
    n_hidden: int
    bytes_winner: int
    bytes_runner_up: int
    bytes_confidence: int
    bytes_second: int


_HEADER = struct.Struct("<4sB3IQ4I")


class WithRunnerUp(Undecided, Protocol):
    """Undecided values with the runner-up."""

    @property
    def runner_up(self) -> np.ndarray: ...


@dataclass(frozen=True)
class UndecidedPicture:
    """One picture before any threshold, as the model left it.

    Args:
        winner: (H, W) int32 entry codes.
        runner_up: (ceil(H/4), ceil(W/4)) int32 entry codes.
        confidence: (ceil(H/4), ceil(W/4)) uint8, level 255 is 1.0.
        margin: likewise.
    """

    winner: np.ndarray
    runner_up: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray


def encode_evidence(undecided: WithRunnerUp, mask: np.ndarray, vocabulary: Vocabulary) -> bytes:
    """Everything of `undecided` that `mask`, decided from it with `vocabulary`, does not show."""
    position_of_code, first_code = _positions(vocabulary)
    hidden = undecided.winner[_hides_its_winner(mask, vocabulary)]
    parts = [
        _CODEC.compress(plane.tobytes(), asbytes=True)
        for plane in (
            position_of_code[hidden - first_code],
            position_of_code[undecided.runner_up - first_code],
            _differences(undecided.confidence),
            _differences(undecided.confidence - undecided.margin),
        )
    ]
    height, width = mask.shape
    header = _Header(_MAGIC, VERSION, height, width, len(vocabulary.entries), hidden.size, *map(len, parts))
    body = b"".join((_HEADER.pack(*header), *parts))
    return _CHECKSUM.pack(zlib.crc32(body)) + body


def decode_evidence(data: bytes, mask: np.ndarray, vocabulary: Vocabulary) -> UndecidedPicture:
    """Exactly what `encode_evidence` was given, from its bytes and the same mask and vocabulary.

    Raises:
        OutputError: the bytes are damaged, or belong to another mask or vocabulary.
    """
    header, parts = _split(data)
    is_hidden = _hides_its_winner(mask, vocabulary)
    found = (header.height, header.width, header.n_entries, header.n_hidden)
    expected = (*mask.shape, len(vocabulary.entries), int(is_hidden.sum()))
    if found != expected:
        _refuse(f"found height, width, entries and hidden winners {found}, but mask and vocabulary have {expected}")
    codes = np.array([entry.code for entry in vocabulary.entries], np.int32)
    cells_hw = (-(-header.height // CELL), -(-header.width // CELL))
    n_cells = cells_hw[0] * cells_hw[1]
    dtype = _position_dtype(vocabulary)
    winner = mask.astype(np.int32)
    winner[is_hidden] = codes[_unpack(parts[0], header.n_hidden, dtype)]
    confidence, second = (_summed(_unpack(part, n_cells, np.dtype(np.uint8)).reshape(cells_hw)) for part in parts[2:])
    return UndecidedPicture(
        winner=winner,
        runner_up=codes[_unpack(parts[1], n_cells, dtype)].reshape(cells_hw),
        confidence=confidence,
        margin=confidence - second,
    )


def _hides_its_winner(mask: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """(H, W) bool: ignored, or of a class that distractors or other classes may have become."""
    became = {vocabulary.labels[each.becomes] for each in vocabulary.distractors if each.becomes is not None}
    became.update(vocabulary.rolled_up.values())
    if not became:
        return mask == vocabulary.ignore_id
    hides = np.zeros(vocabulary.ignore_id + 1, bool)
    hides[[vocabulary.ignore_id, *became]] = True
    return hides.take(mask)


def _positions(vocabulary: Vocabulary) -> tuple[np.ndarray, int]:
    """The position in `vocabulary.entries` by code less the lowest code, and the lowest code."""
    codes = [entry.code for entry in vocabulary.entries]
    positions = np.zeros(max(codes) - min(codes) + 1, _position_dtype(vocabulary))
    positions[np.array(codes) - min(codes)] = np.arange(len(codes))
    return positions, min(codes)


def _position_dtype(vocabulary: Vocabulary) -> np.dtype:
    return np.min_scalar_type(len(vocabulary.entries) - 1).newbyteorder("<")


def _differences(plane: np.ndarray) -> np.ndarray:
    """Every value less left + upper - upper left, modulo 256; outside the plane all is 0."""
    padded = np.pad(plane, ((1, 0), (1, 0)))
    across = padded[:, 1:] - padded[:, :-1]
    return across[1:] - across[:-1]


def _summed(differences: np.ndarray) -> np.ndarray:
    """The plane that `_differences` was given."""
    return differences.cumsum(axis=0, dtype=np.uint8).cumsum(axis=1, dtype=np.uint8)


def _split(data: bytes) -> tuple[_Header, list[memoryview]]:
    start = _CHECKSUM.size + _HEADER.size
    if len(data) < start or _CHECKSUM.unpack_from(data)[0] != zlib.crc32(memoryview(data)[_CHECKSUM.size :]):
        _refuse(f"found {len(data)} bytes whose checksum is wrong")
    header = _Header(*_HEADER.unpack_from(data, _CHECKSUM.size))
    if (header.magic, header.version) != (_MAGIC, VERSION):
        _refuse(f"found format {header.magic!r} version {header.version}, expected {_MAGIC!r} version {VERSION}")
    ends = np.cumsum([start, *header[-4:]]).tolist()
    return header, [memoryview(data)[begin:end] for begin, end in pairwise(ends)]


def _unpack(part: memoryview, n_values: int, dtype: np.dtype) -> np.ndarray:
    raw = _CODEC.decompress(part, decompressed_size=n_values * dtype.itemsize, asbytes=True)
    return np.frombuffer(raw, dtype)


def _refuse(reason: str) -> NoReturn:
    raise OutputError(f"evidence of a picture: {reason}; check the file with `escnet verify`")
