"""One picture on its way into an export."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.output.labelled import LabelledOutput
from pipeline.output.masks import mask_of
from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from schemas.errors import PictureError
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow, public_uri

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}  # what every reader of pictures takes
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """A picture's file: `suffix` with its dot."""

    data: bytes
    suffix: str


@dataclass(frozen=True)
class Item:
    """A labelled picture.

    Args:
        number: its place among the pictures of the vocabulary, from 1, counting failed ones.
        name: path for its files, without suffix; safe below any folder.
        source: where the picture lies.
    """

    number: int
    name: str
    row: LabelRow
    source: ManifestRow
    labels: LabelledOutput
    min_confidence: float

    @property
    def image_id(self) -> str:
        """As in the labels."""
        return self.row.image_id

    @property
    def uri(self) -> str:
        """Where the picture lies, without secrets."""
        return public_uri(self.source.uri)

    @property
    def is_corrected(self) -> bool:
        """Did a person mend the mask?"""
        return (self.row.vocabulary, self.row.image_id) in self.labels.overrides

    def mask(self) -> np.ndarray:
        """(H, W) class ids and the vocabulary's `ignore_id`."""
        return mask_of(self.row, self.labels, self.min_confidence)

    def picture(self) -> Picture:
        """The picture's own bytes; as a PNG where it stands on its side or is of a rare format.

        Raises:
            PictureError: it is not there any more, damaged, or of another size than its labels.
        """
        max_pixels = self.labels.job.options.max_pixels
        data = fetch(self.source, self.labels.storage, max_pixels=max_pixels)
        pixels = decode(data, max_pixels=max_pixels)
        if pixels.shape[:2] != (self.row.height, self.row.width):
            found = f"{pixels.shape[1]} x {pixels.shape[0]}, its labels are {self.row.width} x {self.row.height}"
            raise PictureError("decode", "corrupt", f"{self.uri}: the picture is now {found}")
        with Image.open(io.BytesIO(data)) as opened:
            suffix = _SUFFIXES.get(opened.format or "")
            if suffix and opened.getexif().get(_EXIF_ORIENTATION, 1) == 1 and not getattr(opened, "is_animated", False):
                return Picture(data, suffix)
        return Picture(png_bytes(Image.fromarray(pixels)), ".png")


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
