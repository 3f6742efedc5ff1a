"""Files of masks: PNG or TIFF with one channel of class ids, which is gray of up to 16 bits, or a palette's indices."""

import io
import struct
import zlib

import numpy as np
from PIL import PngImagePlugin, TiffImagePlugin
from PIL.Image import Image

_MASK_KINDS = "expected a PNG or TIFF with one channel of class ids (gray or palette)"
_GRAY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_HIGHEST = 2**16 - 1

# Pillow's readers raise all of these for bytes that are not as they should be.
_READER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip


def read_mask(data: bytes, size_hw: tuple[int, int] | None = None) -> np.ndarray:
    """The ids in the bytes of a PNG or TIFF: (H, W) uint8, or uint16 where they are stored in 16 bits.

    Raises:
        ValueError: no such file, damaged, colours in place of ids, or another size than `size_hw`; says which.
    """
    try:
        image = _open_mask(data)
        found_hw = (image.height, image.width)
        check_size(found_hw, size_hw)
        image.load()
        return _ids_of(image, data)
    except _UnfitError:
        raise
    except _READER_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the file is damaged ({reason}); write it again") from error


class _UnfitError(ValueError):
    """A file that can be read and is not what we need."""


def check_size(found_hw: tuple[int, ...], size_hw: tuple[int, int] | None) -> None:
    """Refuse a mask of another size than its picture's labels; any is right if that is None.

    Raises:
        ValueError: says both.
    """
    if size_hw is not None and found_hw != size_hw:
        (height, width), (right_height, right_width) = found_hw, size_hw
        raise _UnfitError(
            f"the mask is {width} x {height}, but the picture's labels are {right_width} x {right_height}"
        )


def _open_mask(data: bytes) -> Image:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()  # checksums, which decoding leaves alone
        return PngImagePlugin.PngImageFile(io.BytesIO(data))
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    raise _UnfitError(f"neither PNG nor TIFF, {_MASK_KINDS}")


def _ids_of(image: Image, data: bytes) -> np.ndarray:
    tags = getattr(image, "tag_v2", {})
    n_bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0] if tags else data[24]
    if image.mode == "P":
        return np.asarray(image)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        raise _UnfitError("a TIFF in which white is zero, so its ids are inverted; write it with black as zero")
    if image.mode in ("1", "L"):
        values = np.asarray(image).astype(np.uint8)
        # Pillow stretches gray of 2 and 4 bits to 0 to 255, which ids must not be.
        return values if n_bits in (1, 8) else (values // (255 // (2**n_bits - 1))).astype(np.uint8)
    if image.mode in _GRAY_16_BIT:
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > _HIGHEST:
            raise _UnfitError(f"found values from {low} to {high}, expected ids of at most 16 bits")
        return values.astype(np.uint16)
    raise _UnfitError(f"found {image.mode} pixels, {_MASK_KINDS}; turn colours into ids")
