"""Vocabulary files: YAML, JSON, COCO categories and plain lists of names, in; canonical YAML, out.

Texts come in and go out; pipeline/vocabularies.py reads the bytes. docs/vocabularies.md shows each form.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from schemas.documents import DocumentError, Place, describe, locate, read_json, read_yaml
from schemas.vocabulary import Distractor, Vocabulary, VocabularyClass
from schemas.vocabulary_mistakes import Mistake, MistakesError, Path, mistakes_of

MAX_LOCATED_CHARACTERS = 2_000_000  # finding a line in a larger document takes longer than it helps
_FORMS = "expected classes: a YAML or JSON vocabulary, a list of names, or COCO categories"


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
        MistakesError: one line with the file, the line if it is known, what was found, what was expected, and what to
            do, for the first mistake; it has the others too.
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
        raise MistakesError(file_name, [Mistake(error.line, "", error.message)]) from error
    except ValidationError as error:
        raise MistakesError(file_name, mistakes_of(error, parsed.place)) from error


def from_classes(classes: list[dict[str, Any]], lines: Sequence[int | None], file_name: str) -> Vocabulary:
    """A vocabulary, named after its file, of classes that stood on some lines of it.

    Raises:
        MistakesError: as `parse_vocabulary` does.
    """

    def place(path: Path) -> Place:
        index = path[1] if len(path) > 1 else None
        return Place(lines[index]) if isinstance(index, int) else Place()

    try:
        return Vocabulary.model_validate({"name": _name_from(file_name), "classes": classes})
    except ValidationError as error:
        raise MistakesError(file_name, mistakes_of(error, place)) from error


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
