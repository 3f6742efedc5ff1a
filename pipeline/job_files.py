"""What the user asked for: options of the command line, and job files that hold them in YAML."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from schemas.documents import DocumentError, describe, read_yaml
from schemas.errors import InputError
from schemas.job import JobRequest
from schemas.spelling import did_you_mean

_LISTS = ("sources", "vocabularies")
_ALSO_CALLED = {"source": "sources", "vocabulary": "vocabularies"}


def make_request(options: dict[str, Any]) -> JobRequest:
    """The checked request of a set of options.

    Raises:
        InputError: names the option, what was found and what was expected.
    """
    try:
        return JobRequest(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise InputError(f"--{name}: found {describe(first['input'])}; {first['msg']}") from error


def read_job_file(path: str, known: Iterable[str]) -> dict[str, Any]:
    """The options that a job file sets, by their Python names.

    Keys are option names without the leading dashes; `-` and `_` are the same.

    Raises:
        InputError: not readable, not a YAML mapping, or an unknown key.
    """
    names = set(known)
    options: dict[str, Any] = {}
    for key, value in _mapping(path).items():
        name = str(key).replace("-", "_")
        name = _ALSO_CALLED.get(name, name)
        if name not in names:
            raise InputError(f"{path}: unknown option {key!r}{did_you_mean(name, names)}; options are those of --help")
        if name in options:
            raise InputError(f"{path}: {key!r} stands twice; keep one")
        if value is not None:
            options[name] = [value] if name in _LISTS and not isinstance(value, list) else value
    return options


def _mapping(path: str) -> dict:
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = read_yaml(file.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read as a job file: {reason}") from error
    except DocumentError as error:
        line = f", line {error.line}" if error.line else ""
        raise InputError(f"{path}{line}: {error.message}") from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path}: found {describe(found)}, expected `option: value` lines such as `model: my.safetensors`"
        )
    return found
