"""Vocabularies of other tools: COCO categories, tables, plain lists, label configurations of Label Studio and CVAT.

The form is recognised by what the file holds. XML is read by expat event by event; documents that declare a type or
entities are refused, so none are expanded and no other file is opened.
"""

import csv
import io
import re
from collections.abc import Callable
from typing import Any, Literal, NoReturn
from xml.parsers import expat

from PIL import ImageColor

from schemas.documents import DocumentError, read_json
from schemas.errors import VocabularyError
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import from_classes, parse_vocabulary

Form = Literal["coco", "csv", "text", "label-studio", "cvat", "vocabulary"]
FORMS: tuple[Form, ...] = ("coco", "csv", "text", "label-studio", "cvat", "vocabulary")

_MAX_DEPTH = 64
# Columns of tables, by what they are called.
_COLUMNS = {
    "id": ("id", "idx", "index", "class_id", "classid", "label_id", "labelid", "value", "train_id", "category_id"),
    "name": ("name", "class", "label", "class_name", "classname", "label_name", "category"),
    "prompts": ("prompts", "prompt", "synonyms", "aliases"),
    "parent": ("parent", "supercategory", "group"),
    "color": ("color", "colour", "hex", "rgb"),
    "min_confidence": ("min_confidence",),
    "min_margin": ("min_margin",),
}
_COLUMN_OF = {name: column for column, names in _COLUMNS.items() for name in names}


def import_vocabulary(text: str, file_name: str, form: Form | None = None) -> tuple[Vocabulary, Form]:
    """The vocabulary that a file of another tool holds, and which form the file has.

    Args:
        form: what it is; None to find out.

    Raises:
        VocabularyError: one line with the file, the line where known, what was found and what to do.
    """
    text = text.removeprefix("\ufeff")
    try:
        found = form or recognise(text, file_name)
        if found not in _READERS:
            return parse_vocabulary(text, file_name), found
        classes, lines = _READERS[found](text)
    except DocumentError as error:
        place = f"{file_name}, line {error.line}" if error.line else file_name
        raise VocabularyError(f"{place}: {error.message}") from error
    return from_classes(classes, lines, file_name), found


def recognise(text: str, file_name: str) -> Form:
    """Which form a file has, by what it holds.

    Raises:
        DocumentError: none of them.
    """
    start = text.lstrip()
    if not start:
        raise DocumentError("is empty; expected the classes of another tool")
    if start[0] == "<":
        return "cvat" if re.search(r"<(annotations|labels)\b", start[:4000]) else "label-studio"
    if start[0] in "[{":
        return _form_of_json(read_json(text))
    if re.search("^(classes|categories)[ \t]*:", text, re.MULTILINE):
        return "vocabulary"
    header = _split(start.splitlines()[0])
    is_table = file_name.lower().endswith((".csv", ".tsv")) or (len(header) > 1 and "name" in map(_column, header))
    return "csv" if is_table else "text"


def _form_of_json(found: Any) -> Form:
    listed = found.get("categories") if isinstance(found, dict) else found
    if isinstance(found, dict) and isinstance(listed, list):
        return "coco"
    if isinstance(listed, list) and any(isinstance(each, dict) and "attributes" in each for each in listed):
        return "cvat"
    if isinstance(listed, list) and any(isinstance(each, dict) and "supercategory" in each for each in listed):
        return "coco"
    return "vocabulary"


Classes = tuple[list[dict[str, Any]], list[int | None]]  # and the line of each


def _read_cvat(text: str) -> Classes:
    """Labels of a CVAT project or task: its JSON, or the `<labels>` of its XML."""
    if text.lstrip().startswith("<"):
        return _cvat_xml(text)
    found = read_json(text)
    if not isinstance(found, list):
        raise DocumentError("found no list of labels; expected the JSON that CVAT shows as `Raw` labels")
    classes: list[dict[str, Any]] = []
    for k, each in enumerate(found, start=1):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise DocumentError(f"label {k} has no name; expected a mapping with `name`")
        classes.append({"name": each["name"], **_colour(each.get("color"), None)})
    return _or_none(classes, "labels"), [None] * len(classes)


def _cvat_xml(text: str) -> Classes:
    classes: list[dict[str, Any]] = []
    lines: list[int | None] = []

    def end(path: list[str], content: str, line: int) -> None:
        if path[-3:] == ["labels", "label", "name"]:
            classes.append({"name": content})
            lines.append(line)
        elif path[-3:] == ["labels", "label", "color"] and classes:
            classes[-1].update(_colour(content, line))

    _walk_xml(text, lambda *_: None, end)
    return _or_none(classes, "<labels><label><name>"), lines


