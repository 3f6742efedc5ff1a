"""Names in drawings, in whatever language: Pillow's own font has the letters of English alone.

Where a name has others, a font of this machine that has them writes it; where there is none, it is spelled in those of
English: letters without their accents, others by their number in Unicode.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow finds them in the folders of the system; those of many languages first, then those of Chinese and Japanese.
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "LiberationSans-Regular.ttf", "Arial.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc",
    "Hiragino Sans GB.ttc",
)  # fmt: skip
_NO_CHARACTER = "\U0010ffff"  # drawn as what a font has in place of letters that it lacks


def lettered(text: str, size_px: int) -> tuple[str, Font]:
    """A text as it can be written here, and the font for it."""
    default = ImageFont.load_default(size_px)
    if text.isascii():
        return text, default
    for font in _other_fonts(size_px):
        if _has_letters(font, text):
            return text, font
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return bare.encode("ascii", "backslashreplace").decode(), default


def _other_fonts(size_px: int) -> Iterator[ImageFont.FreeTypeFont]:
    for name in _font_files():
        font = _load(name, size_px)
        if font is not None:
            yield font


def _font_files() -> Iterator[str]:
    """That of matplotlib, where it is installed, then those of the system."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.submodule_search_locations:
        yield str(Path(spec.submodule_search_locations[0], "mpl-data", "fonts", "ttf", "DejaVuSans.ttf"))
    yield from _FONTS


@lru_cache(maxsize=32)
def _load(name: str, size_px: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:  # there is none of this name
        return None


def _has_letters(font: ImageFont.FreeTypeFont, text: str) -> bool:
    lacking = bytes(font.getmask(_NO_CHARACTER))
    return all(bytes(font.getmask(c)) != lacking for c in set(text) if not c.isascii())
