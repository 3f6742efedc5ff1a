"""The pixels of a picture that is labelled already, fetched once more to be looked at beside its labels."""

import numpy as np

from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.storage import StorageOptions
from schemas.errors import PictureError
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow, public_uri


def fetch_again(planned: ManifestRow, labels: LabelRow, max_pixels: int, storage: StorageOptions) -> np.ndarray:
    """(H, W, 3) uint8, as the model saw it.

    Raises:
        PictureError: it is gone, cannot be read any longer, or has another size than its labels.
    """
    pixels = decode(fetch(planned, storage, max_pixels=max_pixels), max_pixels=max_pixels)
    height, width = pixels.shape[:2]
    if labels.width is not None and (width, height) != (labels.width, labels.height):
        raise PictureError(
            "decode",
            "corrupt",
            f"{public_uri(planned.uri)}: is {width} x {height} by now, but was labelled as "
            f"{labels.width} x {labels.height}",
        )
    return pixels
