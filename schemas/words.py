"""The small values a vocabulary is made of: words, templates, fractions, colours."""

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError


def misfit(message: str, *path: int | str) -> PydanticCustomError:
    """A validation error whose message says what to do; `path` leads from where it is raised to the culprit."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "path": path})


def one_spelling(text: str) -> str:
    """The same text for words that look the same: composed characters, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _tidy(text: str) -> str:
    words = one_spelling(text)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in words):
        raise misfit(f"found {words[:60]!r}, which holds a control character; expected plain text")
    if not any(map(str.isprintable, words)):
        raise misfit("found blank text; write a word, or leave it out")
    return words


def _one_is_a_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _without_repeats(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _check_template(template: str) -> str:
    if not template.count("{}") == template.count("{") == template.count("}") == 1:
        raise misfit(f"found {template[:60]!r}; expected exactly one {{}}, where the prompt goes")
    return template


def _color_from_hex(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return tuple(bytes.fromhex(value[1:]))
    return value


Words = Annotated[str, Field(strict=True), AfterValidator(_tidy)]
Remark = Annotated[str, Field(strict=True), AfterValidator(lambda text: _tidy(text) if text else text)]
WordList = Annotated[tuple[Words, ...], BeforeValidator(_one_is_a_list), AfterValidator(_without_repeats)]
Template = Annotated[Words, AfterValidator(_check_template)]
TemplateList = Annotated[
    tuple[Template, ...], Field(min_length=1), BeforeValidator(_one_is_a_list), AfterValidator(_without_repeats)
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True, allow_inf_nan=False)]
ColorPart = Annotated[int, Field(ge=0, le=255, strict=True)]
Color = Annotated[tuple[ColorPart, ColorPart, ColorPart], BeforeValidator(_color_from_hex)]  # red, green, blue
