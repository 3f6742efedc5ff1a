"""The bytes of one picture: from its manifest row, or from storage, whole or a byte range."""

from pipeline.storage import STORAGE_ERRORS, StorageOptions, TooManyBytesError, classify, read_bytes
from pipeline.storage.local_files import NO_REGULAR_FILE
from schemas.errors import ErrorKind, PictureError
from schemas.job import DEFAULT_MAX_PIXELS
from schemas.manifest import ManifestRow, public_uri

_BYTES_A_PIXEL = 8  # four channels of 16 bits: the most of all formats that are read, where nothing is compressed
_BYTES_BESIDE_PIXELS = 64 * 2**20  # previews, colour profiles, captions

# Ours, not the driver's: those hold request ids and signed addresses, and labels may not differ from run to run.
_MESSAGES: dict[ErrorKind, str] = {
    "not_found": "no such file",
    "forbidden": "reading is not permitted",
    "storage": "storage failed or could not be reached",
}


def fetch(row: ManifestRow, options: StorageOptions, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> bytes:
    """The bytes of the picture that `row` names; never empty.

    What may pass is tried again below (`pipeline.storage.retries`), so a picture takes up to a minute and more in an
    outage of storage.

    Args:
        max_pixels: of a picture; what is too large for any such picture is not read into memory.

    Raises:
        PictureError: stage `fetch`; kind not_found, forbidden, storage, empty or too_large.
    """
    max_bytes = most_bytes(max_pixels)
    is_part = row.byte_offset is not None or row.byte_length is not None
    if ((row.byte_length if is_part else row.size_bytes) or 0) > max_bytes:  # of a part, the size may be the whole's
        raise _too_large(row, max_bytes)
    if row.image is not None:
        data, n_expected = row.image, None
    else:
        data, n_expected = _read(row, options, max_bytes), row.byte_length
    if n_expected is not None and len(data) != n_expected:
        raise _failure(row, "storage", f"{len(data)} bytes at offset {row.byte_offset or 0}, expected {n_expected}")
    if not data:
        raise _failure(row, "empty", "the picture has no bytes")
    return data


def most_bytes(max_pixels: int) -> int:
    """More bytes than a picture of so many pixels can have, uncompressed and with all that goes with it."""
    return _BYTES_A_PIXEL * max_pixels + _BYTES_BESIDE_PIXELS


def _read(row: ManifestRow, options: StorageOptions, max_bytes: int) -> bytes:
    try:
        return read_bytes(row.uri, options, row.byte_offset, row.byte_length, max_bytes=max_bytes)
    except TooManyBytesError as error:
        raise _too_large(row, max_bytes) from error
    except STORAGE_ERRORS as error:
        kind = classify(error)
        is_special = isinstance(error, OSError) and error.errno == NO_REGULAR_FILE
        raise _failure(row, kind, "not a regular file" if is_special else _MESSAGES[kind]) from error


def _too_large(row: ManifestRow, max_bytes: int) -> PictureError:
    return _failure(row, "too_large", f"more than {max_bytes} bytes, which no picture of --max-pixels has")


def _failure(row: ManifestRow, kind: ErrorKind, message: str) -> PictureError:
    return PictureError("fetch", kind, f"{public_uri(row.uri)}: {message}")
