"""The bytes of one picture: from its manifest row, or from storage, whole or a byte range."""

from pipeline.storage import STORAGE_ERRORS, StorageOptions, classify, read_bytes
from pipeline.storage.local_files import NO_REGULAR_FILE
from schemas.errors import ErrorKind, PictureError
from schemas.manifest import ManifestRow, public_uri

# Ours, not the driver's: those hold request ids and signed addresses, and labels may not differ from run to run.
_MESSAGES: dict[ErrorKind, str] = {
    "not_found": "no such file",
    "forbidden": "reading is not permitted",
    "storage": "storage failed or could not be reached",
}


def fetch(row: ManifestRow, options: StorageOptions) -> bytes:
    """The bytes of the picture that `row` names; never empty.

    What may pass is tried again below (`pipeline.storage.retries`), so a picture takes up to a minute and more in an
    outage of storage.

    Raises:
        PictureError: stage `fetch`; kind not_found, forbidden, storage or empty.
    """
    if row.image is not None:
        data, n_expected = row.image, None
    else:
        data, n_expected = _read(row, options), row.byte_length
    if n_expected is not None and len(data) != n_expected:
        raise _failure(row, "storage", f"{len(data)} bytes at offset {row.byte_offset or 0}, expected {n_expected}")
    if not data:
        raise _failure(row, "empty", "the picture has no bytes")
    return data


def _read(row: ManifestRow, options: StorageOptions) -> bytes:
    try:
        return read_bytes(row.uri, options, row.byte_offset, row.byte_length)
    except STORAGE_ERRORS as error:
        kind = classify(error)
        is_special = isinstance(error, OSError) and error.errno == NO_REGULAR_FILE
        raise _failure(row, kind, "not a regular file" if is_special else _MESSAGES[kind]) from error


def _failure(row: ManifestRow, kind: ErrorKind, message: str) -> PictureError:
    return PictureError("fetch", kind, f"{public_uri(row.uri)}: {message}")
