"""Vocabulary files: YAML, JSON, COCO categories and plain lists of names, in; canonical YAML, out.

Texts come in and go out; pipeline/vocabularies.py reads the bytes. docs/vocabularies.md shows each form.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.documents import DocumentError, Place, describe, locate, read_json, read_yaml
from schemas.errors import VocabularyError
from schemas.spelling import did_you_mean
from schemas.vocabulary import Distractor, Vocabulary, VocabularyClass

Path = tuple[int | str, ...]

MAX_LOCATED_CHARACTERS = 2_000_000  # finding a line in a larger document takes longer than it helps
_FORMS = "expected classes: a YAML or JSON vocabulary, a list of names, or COCO categories"
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


@dataclass(frozen=True)
class _Parsed:
    """The data of a file, and a way to ask where a part of the vocabulary stands in it."""

    data: dict[str, Any]
    place: Callable[[Path], Place]


def parse_vocabulary(text: str, file_name: str) -> Vocabulary:
    """The vocabulary a file holds.

    `.yaml`, `.yml` and `.json` are what they say. Any other file is JSON if it begins with `{` or `[`,
    YAML if a line begins with `classes:` or `categories:`, and a plain list of names if not. A file that
    gives no name is named after itself.

    Raises:
        VocabularyError: one line with the file, the line if it is known, what was found, what was
            expected, and what to do.
    """
    text = text.removeprefix("\ufeff")
    try:
        if not text.strip():
            raise DocumentError(f"is empty; {_FORMS}")
        if "\0" in text:
            raise DocumentError(f"is no text file; {_FORMS}")
        parsed = _READERS[_form(text, file_name)](text)
        data = {"name": _name_from(file_name), **parsed.data}
        return Vocabulary.model_validate(data)
    except DocumentError as error:
        raise _error(file_name, error.line, error.message) from error
    except ValidationError as error:
        raise _explain(file_name, error, parsed.place) from error


def from_classes(classes: list[dict[str, Any]], lines: Sequence[int | None], file_name: str) -> Vocabulary:
    """A vocabulary, named after its file, of classes that stood on some lines of it.

    Raises:
        VocabularyError: as `parse_vocabulary` does.
    """

    def place(path: Path) -> Place:
        index = path[1] if len(path) > 1 else None
        return Place(lines[index]) if isinstance(index, int) else Place()

    try:
        return Vocabulary.model_validate({"name": _name_from(file_name), "classes": classes})
    except ValidationError as error:
        raise _explain(file_name, error, place) from error


def written_parts(text: str, file_name: str) -> tuple[dict[str, Any], Callable[[Path], Place]]:
    """The data of a file that holds a vocabulary, as it was written, and a way to ask where a part stands."""
    text = text.removeprefix("\ufeff")
    parsed = _READERS[_form(text, file_name)](text)
    return parsed.data, parsed.place


def _form(text: str, file_name: str) -> Literal["yaml", "json", "names"]:
    suffix = file_name.lower().rpartition(".")[2]
    if suffix in ("yaml", "yml"):
        return "yaml"
    if suffix == "json" or text.lstrip()[0] in "[{":
        return "json"
    return "yaml" if re.search("^(classes|categories)[ \t]*:", text, re.MULTILINE) else "names"


def _name_from(file_name: str) -> str:
    """A vocabulary's name from its file's: `lists/My classes (2).txt` gives `My classes -2`."""
    stem = re.split(r"[/\\]", file_name.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(ya?ml|json|txt|csv|tsv|xml)$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^\w .+-]+", "-", stem).strip(" .+-").encode()[:100].decode(errors="ignore") or "vocabulary"


def _read_document(text: str, read: Callable[[str], Any]) -> _Parsed:
    found = read(text)

    def place(path: Path) -> Place:
        return locate(text, path) if len(text) <= MAX_LOCATED_CHARACTERS else Place()

    if found is None:
        raise DocumentError(f"holds nothing; {_FORMS}")
    if isinstance(found, list):
        if any(isinstance(each, dict) and "supercategory" in each for each in found):
            return _Parsed({"classes": _categories(found)}, lambda path: place(path[1:]))
        return _Parsed({"classes": found}, lambda path: place(path[1:]))
    if not isinstance(found, dict):
        raise DocumentError(f"holds only {describe(found)}; {_FORMS} (a plain list of names wants the suffix .txt)")
    if "categories" in found and "classes" not in found:
        classes = _categories(found["categories"])
        return _Parsed({"classes": classes}, lambda path: place(("categories", *path[1:])))
    return _Parsed(found, place)


def _categories(found: Any) -> Any:
    """COCO categories as classes: ids, names and colours are kept, all else is not a vocabulary's."""
    if not isinstance(found, list):
        return found
    known = ("id", "name", "color")
    return [{key: each[key] for key in known if key in each} if isinstance(each, dict) else each for each in found]


