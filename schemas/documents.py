"""YAML and JSON as people write them, read strictly.

Nothing in a document runs code, and nothing is silently lost: YAML tags, anchors and aliases, repeated
keys and NaN are refused, each with the line it stands on.
"""

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import yaml

MAX_DEPTH = 32
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class DocumentError(ValueError):
    """What is wrong with a document, and on which line (from 1) if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Place(NamedTuple):
    """Where a part of a document stands: its line (from 1), and its text if it is a single value."""

    line: int | None = None
    written: str | None = None


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, without tags, anchors, aliases, repeated keys and endless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise DocumentError(f"found `{mark}{event.anchor}`; aliases are not read: write the value out", line)
        if getattr(event, "tag", None):
            raise DocumentError(f"found the tag `{event.tag}`; tags are not read: write plain values", line)
        if self.depth >= MAX_DEPTH:
            raise DocumentError(f"nested more than {MAX_DEPTH} levels deep; write it flatter", line)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
        elif isinstance(node, yaml.ScalarNode) and _HALF_A_PAIR.search(node.value):
            # JSON, which YAML means to include, spells an emoji as a pair of escapes; PyYAML leaves them apart.
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return node


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentError("found a list or mapping used as a key; expected a word", key.start_mark.line + 1)
        if key.value in seen:
            raise DocumentError(f"key {key.value[:60]!r} stands twice; keep one", key.start_mark.line + 1)
        seen.add(key.value)


def read_yaml(text: str) -> Any:
    """The value of a YAML document, None if it is empty. Raises `DocumentError`."""
    loader = None
    try:
        loader = _StrictLoader(text)  # reads ahead: may raise already
        return loader.get_single_data()
    except DocumentError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(f"not YAML: {error.problem}", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(f"found the character U+{error.character:04X}; expected text", line) from error
    except (ValueError, OverflowError) as error:  # such as the date 2024-13-45
        raise DocumentError(f"found a broken number or date ({error}); if it is text, write it in quotes") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_json(text: str) -> Any:
    """The value of a JSON document. Raises `DocumentError`."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg} at column {error.colno}", error.lineno) from error
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError("found a number too long to be read; write a shorter one") from error
    except RecursionError as error:
        raise DocumentError("nested too deeply to be read; write it flatter") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DocumentError(f"key {twice[:60]!r} stands twice in one object; keep one")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"found {name}; expected a number")


def locate(text: str, path: tuple[int | str, ...]) -> Place:
    """Where the value at `path` stands in a YAML or JSON document; the nearest thing around it if it is missing.

    JSON is read as YAML, which it nearly is. A text in which nothing is found gives an empty place.
    """
    node = _compose(text)
    place = Place()
    for part in path:
        key, node = _child(node, part)
        if node is None:
            return Place(place.line)
        written = node.value if isinstance(node, yaml.ScalarNode) else None
        place = Place((key or node).start_mark.line + 1, written)
    return place


@lru_cache(maxsize=1)  # the same document is asked again and again
def _compose(text: str) -> yaml.Node | None:
    try:
        return _StrictLoader(text.replace("\t", " ")).get_single_node()
    except (DocumentError, yaml.YAMLError):
        return None


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """The key and the value of a mapping's item, or None and an item of a sequence; Nones if there is none."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), (None, None))
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None, None


def describe(value: Any, written: str | None = None) -> str:
    """A value in a few words, on one line, however large it is. `written` is how the document spells it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    return f"`{(written or str(value))[:60]}`"
