"""Files that a command writes for its user: whole or not at all, and over nothing unless asked."""

import json
from typing import Any

from pipeline.output import storing
from pipeline.storage import StorageOptions, exists, write_new, write_replace
from schemas.errors import OutputError
from schemas.manifest import public_uri


def json_text(value: Any) -> str:
    """Plain data as indented text."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def refuse_taken(uri: str, storage: StorageOptions) -> None:
    """Raise OutputError if there is something of that name already: better before long work than after it."""
    with storing(uri):
        is_taken = exists(uri, storage)
    if is_taken:
        raise _taken(uri)


def write_json(value: Any, uri: str, storage: StorageOptions, *, replace: bool) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        OutputError: there is a file already, and `replace` is false; or storage refuses.
    """
    write_text(json_text(value), uri, storage, replace=replace)


def write_text(text: str, uri: str, storage: StorageOptions, *, replace: bool) -> int:
    """The same for any text, and the number of its bytes; half surrogate pairs, which are no UTF-8, are spelled."""
    return write_data(text.encode("utf-8", "backslashreplace"), uri, storage, replace=replace)


def write_data(data: bytes, uri: str, storage: StorageOptions, *, replace: bool) -> int:
    """The same for any bytes."""
    with storing(uri):
        if replace:
            write_replace(uri, data, storage)
        elif not write_new(uri, data, storage):
            raise _taken(uri)
    return len(data)


def _taken(uri: str) -> OutputError:
    return OutputError(f"{public_uri(uri)}: already there; choose another name or give --overwrite")
