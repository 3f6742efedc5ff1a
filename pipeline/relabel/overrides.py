"""Corrections by people, which go along when an output is relabelled."""

from collections.abc import Iterable

from pipeline.output import storing
from pipeline.output.overrides import override_files
from pipeline.relabel.words import Changes
from pipeline.storage import StorageOptions, join, read_bytes, write_new
from schemas.errors import OutputError
from schemas.layout import OVERRIDES_FOLDER
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary


def overrides_to_copy(old: str, changes: Changes, storage: StorageOptions) -> list[str]:
    """Names of the files with corrections.

    Raises:
        OutputError: there are some, and a mask of theirs would mean something else with the new vocabulary.
    """
    names, where = override_files(old, storage), public_uri(join(old, OVERRIDES_FOLDER))
    for was, now in changes.values():
        if names and not _means_the_same(was, now):
            raise OutputError(
                f"{where}: holds corrections by people in the ids of vocabulary {was.name!r}, and the "
                "new one has other names, ids, ignore_id or level; keep these, or relabel a copy without corrections"
            )
    return names


def copy_overrides(names: Iterable[str], old: str, new: str, storage: StorageOptions) -> int:
    """Copy files with corrections, byte for byte; the number of them."""
    n_files = 0
    with storing(new):
        for name in names:
            data = read_bytes(join(old, f"{OVERRIDES_FOLDER}/{name}"), storage)
            write_new(join(new, f"{OVERRIDES_FOLDER}/{name}"), data, storage)
            n_files += 1
    return n_files


def _means_the_same(was: Vocabulary, now: Vocabulary) -> bool:
    """Does every value of a mask stand for the same class in both?"""
    names = {each.id: each.name for each in now.classes}
    is_kept = all(names.get(each.id) == each.name for each in was.classes)
    same_labels = all(now.labels.get(each) == label for each, label in was.labels.items())
    return is_kept and same_labels and (was.name, was.ignore_id) == (now.name, now.ignore_id)
