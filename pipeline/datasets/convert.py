"""One official mask to one with the vocabulary's ids."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from pipeline.datasets.archives import Dataset, LabelledPicture
from pipeline.datasets.mask_files import READ_ERRORS, reading
from schemas.errors import SourceError
from schemas.vocabulary import IGNORE_ID_8_BIT, Vocabulary

_NO_CLASS = -1
_UNTURNED = 1


@dataclass(frozen=True)
class ConvertedMask:
    """A mask as the picture is meant to be seen: (H, W) uint8, or uint16 where ids go over 254, and pixels by id."""

    mask: np.ndarray
    pixels: Counter[int]


class Converter:
    """Makes the masks of one dataset.

    Args:
        dataset: what the official values mean.
        vocabulary: whose ids they become.
    """

    def __init__(self, dataset: Dataset, vocabulary: Vocabulary) -> None:
        class_ids = dataset.class_ids()
        known = {each.id for each in vocabulary.classes}
        assert {each for each in class_ids.values() if each is not None} <= known
        self._dataset = dataset
        self._dtype = np.uint8 if vocabulary.ignore_id == IGNORE_ID_8_BIT else np.uint16
        self._table = np.full(max(class_ids) + 1, _NO_CLASS, np.int32)
        for value, class_id in class_ids.items():
            self._table[value] = vocabulary.ignore_id if class_id is None else class_id

    def convert(self, labelled: LabelledPicture) -> ConvertedMask:
        """The mask of a picture.

        Masks were drawn on the pixels as they are stored. A picture that says of itself that it is to be turned
        is turned when it is read, so its mask is turned with it.

        Raises:
            SourceError: a file that cannot be read, a mask of another size than its picture, or a value that is
                none of the dataset's.
        """
        values = self._dataset.read_values(labelled.mask)
        size_wh, orientation = _size_and_orientation(labelled)
        if values.shape[::-1] != size_wh:
            raise SourceError(
                f"{labelled.mask}: is {values.shape[1]} x {values.shape[0]}, expected {size_wh[0]} x {size_wh[1]} as "
                f"{labelled.picture}; take both from the official archives"
            )
        counts = np.bincount(values.ravel(), minlength=len(self._table))
        present = np.flatnonzero(counts)
        self._refuse_strangers(present, labelled)
        pixels: Counter[int] = Counter()
        for value in present:
            pixels[int(self._table[value])] += int(counts[value])
        return ConvertedMask(_turned(self._table.astype(self._dtype)[values], orientation), pixels)

    def _refuse_strangers(self, present: np.ndarray, labelled: LabelledPicture) -> None:
        for value in present:
            if value >= len(self._table) or self._table[value] == _NO_CLASS:
                raise SourceError(
                    f"{labelled.mask}: holds the value {value}, which is no class of {self._dataset.name}; "
                    f"take the masks of {self._dataset.archives}"
                )


def _size_and_orientation(labelled: LabelledPicture) -> tuple[tuple[int, int], int]:
    """(width, height) as stored, and EXIF's orientation, 1 to 8. No pixel is decoded."""
    with reading(labelled.picture, "a picture"), Image.open(labelled.picture) as image:
        size_wh = image.size
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation, _UNTURNED)
        except READ_ERRORS:  # EXIF that cannot be read turns nothing, here as in pipeline/picture/decode.py
            orientation = _UNTURNED
    return size_wh, orientation


def _turned(mask: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == _UNTURNED:
        return mask
    image = Image.fromarray(mask)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))