def _read_label_studio(text: str) -> Classes:
    """The `<Label value=... background=...>` of a labelling configuration, in whatever control they stand."""
    classes: list[dict[str, Any]] = []
    lines: list[int | None] = []

    def start(path: list[str], attributes: dict[str, str], line: int) -> None:
        if path[-1] not in ("Label", "Choice"):
            return
        value = attributes.get("value", "").strip()
        if not value or value.startswith("$"):
            found = f"the value {value!r}, which comes from the tasks" if value else "no value"
            raise DocumentError(f"a <{path[-1]}> has {found}; expected the name of a class in `value`", line)
        if any(each["name"] == value for each in classes):
            return  # the same label for a brush and for boxes
        classes.append({"name": value, **_colour(attributes.get("background"), line)})
        lines.append(line)

    _walk_xml(text, start, lambda *_: None)
    return _or_none(classes, '<Label value="...">'), lines


def _walk_xml(
    text: str,
    start: Callable[[list[str], dict[str, str], int], None],
    end: Callable[[list[str], str, int], None],
) -> None:
    """Call back for every element, with the names of those around it, its attributes or text, and its line."""
    parser = expat.ParserCreate()
    path: list[str] = []
    content: list[str] = []

    def refuse(*_: Any) -> NoReturn:
        raise DocumentError("declares a document type; remove `<!DOCTYPE ...>`", parser.CurrentLineNumber)

    def begin(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        content.clear()
        if len(path) > _MAX_DEPTH:
            raise DocumentError(
                f"nested more than {_MAX_DEPTH} levels deep; write it flatter", parser.CurrentLineNumber
            )
        start(path, attributes, parser.CurrentLineNumber)

    def finish(_: str) -> None:
        end(path, "".join(content).strip(), parser.CurrentLineNumber)
        path.pop()
        content.clear()

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.CharacterDataHandler = content.append
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise DocumentError(f"not XML: {expat.ErrorString(error.code)}", error.lineno) from error


def _read_table(text: str) -> Classes:
    """Rows with a header that names the columns; others than those known are left out."""
    lines = text.splitlines()
    delimiter = _delimiter(lines[0])
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    header = [_column(cell) for cell in next(rows)]
    if "name" not in header:
        found = ", ".join(repr(cell.strip()[:30]) for cell in _split(lines[0])[:8])
        raise DocumentError(
            f"found the columns {found}; expected a header with `name`, and `id` where ids are pinned", 1
        )
    classes: list[dict[str, Any]] = []
    places: list[int | None] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DocumentError(
                f"has {len(row)} cells, the header {len(header)}; quote cells that hold the delimiter", rows.line_num
            )
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=True) if column and cell.strip()}
        classes.append({key: _cell(key, cell, rows.line_num) for key, cell in cells.items() if key != "color"})
        classes[-1].update(_colour(cells.get("color"), rows.line_num))
        places.append(rows.line_num)
    return _or_none(classes, "rows below the header"), places


def _delimiter(line: str) -> str:
    return max("\t;,", key=line.count)


def _split(line: str) -> list[str]:
    return next(csv.reader([line], delimiter=_delimiter(line)), [])


def _column(cell: str) -> str:
    return _COLUMN_OF.get(re.sub(r"[\s-]+", "_", cell.strip().casefold()), "")


def _cell(key: str, cell: str, line: int) -> Any:
    if key == "prompts":
        return [each.strip() for each in re.split("[;|]", cell) if each.strip()]
    if key in ("id", "min_confidence", "min_margin"):
        try:
            return int(cell) if key == "id" else float(cell)
        except ValueError as error:
            raise DocumentError(f"{key}: found {cell[:40]!r}; expected a number", line) from error
    return cell


def _colour(value: Any, line: int | None) -> dict[str, Any]:
    """A colour as CSS spells it, or three numbers; nothing where there is none."""
    if value is None or value == "":
        return {}
    numbers = re.fullmatch(r"[(\[]?\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\s*[)\]]?", str(value))
    if numbers:
        return {"color": [int(each) for each in numbers.groups()]}
    try:
        return {"color": list(ImageColor.getrgb(str(value))[:3])}
    except ValueError as error:
        raise DocumentError(f"color: found {str(value)[:40]!r}; expected a name or #rrggbb", line) from error


def _or_none(classes: list[dict[str, Any]], expected: str) -> list[dict[str, Any]]:
    if not classes:
        raise DocumentError(f"holds no classes; expected {expected}")
    return classes


_READERS: dict[str, Callable[[str], Classes]] = {
    "csv": _read_table, "cvat": _read_cvat, "label-studio": _read_label_studio,
}  # fmt: skip
