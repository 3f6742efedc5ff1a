"""Vocabularies by name, from the box, or from a file of the user's, local or in object storage."""

from collections.abc import Mapping
from importlib import resources

from pipeline.storage import (
    STORAGE_ERRORS,
    StorageOptions,
    classify,
    read_bytes,
    storage_error,
    write_new,
    write_replace,
)
from schemas.errors import OutputError, VocabularyError
from schemas.manifest import public_uri
from schemas.spelling import did_you_mean
from schemas.vocabulary import Level, Vocabulary
from schemas.vocabulary_files import parse_vocabulary, vocabulary_yaml


def bundled_names() -> tuple[str, ...]:
    """The names of the vocabularies in the box, sorted."""
    files = resources.files("vocabularies").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def load_vocabulary(name_or_path: str, options: StorageOptions | None = None) -> Vocabulary:
    """A bundled vocabulary by its name, or the one a file holds.

    A bundled name goes before a file of that name, which is `./name`.

    Args:
        name_or_path: one of `bundled_names()`, a local path, or a URI.
        options: how to reach object storage.

    Raises:
        VocabularyError: no such name and no such file, a folder, not readable, or not a vocabulary.
        InputError: a URI whose scheme is unknown or has no driver.
    """
    text, file_name = read_vocabulary_text(name_or_path, options or StorageOptions())
    return parse_vocabulary(text, file_name)


def read_vocabulary_text(name_or_path: str, options: StorageOptions) -> tuple[str, str]:
    """The text of a vocabulary file, and its name for messages; see `load_vocabulary`."""
    if name_or_path in bundled_names():
        file_name = f"{name_or_path}.yaml"
        return resources.files("vocabularies").joinpath(file_name).read_text(encoding="utf-8"), file_name
    return _read_text(name_or_path, options), public_uri(name_or_path)


def write_vocabulary(vocabulary: Vocabulary, uri: str, options: StorageOptions, *, replace: bool) -> None:
    """Write a vocabulary as YAML, whole or not at all.

    Raises:
        OutputError: there is a file already, and `replace` is false; or storage refuses.
    """
    data = vocabulary_yaml(vocabulary).encode()
    try:
        if replace:
            write_replace(uri, data, options)
            return
        is_new = write_new(uri, data, options)
    except STORAGE_ERRORS as error:
        raise storage_error(error, uri, OutputError) from error
    if not is_new:
        raise OutputError(f"{public_uri(uri)}: already there; choose another name or give --overwrite")


def at_level(vocabularies: Mapping[str, Vocabulary], level: Level | None) -> dict[str, Vocabulary]:
    """Vocabularies by name with their labels rolled up to `level`; None leaves them as their files say.

    Raises:
        VocabularyError: there is nothing to roll up to: no class has a parent.
    """
    if level is None:
        return dict(vocabularies)
    if level != "leaf" and not any(c.parent for each in vocabularies.values() for c in each.classes):
        named = ", ".join(vocabularies)
        raise VocabularyError(
            f"vocabulary {named}: no class has a parent, so --level {level} would change nothing; add `parent: NAME` "
            "to classes, or leave --level out"
        )
    return {name: each.at_level(level) for name, each in vocabularies.items()}


def _read_text(path: str, options: StorageOptions) -> str:
    if not path.strip():
        raise VocabularyError(f"found no vocabulary; give a file or one of {', '.join(bundled_names())}")
    try:
        return read_bytes(path, options).decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise VocabularyError(
            f"{public_uri(path)}: is not UTF-8 text ({found}); expected a vocabulary file: save it as UTF-8"
        ) from error
    except STORAGE_ERRORS as error:
        if classify(error) == "not_found" and not isinstance(error, IsADirectoryError) and "/" not in path:
            raise _unknown(path) from error
        raise storage_error(error, path, VocabularyError) from error


def _unknown(name: str) -> VocabularyError:
    known = bundled_names()
    return VocabularyError(
        f"{name}: no such file, and no bundled vocabulary of that name{did_you_mean(name, known)}; "
        f"bundled are {', '.join(known)}"
    )
