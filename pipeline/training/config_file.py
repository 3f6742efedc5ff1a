"""Training recipes as people write them: a YAML file, and single values of it changed on the command line."""

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from escnet.base_config import ModelConfig
from escnet.checkpoint_header import read_header
from escnet.config import parse_config, preset_config
from pipeline.storage import STORAGE_ERRORS, StorageOptions, read_bytes, storage_error
from pipeline.training.config import ModelSource, TrainingConfig
from pipeline.training.recipe_checks import Path, find_problem
from schemas.documents import DocumentError, describe, locate, read_yaml
from schemas.errors import InputError, ModelError
from schemas.manifest import public_uri
from schemas.spelling import did_you_mean


def read_config(path: str, overrides: tuple[str, ...] = (), storage: StorageOptions | None = None) -> TrainingConfig:
    """The recipe in a YAML file.

    Args:
        path: local, or a URI.
        overrides: "key=value" each, with dots between the parts of a key and positions in lists from 0, such as
            "stages.0.steps=100"; values are YAML. They replace what the file says.

    Raises:
        InputError: one line with the file, the line if it is known, the key, what was found and what was expected.
    """
    document = _Document(public_uri(path), _read_text(path, storage or StorageOptions()))
    data = document.data()
    for override in overrides:
        document.overridden.append(_apply(override, data))
    try:
        config = TrainingConfig.model_validate(data)
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise document.explain(errors[0]) from error
    try:
        model = model_config(config.model)
    except ModelError as error:
        raise document.error(("model",), str(error)) from error
    problem = find_problem(config, model)
    if problem is not None:
        raise document.error(*problem)
    return config


def model_config(source: ModelSource) -> ModelConfig:
    """The configuration of the network that training starts with. Changes of a preset go into nested settings.

    Raises:
        ModelError: an unknown preset, a change that gives no network, or a checkpoint that cannot be used.
    """
    if source.checkpoint is not None:
        return read_header(source.checkpoint).config
    assert source.preset is not None
    if source.clip_from is not None:
        read_header(source.clip_from)
    try:
        base = preset_config(source.preset)
    except ModelError as error:
        raise ModelError(f"preset: {error}") from error
    values = base.model_dump()
    unknown = [name for name in source.changes if name not in values]
    if unknown:
        raise ModelError(f"changes: unknown setting {unknown[0]!r}{did_you_mean(unknown[0], values)}")
    try:
        return parse_config(_merged(values, source.changes))
    except ModelError as error:
        raise ModelError(f"changes: {error}") from error


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(base[name], change) if isinstance(change, dict) and isinstance(base.get(name), dict) else change
        for name, change in changes.items()
    }
    return base | both


@dataclass
class _Document:
    """The text of a recipe, and where its parts stand."""

    name: str
    text: str

    def __post_init__(self) -> None:
        self.overridden: list[Path] = []

    def data(self) -> dict[str, Any]:
        try:
            found = read_yaml(self.text)
        except DocumentError as error:
            line = f", line {error.line}" if error.line else ""
            raise InputError(f"{self.name}{line}: {error.message}") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.name}: found {describe(found)}, expected a training recipe; see docs/training.md")
        return found

    def error(self, path: Path, message: str) -> InputError:
        """One line: where the part stands, its key, and the message."""
        key = ".".join(map(str, path))
        if any(path[: len(each)] == each for each in self.overridden):
            return InputError(f"--set {key}: {message}")
        line = locate(self.text, path).line
        place = f"{self.name}, line {line}" if line else self.name
        return InputError(" ".join(f"{place}: {key}: {message}".split()) if key else f"{place}: {message}")

    def explain(self, error: ErrorDetails) -> InputError:
        path = error["loc"]
        if error["type"] == "extra_forbidden":
            known = _fields_at(path[:-1])
            return self.error(path, f"unknown key{did_you_mean(str(path[-1]), known)}; known are {', '.join(known)}")
        if error["type"] == "missing":
            return self.error(path, "missing; add it")
        if error["type"] == "value_error":
            return self.error(path, str(error["ctx"]["error"]))
        if error["type"] == "misfit":
            return self.error(path, error["msg"])
        found = describe(error["input"], locate(self.text, path).written)
        expected = error["msg"].removeprefix("Input should be ").removeprefix("Value should have ")
        return self.error(path, f"found {found}, expected {expected[0].lower()}{expected[1:]}")


def _fields_at(path: Path) -> list[str]:
    """The keys that a recipe may have at a place."""
    model: type[BaseModel] = TrainingConfig
    for part in path:
        if isinstance(part, str):
            model = _model_in(model.model_fields[part].annotation)
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model that an annotation such as `tuple[Stage, ...]` or `Validation | None` speaks of."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(each) for each in get_args(annotation) if each not in (type(None), ...)]
    return found[0]


def _read_text(path: str, storage: StorageOptions) -> str:
    try:
        return read_bytes(path, storage).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{public_uri(path)}: is not UTF-8 text, expected a training recipe in YAML") from error
    except STORAGE_ERRORS as error:
        raise storage_error(error, path, InputError) from error


def _apply(override: str, data: dict[str, Any]) -> Path:
    """Put a value into the data of a recipe; returns its path."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override}: expected KEY=VALUE, such as stages.0.steps=100")
    path: Path = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
    try:
        value = read_yaml(text)
    except DocumentError as error:
        raise InputError(f"--set {key}: {error.message}") from error
    place: Any = data
    for part in path[:-1]:
        if isinstance(place, dict) and place.get(str(part)) is None:
            place[str(part)] = {}
        place = _child(place, part, key)
    _child(place, path[-1], key)  # refuses what is no place
    place[path[-1] if isinstance(place, list) else str(path[-1])] = value
    return path


def _child(place: Any, part: int | str, key: str) -> Any:
    if isinstance(place, dict):
        return place.get(str(part))
    if isinstance(place, list) and isinstance(part, int) and part < len(place):
        return place[part]
    found = f"a list of {len(place)}" if isinstance(place, list) else describe(place)
    raise InputError(f"--set {key}: {part!r} names nothing in {found}; positions in a list count from 0")
