"""Label Studio's run lengths for brush masks.

A stream of bits, highest first: 32 for the number of values, 5 for the bits of a value less one, four times 4 for the
bits of a length less one. Then for each run a 1 (or a 0 before values that differ), 2 bits for which of the four
lengths follows, the length less one, and the value. Values are those of four channels a pixel. The readers are Label
Studio's own JavaScript and `label_studio_sdk.converter.brush`.
"""

import numpy as np

_LENGTH_BITS = (3, 4, 8, 16)
_VALUE_BITS = 8
_CHANNELS = 4
_MAX_RUN = 2**16
_MAX_VALUES = 2**31


def encode_brush(mask: np.ndarray) -> list[int]:
    """An (H, W) bool mask as bytes, 255 where it is true."""
    flat = mask.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size)) * _CHANNELS
    n_pieces = -(-lengths // _MAX_RUN)
    values = np.repeat(flat[starts].astype(np.int64) * 255, n_pieces)
    is_last = np.zeros(n_pieces.sum(), bool)
    is_last[np.cumsum(n_pieces) - 1] = True
    pieces = np.full(is_last.size, _MAX_RUN, np.int64)
    pieces[is_last] = lengths - (n_pieces - 1) * _MAX_RUN
    kind = np.searchsorted([2**n for n in _LENGTH_BITS], pieces)
    length_bits = np.array(_LENGTH_BITS)[kind]
    words = ((4 + kind) << (length_bits + _VALUE_BITS)) | (pieces - 1) << _VALUE_BITS | values
    sizes = "".join(f"{n - 1:04b}" for n in _LENGTH_BITS)
    header = np.array(list(f"{flat.size * _CHANNELS:032b}{_VALUE_BITS - 1:05b}{sizes}"), np.uint8)
    body = _bits(words, 3 + length_bits + _VALUE_BITS)
    return np.packbits(np.concatenate([header, body])).tolist()


def _bits(words: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The lowest `widths` bits of each word, one after another."""
    ends = np.cumsum(widths)
    shift = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    return (np.repeat(words, widths) >> shift & 1).astype(np.uint8)


def decode_brush(data: list[int], size_hw: tuple[int, int]) -> np.ndarray:
    """The (H, W) bool mask in such bytes: where the fourth channel, opacity, is not 0.

    Raises:
        ValueError: bytes that are none, or of another size.
    """
    try:
        text = np.unpackbits(np.array(data, np.uint8)).astype("S1").tobytes()
        values = _values(text, size_hw[0] * size_hw[1] * _CHANNELS)
    except (OverflowError, TypeError) as error:
        raise ValueError("no run lengths of Label Studio") from error
    return values.reshape(*size_hw, _CHANNELS)[..., 3] > 0


def _values(text: bytes, n_expected: int) -> np.ndarray:
    def number(start: int, n_bits: int) -> int:
        return int(text[start : start + n_bits], 2)

    if number(0, 32) != n_expected or n_expected > _MAX_VALUES:
        raise ValueError(f"{number(0, 32) // _CHANNELS:,} pixels, expected {n_expected // _CHANNELS:,}")
    value_bits, at = number(32, 5) + 1, 53
    length_bits = [number(37 + 4 * k, 4) + 1 for k in range(4)]
    out, done = np.zeros(n_expected, np.uint8), 0
    while done < n_expected:
        is_run, n_bits = text[at] == ord("1"), length_bits[number(at + 1, 2)]
        length, at = number(at + 3, n_bits) + 1, at + 3 + n_bits
        for k in range(1 if is_run else length):
            out[done + k : done + length if is_run else done + k + 1] = number(at, value_bits) & 255
            at += value_bits
        done += length
    return out
