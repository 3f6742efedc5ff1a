"""Labels as pictures: masks in the vocabulary's colours, over the picture or beside it, with a legend."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipeline.lettering import lettered
from schemas.errors import InputError
from schemas.manifest import public_uri

Color = tuple[int, int, int]

IGNORED: Color = (0, 0, 0)

_LINE_PX = 20
_SWATCH_PX = 12
_MARGIN_PX = 10
_FONT_PX = 13
_SMALLEST_NAMED = 0.002  # of the picture


def check_png(file: str) -> None:
    """Raise InputError if the name of a drawing promises another format than it has."""
    if not file.lower().endswith(".png"):
        raise InputError(f"{public_uri(file)}: a drawing is a PNG file; expected a name that ends in .png")


def paint(mask: np.ndarray, colors: Mapping[int, Color]) -> np.ndarray:
    """(H, W) class ids -> (H, W, 3) uint8; ids without a colour, such as the ignore id, become black."""
    table = np.full((int(mask.max(initial=0)) + 1, 3), IGNORED, np.uint8)
    for class_id, color in colors.items():
        if class_id < len(table):
            table[class_id] = color
    return table[mask]


def blend(pixels: np.ndarray, painted: np.ndarray, opacity: float) -> np.ndarray:
    """Painted labels over a picture, both (H, W, 3) uint8; an opacity of 1 hides the picture."""
    mixed = pixels * np.float32(1 - opacity) + painted * np.float32(opacity)
    return np.rint(mixed, out=mixed).astype(np.uint8)


def legend(classes: Sequence[Mapping[str, Any]], colors: Mapping[int, Color], notes: Sequence[str] = ()) -> Image.Image:
    """A white strip with colour, name and share of each class, the largest first, and of what is ignored.

    Args:
        classes: of a label row; those with less than 0.2 % of the picture are left out.
        notes: lines below these.
    """
    named = [(each["name"], each["fraction"], colors[each["class_id"]]) for each in classes]
    named.sort(key=lambda each: -each[1])
    named.append(("ignored", 1 - sum(each["fraction"] for each in classes), IGNORED))
    named = [each for each in named if each[1] >= _SMALLEST_NAMED]
    lines = [lettered(f"{name} {fraction:.1%}", _FONT_PX) for name, fraction, _ in named]
    lines += [lettered(note, _FONT_PX) for note in notes]
    text_left = _MARGIN_PX + _SWATCH_PX + 8
    width = text_left + _MARGIN_PX + int(max((font.getlength(line) for line, font in lines), default=0))
    strip = Image.new("RGB", (width, _LINE_PX * len(lines) + _MARGIN_PX), "white")
    pen = ImageDraw.Draw(strip)
    for k, (line, font) in enumerate(lines):
        top = _MARGIN_PX // 2 + 2 + _LINE_PX * k
        if k < len(named):
            box = (_MARGIN_PX, top, _MARGIN_PX + _SWATCH_PX, top + _SWATCH_PX)
            pen.rectangle(box, fill=named[k][2], outline="black")
        pen.text((text_left, top + _SWATCH_PX / 2), line, fill="black", font=font, anchor="lm")
    return strip


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """One picture of several, from left to right, on white."""
    whole = Image.new("RGB", (sum(each.width for each in images), max(each.height for each in images)), "white")
    left = 0
    for each in images:
        whole.paste(each, (left, 0))
        left += each.width
    return whole