def _read_names(text: str) -> _Parsed:
    """One name a line, or `id: name` (a tab will do for the colon) on every line. `#` begins a comment."""
    lines = [(n, re.sub(r"(^|\s)#.*", "", line).strip()) for n, line in enumerate(text.splitlines(), start=1)]
    lines = [(n, line) for n, line in lines if line]
    if not lines:
        raise DocumentError("holds only comments; expected a name on every line")
    pinned = [re.fullmatch(r"(\d{1,9})[ ]*[:\t]\s*(.+)", line) for _, line in lines]
    if any(pinned):
        unpinned = next((n for (n, _), match in zip(lines, pinned, strict=True) if not match), None)
        if unpinned:
            raise DocumentError("has no id, but other lines do; write `id: name` on every line or on none", unpinned)
    classes: list[Any] = [
        {"id": int(match[1]), "name": match[2]} if match else line
        for (_, line), match in zip(lines, pinned, strict=True)
    ]

    def place(path: Path) -> Place:
        index = path[1] if len(path) > 1 else None
        return Place(lines[index][0]) if isinstance(index, int) else Place()

    return _Parsed({"classes": classes}, place)


_READERS: dict[str, Callable[[str], _Parsed]] = {
    "yaml": lambda text: _read_document(text, read_yaml),
    "json": lambda text: _read_document(text, read_json),
    "names": _read_names,
}


def _explain(file_name: str, error: ValidationError, place: Callable[[Path], Place]) -> VocabularyError:
    """The first thing wrong, in the user's terms. A misspelt key goes first: it explains a missing one."""
    unknown_key = ("extra_forbidden", "invalid_key")
    problem = min(error.errors(include_url=False), key=lambda each: each["type"] not in unknown_key)
    context = problem.get("ctx", {})
    path: Path = (*problem["loc"], *context.get("path", ()))
    line, written = place(path)
    where = ", ".join(_in_words(path))
    if problem["type"] == "misfit":
        return _error(file_name, line, f"{where}: {context['message']}")
    if problem["type"] in unknown_key:
        where = ", ".join([*_in_words(path)[:-1], f"unknown key {describe(path[-1])}"])
        known = _known_keys(path)
        return _error(file_name, line, f"{where}{did_you_mean(str(path[-1]), known)}; known are {', '.join(known)}")
    return _error(file_name, line, f"{where}: {_mismatch(problem, path, written)}")


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


def _error(file_name: str, line: int | None, message: str) -> VocabularyError:
    place = f"{file_name}, line {line}" if line else file_name
    return VocabularyError(" ".join(f"{place}: {message}".split()))


def vocabulary_yaml(vocabulary: Vocabulary) -> str:
    """The vocabulary as YAML, one class a line; `parse_vocabulary` of it gives an equal vocabulary."""
    head: dict[str, Any] = {"name": vocabulary.name}
    if vocabulary.description:
        head["description"] = vocabulary.description
    head |= {"templates": list(vocabulary.templates), "ignore_id": vocabulary.ignore_id}
    if vocabulary.level != "leaf":
        head["level"] = vocabulary.level
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, default_flow_style=None, width=float("inf"))
    text += "classes:\n" + _yaml_items(map(_class_data, vocabulary.classes))
    if vocabulary.distractors:
        text += "distractors:\n" + _yaml_items(map(_distractor_data, vocabulary.distractors))
    return text


def _yaml_items(values: Iterable[dict[str, Any]]) -> str:
    lines = [
        yaml.safe_dump(each, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf"))
        for each in values
    ]
    return "".join(f"- {line}" for line in lines)


def _class_data(each: VocabularyClass) -> dict[str, Any]:
    data: dict[str, Any] = {"id": each.id, "name": each.name, "prompts": list(each.prompts)}
    if each.min_confidence:
        data["min_confidence"] = each.min_confidence
    if each.min_margin:
        data["min_margin"] = each.min_margin
    if each.parent is not None:
        data["parent"] = each.parent
    data["color"] = "#" + bytes(each.color).hex()
    if each.heldout:
        data["heldout"] = True
    return data


def _distractor_data(each: Distractor) -> dict[str, Any]:
    becomes = {} if each.becomes is None else {"becomes": each.becomes}
    return {"prompts": list(each.prompts), **becomes}
