"""Corrections by people that an update takes over: those of pictures that did not change, in classes that did not.

Of several corrections of a picture the latest counts. Where that one no longer holds, none before it is taken over
either: a person has put it aside.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from pipeline.output import storing
from pipeline.output.files import existing_job
from pipeline.output.labelled import vocabularies_as_used
from pipeline.output.overrides import override_bytes, override_files, read_override_file
from pipeline.output.plan import read_plan, read_plan_rows
from pipeline.storage import StorageOptions, join, read_bytes, write_new
from schemas.job import ManifestRecord
from schemas.layout import OVERRIDES_FOLDER
from schemas.manifest import row_identity
from schemas.vocabulary import Vocabulary

_Key = tuple[str, str]  # vocabulary, image_id
_SMALL_COLUMNS = ["vocabulary", "image_id", "classes", "time"]


class TakenCorrections(NamedTuple):
    """How many corrections an update took over, and how many not: their picture or classes changed, or are gone."""

    n_taken: int = 0
    n_left: int = 0


NO_CORRECTIONS = TakenCorrections()


def take_over_corrections(
    old: str, output: str, plan: ManifestRecord, vocabularies: Mapping[str, Vocabulary], storage: StorageOptions
) -> TakenCorrections:
    """Copy from `old` the corrections that hold in `output` as well. What was copied before stays as it is.

    Args:
        plan: of `output`.
        vocabularies: of its job, by name.

    Raises:
        OutputError: a file of corrections, or the plan of `old`, that cannot be read, or `output` cannot be written.
    """
    names = override_files(old, storage)
    if not names:
        return NO_CORRECTIONS
    job = existing_job(old, storage)
    before = vocabularies_as_used(job, old, storage)
    comparable = {name: now for name, now in vocabularies.items() if name in before and _alike(before[name], now)}
    wanted = _whose_latest_holds(old, names, comparable, storage)
    unchanged = _identities(wanted, old, job.manifest, storage) & _identities(wanted, output, plan, storage)
    keys = {key for key, _ in unchanged}
    taken = [_copy(old, output, name, keys, vocabularies, storage) for name in names]
    return TakenCorrections(sum(each.n_taken for each in taken), sum(each.n_left for each in taken))


def _whose_latest_holds(
    old: str, names: Sequence[str], vocabularies: Mapping[str, Vocabulary], storage: StorageOptions
) -> set[_Key]:
    """The pictures whose latest correction says in these vocabularies what it said."""
    latest: dict[_Key, tuple[datetime, str, int, bool]] = {}  # the order is that of `Overrides`
    for name in names:
        for k, row in enumerate(read_override_file(old, name, storage, _SMALL_COLUMNS).to_pylist()):
            if row["vocabulary"] in vocabularies:
                holds = _means_the_same(row, vocabularies[row["vocabulary"]])
                found = (row["time"], name, k, holds)
                latest[_key(row)] = max(latest.get(_key(row), found), found)
    return {key for key, (*_, holds) in latest.items() if holds}


def _copy(
    old: str, output: str, name: str, keys: set[_Key], vocabularies: Mapping[str, Vocabulary], storage: StorageOptions
) -> TakenCorrections:
    """Copy a file's corrections of these pictures: the same ones whenever that is done again."""
    table = read_override_file(old, name, storage)
    rows = table.select(_SMALL_COLUMNS).to_pylist()
    holds = [_key(row) in keys and _means_the_same(row, vocabularies[row["vocabulary"]]) for row in rows]
    if any(holds):
        path = f"{OVERRIDES_FOLDER}/{name}"
        with storing(output):
            data = read_bytes(join(old, path), storage) if all(holds) else override_bytes(table.filter(pa.array(holds)))
            write_new(join(output, path), data, storage)
    return TakenCorrections(sum(holds), len(holds) - sum(holds))


def _identities(keys: set[_Key], output: str, plan: ManifestRecord, storage: StorageOptions) -> set[tuple[_Key, str]]:
    """Those of the pictures that a plan has, and what makes each of them this picture."""
    found: set[tuple[_Key, str]] = set()
    for ref, rows in read_plan_rows(read_plan(plan.files, output, storage), output, storage):
        found |= {
            ((ref.vocabulary, row.image_id), row_identity(row))
            for row in rows
            if (ref.vocabulary, row.image_id) in keys
        }
    return found


def _alike(was: Vocabulary, now: Vocabulary) -> bool:
    return (was.ignore_id, was.level) == (now.ignore_id, now.level)


def _means_the_same(row: Mapping, now: Vocabulary) -> bool:
    """Does every value of the correction's mask stand for the class that it stood for?"""
    names = {each.id: each.name for each in now.classes if each.id in now.labels.values()}
    return all(names.get(each["class_id"]) == each["name"] for each in row["classes"])


def _key(row: Mapping) -> _Key:
    return row["vocabulary"], row["image_id"]
