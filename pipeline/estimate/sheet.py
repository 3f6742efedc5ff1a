"""A contact sheet of a pilot: its pictures with their labels over them."""

import io

import numpy as np
from PIL import Image

from pipeline.drawing import blend, legend, paint
from pipeline.estimate.pilot import Pilot
from pipeline.output.labelled import LabelledOutput
from pipeline.picture.again import fetch_again
from pipeline.picture.mask_file import read_mask
from schemas.errors import PictureError
from schemas.labels import LABELLED, LabelRow
from schemas.manifest import ManifestRow

N_SHOWN = 12
_COLUMNS = 4
_CELL_PX = (320, 240)
_GAP_PX = 8
_OPACITY = 0.55


def sheet_png(pilot: Pilot) -> bytes:
    """A PNG of some labelled pictures, spread over the pilot, with a legend of the classes in them."""
    rows = [
        (planned, row)
        for ref in pilot.labels.done
        for planned, row in zip(pilot.labels.pictures(ref), pilot.labels.rows(ref), strict=True)
        if row.status == LABELLED
    ]
    shown = [rows[k * len(rows) // min(N_SHOWN, len(rows))] for k in range(min(N_SHOWN, len(rows)))]
    cells = [_cell(planned, row, pilot.labels) for planned, row in shown]
    width, height = (size + _GAP_PX for size in _CELL_PX)
    grid = Image.new("RGB", (_COLUMNS * width + _GAP_PX, -(-len(cells) // _COLUMNS) * height + _GAP_PX), "white")
    for k, cell in enumerate(cells):
        grid.paste(cell, (_GAP_PX + k % _COLUMNS * width, _GAP_PX + k // _COLUMNS * height))
    names = _legend([row for _, row in shown], pilot.labels)
    sheet = Image.new("RGB", (grid.width + names.width, max(grid.height, names.height)), "white")
    sheet.paste(grid, (0, 0))
    sheet.paste(names, (grid.width, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _cell(planned: ManifestRow, row: LabelRow, labels: LabelledOutput) -> Image.Image:
    colors = {each.id: each.color for each in labels.vocabularies[row.vocabulary].classes}
    painted = paint(read_mask(row.mask or b"", (row.height or 1, row.width or 1)), colors)
    try:
        pixels = fetch_again(planned, row, labels.job.options.max_pixels, labels.storage)
        painted = blend(pixels, painted, _OPACITY)
    except PictureError:  # it is gone by now: its labels alone
        pass
    drawn = Image.fromarray(np.ascontiguousarray(painted))
    drawn.thumbnail(_CELL_PX)
    cell = Image.new("RGB", _CELL_PX, (230, 230, 230))
    cell.paste(drawn, ((_CELL_PX[0] - drawn.width) // 2, (_CELL_PX[1] - drawn.height) // 2))
    return cell


def _legend(rows: list[LabelRow], labels: LabelledOutput) -> Image.Image:
    """Of the classes in the rows together."""
    pixels: dict[tuple[str, int], int] = {}
    names: dict[tuple[str, int], str] = {}
    for row in rows:
        for each in row.classes or ():
            key = (row.vocabulary, each["class_id"])
            pixels[key] = pixels.get(key, 0) + each["pixels"]
            names[key] = each["name"]
    total = max(1, sum((row.width or 0) * (row.height or 0) for row in rows))
    numbered = {key: number for number, key in enumerate(pixels)}
    classes = [
        {"class_id": numbered[key], "name": names[key], "pixels": count, "fraction": count / total}
        for key, count in pixels.items()
    ]
    colors = {
        numbered[key]: next(each.color for each in labels.vocabularies[key[0]].classes if each.id == key[1])
        for key in pixels
    }
    return legend(classes, colors)
