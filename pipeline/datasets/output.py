"""The folder of a prepared dataset: what may lie in it, and that it lies apart from the archives."""

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.output import storing
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions, write_new, write_replace
from pipeline.storage.local_files import is_partial_name, sweep_partial_files
from pipeline.vocabularies import load_vocabulary
from schemas.errors import OutputError
from schemas.layout import LOCK_FILE
from schemas.quantities import few
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

MANIFEST_FILE = "manifest.parquet"
VOCABULARY_FILE = "vocabulary.yaml"
MASKS_FOLDER = "masks"

_OUR_NAMES = frozenset((MANIFEST_FILE, VOCABULARY_FILE, MASKS_FOLDER))
_INVISIBLE_NAMES = frozenset((LOCK_FILE, ".DS_Store"))
_LOCAL = StorageOptions()


def refuse_overlap(output: Path, folders: Iterable[Path]) -> None:
    """Refuse an output that is one of the archives' folders, lies in one, or has one in it; links are followed.

    Raises:
        OutputError: it is so.
    """
    ours = os.path.realpath(output)
    for folder in folders:
        theirs = os.path.realpath(folder)
        if os.path.commonpath((ours, theirs)) in (ours, theirs):
            raise OutputError(f"{output}: lies in, over or around the archives in {folder}; choose an --output apart")


def open_output(output: Path, vocabulary: Vocabulary, splits: Iterable[str]) -> None:
    """Make the output this vocabulary's, or go on with one that is; call it under the output's lock.

    Raises:
        OutputError: it holds something else, another dataset, or a manifest of other splits than these.
    """
    names = {name for name in os.listdir(output) if name not in _INVISIBLE_NAMES and not is_partial_name(name)}
    foreign = sorted(names - _OUR_NAMES) or (sorted(names) if VOCABULARY_FILE not in names else [])
    if foreign:
        raise OutputError(
            f"{output}: holds something else ({few(foreign)}); choose an empty or new folder for --output"
        )
    path = output / VOCABULARY_FILE
    if VOCABULARY_FILE in names:
        there = load_vocabulary(str(path))
        if there != vocabulary:
            wanted = vocabulary.name if vocabulary.name != there.name else f"{vocabulary.name} as it is in the box"
            raise OutputError(f"{path}: is {there.name}, expected {wanted}; choose another --output")
    if MANIFEST_FILE in names:
        _refuse_other_splits(output / MANIFEST_FILE, set(splits))
    sweep_partial_files(str(output))
    with storing(str(output)):
        write_new(str(path), vocabulary_yaml(vocabulary).encode(), _LOCAL)


def _refuse_other_splits(manifest: Path, splits: set[str]) -> None:
    there = {row.split or "none" for batch in read_manifest(str(manifest), _LOCAL) for row in batch}
    if not there <= splits:
        raise OutputError(
            f"{manifest}: holds split {', '.join(sorted(there))}, this run would leave {', '.join(sorted(splits))} "
            "alone; choose another --output, or prepare all of them in one run"
        )


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write a whole file unless it is there with these bytes; True if it was written.

    Raises:
        OutputError: storage refuses.
    """
    with storing(str(path)):
        try:
            if path.read_bytes() == data:
                return False
        except FileNotFoundError:
            pass
        write_replace(str(path), data, _LOCAL)
    return True
