"""One picture of an output as a drawing: the picture, its labels and both together, with a legend."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.drawing import blend, check_png, legend, paint, side_by_side
from pipeline.json_files import refuse_taken, write_data
from pipeline.output.labelled import LabelledOutput, open_labelled
from pipeline.output.plan import find_row
from pipeline.picture.again import fetch_again
from pipeline.picture.mask_file import read_mask
from pipeline.storage import StorageOptions
from schemas.errors import InputError, OutputError, PictureError, printable
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import ManifestRow
from schemas.overrides import Override
from schemas.quantities import time_text

LONGEST_SIDE = 2048  # of a drawn picture; larger ones are made smaller

View = Literal["side-by-side", "blend", "labels"]


@dataclass(frozen=True)
class Drawing:
    """What was drawn.

    Args:
        correction: the person's mask that is in it; None if it is the model's.
        missing: why the picture itself is not in it; None if it is.
    """

    row: LabelRow
    correction: Override | None
    missing: str | None


def show(
    output: str,
    image_id: str,
    file: str,
    *,
    view: View = "side-by-side",
    opacity: float = 0.55,
    replace: bool = False,
    storage: StorageOptions | None = None,
) -> Drawing:
    """Draw one picture of an output into a PNG file. A picture that is gone is drawn by its labels alone.

    Args:
        opacity: of the labels over the picture, from 0 to 1.

    Raises:
        InputError: no such output or picture, one without labels, a file that is there already or is no .png.
    """
    storage = storage or StorageOptions()
    check_png(file)
    if not replace:
        refuse_taken(file, storage)
    labels = open_labelled(output, storage)
    planned, row = _find(labels, image_id)
    correction = labels.overrides.get(row.vocabulary, row.image_id)
    colors = {each.id: each.color for each in labels.vocabularies[row.vocabulary].classes}
    painted, missing = paint(_mask(labels, row), colors), None
    panels = [painted]
    if view != "labels":
        try:
            pixels = fetch_again(planned, row, labels.job.options.max_pixels, storage)
            both = blend(pixels, painted, opacity)
            panels = [both] if view == "blend" else [pixels, painted, both]
        except PictureError as error:
            missing = error.message
    buffer = io.BytesIO()
    names = legend(row.classes or [], colors, _notes(correction))
    side_by_side([*map(_shrunk, panels), names]).save(buffer, "PNG")
    write_data(buffer.getvalue(), file, storage, replace=replace)
    return Drawing(row, correction, missing)


def _notes(correction: Override | None) -> list[str]:
    if correction is None:
        return []
    return [f"corrected by {printable(correction.author)}", time_text(correction.time)]


def _mask(labels: LabelledOutput, row: LabelRow) -> np.ndarray:
    """(height, width) class ids."""
    try:
        return read_mask(row.mask or b"", (row.height or 1, row.width or 1))
    except ValueError as error:
        raise OutputError(f"{labels.name}: labels of {row.image_id!r} cannot be used; its mask: {error}") from error


def _find(labels: LabelledOutput, image_id: str) -> tuple[ManifestRow, LabelRow]:
    """The rows of a picture in manifest and labels."""
    found = find_row(labels.planned, image_id, labels.uri, labels.storage)
    if found is None:
        raise InputError(
            f"{labels.name}: has no picture {image_id!r}; expected an image_id, as in the column of its label files"
        )
    ref, position = found
    if ref not in labels.done:
        raise InputError(f"{labels.name}: {image_id!r} is not labelled yet; run `escnet annotate` first")
    _, row = next(labels.some_rows(ref, [position]))
    if row.status != LABELLED:
        raise InputError(
            f"{labels.name}: {image_id!r} has no labels: {row.error_stage}/{row.error_kind}: {row.error_message}"
        )
    return labels.pictures(ref)[position], row


def _shrunk(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image
