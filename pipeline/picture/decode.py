"""Picture bytes to RGB pixels, whatever the format, and a clear reason where that cannot be.

Pillow decodes; this module decides what its answers mean. The signature in the bytes chooses the reader,
never a file name. A picture is decoded at most once: Pillow passes some broken files silently when the
same object is loaded a second time. Process-wide settings of Pillow are made once, when this module is
imported; nothing is switched for a single call, so any number of threads may decode.
"""

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from schemas.errors import ErrorKind, PictureError

DEFAULT_MAX_PIXELS = 178_956_970  # the number above which Pillow by itself raises an error

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` takes its place: exact, chosen by the user, and without warnings
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # cores belong to the actor, which decodes several pictures at a time
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

_LARGE_TILE_PIXELS = 2**22  # 2048 x 2048; ordinary tiles have 256 or 512 a side
_MOST_SCANS = 500
_SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e][\1-\4]")  # its marker, the length of its header, its channels

# Pillow's plug-ins raise all of these for bytes that are not as they should be.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError,
    ArithmeticError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip


class _GifFirstFrame(GifImagePlugin.GifImageFile):
    """A GIF of which only the first frame is read.

    What a frame leaves behind for the next one needs no memory then; Pillow sets it aside while it opens the
    file, as large as the header says, before its size can be checked.
    """

    @property
    def disposal_method(self) -> int:
        return 0

    @disposal_method.setter
    def disposal_method(self, _: int) -> None:
        pass


# A JPEG is opened as such, never as MPO: the first picture is the same, and a broken index harms nothing.
_READERS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (re.compile(rb"GIF8[79]a"), _GifFirstFrame),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    (re.compile(rb"....ftyp.{0,56}?avi[fs]", re.DOTALL), AvifImagePlugin.AvifImageFile),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), BmpImagePlugin.BmpImageFile),
)
_KNOWN_BUT_UNREAD: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"....ftyp(?:hei|hev|mif|msf)", re.DOTALL), "HEIF"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"\0\0\x01\0"), "ICO"),
    (re.compile(rb"%PDF"), "PDF"),
)

_TOO_LARGE = re.compile(r"too large|too much memory", re.IGNORECASE)  # text and profiles of a PNG, unpacked
_TRUNCATED = re.compile(r"truncated|incomplete|chunk b'\w{0,3}'", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|not yet supported|not available|not installed|cannot handle"
    r"|unknown pixel mode|unknown data organization|bad configuration",
    re.IGNORECASE,
)

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, admit: Callable[[int], object] = lambda _: None
) -> np.ndarray:
    """The picture in `data` as it is meant to be seen.

    EXIF orientation is applied, alpha is laid over white, animations give their first frame, and more than
    8 bits are scaled (see `_scale_to_8_bit`), never cut off. Colour profiles are not applied: the networks
    were trained on pictures read without them.

    Args:
        data: the bytes of a JPEG, PNG, GIF, BMP, TIFF, WebP or AVIF file.
        max_pixels: a picture of exactly so many pixels still passes; decided before any pixel is decoded.
        admit: called with the number of pixels before any is decoded; may wait until there is memory.

    Returns:
        (H, W, 3) uint8, RGB, H and W after orientation.

    Raises:
        PictureError: stage `decode`; kind empty, not_an_image, unsupported, truncated, corrupt, too_large
            or out_of_memory.
    """
    reader = _reader_of(data)
    name = reader.format
    try:
        if data[12:16] == b"VP8X":
            _check_size(_extended_webp_size(data), max_pixels)
        image = reader(io.BytesIO(data))
        _check_size(image.size, max_pixels)
        if isinstance(image, PngImagePlugin.PngImageFile) and image.tile:
            _check_png(data)
        _check_work(image, data)
        admit(image.width * image.height)
        image.load()
        return _to_rgb(_oriented(image))
    except MemoryError as error:
        raise PictureError("decode", "out_of_memory", f"not enough memory to decode this {name} file") from error
    except _DECODER_ERRORS as error:
        kind = _kind_of(error, data)
        raise PictureError("decode", kind, f"{name} file, {kind.replace('_', ' ')}: {_one_line(error)}") from error


def _reader_of(data: bytes) -> type[ImageFile.ImageFile]:
    if not data:
        raise PictureError("decode", "empty", "the file has no bytes")
    prefix = data[:80]
    for signature, reader in _READERS:
        if signature.match(prefix):
            return reader
    for signature, name in _KNOWN_BUT_UNREAD:
        if signature.match(prefix):
            raise PictureError("decode", "unsupported", f"a {name} file; convert it to JPEG, PNG, WebP or AVIF")
    raise PictureError("decode", "not_an_image", "the bytes begin like no picture format that is read here")


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        message = f"{width} x {height} is {width * height} pixels, more than the {max_pixels} of --max-pixels"
        raise PictureError("decode", "too_large", message)


def _extended_webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a WebP with a canvas, for which Pillow allocates memory while it opens the file."""
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def _check_png(data: bytes) -> None:
    """Check the checksums, which Pillow leaves alone while it decodes: lost blocks would pass as garbage."""
    PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()


def _check_work(image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse a few bytes that ask for gigabytes or minutes, whatever the size of the picture is.

    The memory of a TIFF's tile is set aside however small the picture is, and a progressive JPEG goes over the
    whole picture again for each scan, of which 40 bytes can be one.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sides = image.tag_v2.get(TiffImagePlugin.TILEWIDTH), image.tag_v2.get(TiffImagePlugin.TILELENGTH)
        width, height = (side if isinstance(side, int) else 0 for side in sides)
        if width * height > max(4 * image.width * image.height, _LARGE_TILE_PIXELS):
            message = f"tiles of {width} x {height} pixels for a picture of {image.width} x {image.height}"
            raise PictureError("decode", "too_large", message)
    elif isinstance(image, JpegImagePlugin.JpegImageFile) and sum(1 for _ in _SCAN.finditer(data)) > _MOST_SCANS:
        raise PictureError("decode", "too_large", f"a JPEG of more than {_MOST_SCANS} scans; ordinary ones have 10")


def _kind_of(error: BaseException, data: bytes) -> ErrorKind:
    """What Pillow's exception says about the file. `_DECODER_ERRORS` raised while opening are wrapped by Pillow."""
    message, cause = str(error), error.__cause__
    if "out of memory" in message:
        return "out_of_memory"
    if _TOO_LARGE.search(message):
        return "too_large"
    if _TRUNCATED.search(message) or isinstance(cause, (IndexError, EOFError, struct.error)) or _lacks_its_end(data):
        return "truncated"
    if _UNSUPPORTED.search(message) or isinstance(cause, KeyError):
        return "unsupported"
    return "corrupt"


def _lacks_its_end(data: bytes) -> bool:
    """Whether a WebP, AVIF or TIFF says of itself that it is longer than `data`; Pillow calls these broken."""
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data[4:8] == b"ftyp":
        end = 0
        while end <= len(data) - 8 and (box_size := int.from_bytes(data[end : end + 4], "big")) >= 8:
            end += box_size
        return end > len(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
        directory = int.from_bytes(data[4:8], order)
        n_tags = int.from_bytes(data[directory : directory + 2], order)
        return directory + 2 + 12 * n_tags > len(data)
    return False


def _one_line(error: BaseException) -> str:
    """Pillow's own words, without addresses in memory, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split())) or type(error).__name__


def _oriented(image: ImageFile.ImageFile) -> Image.Image:
    """`image` turned as its EXIF (or XMP) orientation says; EXIF that cannot be read turns nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return image
    method = _TRANSPOSE_OF_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_scale_to_8_bit(image)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        # La goes through LA, the only mode it converts to.
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image)
        image = background
    return _pixels_of(image if image.mode == "RGB" else image.convert("RGB"))


def _pixels_of(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an RGB image; a large one in bands, since np.array holds it four times on its way."""
    width, height = image.size
    rows = max(1, 2**22 // width)
    if rows >= height:
        return np.array(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _scale_to_8_bit(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of a one-channel image with more than 8 bits.

    Unsigned samples keep their high byte (of 16 bits, or of as many as a TIFF declares), as Pillow does with
    16-bit colour, so gray and colour files of one picture agree. Signed, 32-bit and float samples name no
    range; `_scale_by_range` finds it.
    """
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if values.dtype.itemsize == 2:
        n_bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        gray = (values >> (n_bits - 8)).astype(np.uint8)
    else:
        gray = _scale_by_range(values)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero
        gray = 255 - gray
    transparent = image.info.get("transparency")  # the gray value that is see-through
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return gray


def _scale_by_range(values: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of samples without a stated range: [0, 1] (floats only), [0, 255] or [0, 65535], the first
    that holds them all; else the darkest becomes 0 and the brightest 255. NaN becomes 0, infinities the ends."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
    top = next((top for top in tops if low >= 0.0 and high <= top), None)
    zero, span = (0.0, top) if top is not None else (low, high - low or 1.0)
    scaled = np.nan_to_num(values.astype(np.float32), nan=zero, posinf=zero + span, neginf=zero)
    scaled -= zero
    scaled *= 255.0 / span
    return np.rint(np.clip(scaled, 0.0, 255.0, out=scaled), out=scaled).astype(np.uint8)
