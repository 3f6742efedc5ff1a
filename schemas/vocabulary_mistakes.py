"""What is wrong with a vocabulary file, mistake by mistake, in its user's terms."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.documents import Place, describe
from schemas.errors import VocabularyError
from schemas.spelling import did_you_mean
from schemas.vocabulary import Distractor, Vocabulary, VocabularyClass

Path = tuple[int | str, ...]

_TEXT = "text"
_TEXTS = "text, or a list of texts"
_EXPECTED = {
    "name": _TEXT,
    "description": _TEXT,
    "prompt": _TEXT,
    "prompts": _TEXTS,
    "templates": "a text with {} in it, or a list of such texts",
    "id": "a whole number from 0 to 65534",
    "min_confidence": "a number from 0 to 1, such as 0.35",
    "min_margin": "a number from 0 to 1, such as 0.05",
    "parent": "the name of a class",
    "color": '"#rrggbb" in quotes, or three whole numbers from 0 to 255 such as [128, 64, 0]',
    "heldout": "true or false",
    "ignore_id": "255 or 65535",
    "becomes": "the id or name of a class, or ignore",
    "classes": "a list with at least one class, each a name or a mapping with a `name`",
    "level": "leaf, parent or top",
    "distractors": "a list, each a text or a mapping with `prompts` and `becomes`",
}

_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")


class Mistake(NamedTuple):
    """One thing that is wrong: the line (from 1) if it is known, where in words, "" for the whole file, and what."""

    line: int | None
    where: str
    message: str


class MistakesError(VocabularyError):
    """A vocabulary file that cannot be used: its message is that of the first of `mistakes`."""

    def __init__(self, file_name: str, mistakes: Sequence[Mistake]) -> None:
        line, where, message = mistakes[0]
        place = f"{file_name}, line {line}" if line else file_name
        super().__init__(" ".join(": ".join(filter(None, (place, where, message))).split()))
        self.mistakes = tuple(mistakes)


def mistakes_of(error: ValidationError, place: Callable[[Path], Place]) -> list[Mistake]:
    """All that is wrong, misspelt keys first; what follows from another mistake is left out.

    Args:
        place: where a part of the vocabulary stands in its file.
    """
    found = error.errors(include_url=False)
    found.sort(key=lambda each: each["type"] not in _UNKNOWN_KEY)
    return [_mistake(each, place) for each in found if not _follows(each, found)]


def _follows(problem: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """Whether a problem is there for another one alone."""
    loc = problem["loc"]
    if problem["type"] == "missing":  # what a misspelt key beside it stands for
        return any(each["type"] in _UNKNOWN_KEY and each["loc"][:-1] == loc[:-1] for each in found)
    if problem["type"] == "too_short":  # a list whose items are wrong, and so not counted
        return any(len(each["loc"]) > len(loc) and each["loc"][: len(loc)] == loc for each in found)
    if loc[-1:] == ("becomes",) and isinstance(problem["input"], str):  # a name that wrong classes leave without an id
        return any(each["loc"][:1] == ("classes",) for each in found)
    return problem["type"] == "default_factory_not_called"  # a value made from others, one of which is wrong


def _mistake(problem: ErrorDetails, place: Callable[[Path], Place]) -> Mistake:
    context = problem.get("ctx", {})
    path: Path = (*problem["loc"], *context.get("path", ()))
    line, written = place(path)
    where = ", ".join(_in_words(path))
    if problem["type"] == "misfit":
        return Mistake(line, where, context["message"])
    if problem["type"] in _UNKNOWN_KEY:
        known = _known_keys(path)
        where = ", ".join(_in_words(path)[:-1])
        hint = did_you_mean(str(path[-1]), known)
        return Mistake(line, where, f"unknown key {describe(path[-1])}{hint}; known are {', '.join(known)}")
    return Mistake(line, where, _mismatch(problem, path, written))


def _mismatch(problem: ErrorDetails, path: Path, written: str | None) -> str:
    """What was found where something else was expected."""
    key = next((part for part in reversed(path) if part in _EXPECTED), None)
    if key is None:  # a key that is no Unicode, for which pydantic has no place
        return f"found {describe(problem['input'])}, which is no valid Unicode; write it again"
    expected = _EXPECTED[key]
    if problem["type"] == "missing":
        why = "other classes have one: give one to every class or to none; " if key == "id" else ""
        return f"missing; {why}expected {expected}"
    value = problem["input"]
    is_part = len(path) == 2 and path[0] in ("classes", "distractors")
    if is_part:
        expected = "a name or a mapping" if path[0] == "classes" else "a text or a mapping"
    found = f"found {describe(value, written)}; expected {expected}"
    if written and not isinstance(value, str) and (is_part or expected in (_TEXT, _TEXTS)):
        return f"{found}; if it is meant as text, write it in quotes: {json.dumps(written[:60], ensure_ascii=False)}"
    return found


def _in_words(path: Path) -> list[str]:
    """`("classes", 3, "prompts", 0)` as `class 4`, `prompts`, `item 1`."""
    words = [f"item {part + 1}" if isinstance(part, int) else str(part) for part in path]
    if len(path) > 1 and path[0] in ("classes", "distractors"):
        singular = {"classes": "class", "distractors": "distractor"}[str(path[0])]
        words[:2] = [words[1].replace("item", singular)]
    return words


def _known_keys(path: Path) -> list[str]:
    """The keys of the mapping in which the last part of `path` is one."""
    owners: dict[Any, type[BaseModel]] = {"classes": VocabularyClass, "distractors": Distractor}
    return list(owners[path[0]].model_fields if len(path) > 1 else Vocabulary.model_fields)
