"""What the user asked for: options of the command line, and job files that hold them in YAML."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.documents import DocumentError, describe, locate, read_yaml
from schemas.errors import InputError
from schemas.job import JobRequest
from schemas.spelling import did_you_mean

_LISTS = ("sources", "vocabularies", "node_labels")
_MAPPINGS = ("expected",)
_ALSO_CALLED = {"source": "sources", "vocabulary": "vocabularies", "node_label": "node_labels"}


def make_request(options: dict[str, Any]) -> JobRequest:
    """The checked request of a set of options.

    Raises:
        InputError: names the option, what was found and what was expected.
    """
    try:
        request = JobRequest(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise InputError(f"--{name}: found {describe(first['input'])}; {first['msg']}") from error
    if request.strict and request.expected is None:
        raise InputError("--strict: found no plan to hold the run to; give as --job what `escnet plan --write` wrote")
    return request


def read_job_file(
    path: str, known: Iterable[str], flags: Iterable[str], check: Callable[[str, Any], None] = lambda *_: None
) -> dict[str, Any]:
    """The options that a job file sets, by their Python names, with the values that a command line would give.

    Keys are option names without the leading dashes; `-` and `_` are the same. Numbers come as the text that stands in
    the file: click checks and turns them, where it would silently cut 2.7 down to 2.

    Args:
        path: the job file.
        known: Python names of all options.
        flags: those of them that take true or false.
        check: called with the name and the value of each; raises a ValueError that says what is wrong.

    Raises:
        InputError: not readable, not a YAML mapping, an unknown key, or a value that its option does not take.
    """
    names, file = set(known), _JobFile(path, _text_of(path), frozenset(flags))
    options: dict[str, Any] = {}
    for key, value in _mapping(path, file.text).items():
        name = str(key).replace("-", "_")
        name = _ALSO_CALLED.get(name, name)
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"{file.place(key)}: unknown option {key!r}{hint}; options are those of --help")
        if name in options:
            raise InputError(f"{file.place(key)}: {key!r} stands twice; keep one")
        if value is not None:
            options[name] = file.option(name, key, value)
            try:
                check(name, options[name])
            except ValueError as error:
                raise InputError(f"{file.place(key)}: {key}: {error}") from error
    return options


@dataclass(frozen=True)
class _JobFile:
    """From YAML's values to those of a command line."""

    path: str
    text: str
    flags: frozenset[str]

    def option(self, name: str, key: str, value: Any) -> Any:
        if name in _MAPPINGS:
            if isinstance(value, dict):
                return value
            raise self._unfit(value, "what `escnet plan --write` writes there", key)
        if name in _LISTS:
            if isinstance(value, list):
                return [self._as_typed(item, key, index) for index, item in enumerate(value)]
            return [self._as_typed(value, key)]
        if name in self.flags:
            if isinstance(value, bool):
                return value
            raise self._unfit(value, "true or false", key)
        return self._as_typed(value, key)

    def _as_typed(self, value: Any, *where: str | int) -> str:
        """A single value as it is written: 010 and 1.10 as such, not the numbers 8 and 1.1 that they are in YAML."""
        if isinstance(value, str):
            return value
        written = locate(self.text, where).written
        if value is False and written == "off":  # an option's word for none of it, which YAML takes for false
            return written
        if value is None or isinstance(value, bool | list | dict):
            raise self._unfit(value, "text (in quotes) or a number", *where)
        return written or str(value)

    def place(self, *where: str | int) -> str:
        """The file, and the line if it is known."""
        line = locate(self.text, where).line
        return f"{self.path}, line {line}" if line else self.path

    def _unfit(self, value: Any, expected: str, *where: str | int) -> InputError:
        found = describe(value, locate(self.text, where).written)
        return InputError(f"{self.place(*where)}: {where[0]}: found {found}, expected {expected}")


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read as a job file: {reason}") from error


def _mapping(path: str, text: str) -> dict:
    try:
        found = read_yaml(text)
    except DocumentError as error:
        line = f", line {error.line}" if error.line else ""
        raise InputError(f"{path}{line}: {error.message}") from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path}: found {describe(found)}, expected `option: value` lines such as `model: my.safetensors`"
        )
    if "classes" in found:
        raise InputError(
            f"{path}: looks like a vocabulary, for it has `classes`; give it as --vocabulary, and as job file one with "
            "`option: value` lines"
        )
    return found
