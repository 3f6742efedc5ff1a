"""The plan of an output that is relabelled: the old one under the names that the new vocabularies give its shards."""

import importlib.metadata
from collections.abc import Iterator

from pipeline.annotation.planning import begin_job, vocabulary_details
from pipeline.output.plan import PlanDigest, Shard, read_plan, read_plan_rows, vocabulary_of
from pipeline.relabel.shards import ShardPair
from pipeline.relabel.words import Changes
from pipeline.storage import StorageOptions
from schemas.errors import OutputError
from schemas.job import JobRecord, ShardRef, differences, shard_identity
from schemas.manifest import public_uri

_WRITERS = ("escnet-pipeline", "pyarrow")  # of the recorded versions, those that write the new files


def plan_again(
    job: JobRecord, changes: Changes, found: JobRecord | None, old: str, new: str, storage: StorageOptions
) -> tuple[list[ShardPair], JobRecord]:
    """The plan of an output once more, with the new vocabularies: the same rows in the same shards, under new names.

    Args:
        job: of the old output.
        found: of the new one, if it is begun already.

    Returns:
        The shards before and after, in order, and the new output's job.

    Raises:
        InputError: the new output holds another job, or a manifest row names a vocabulary whose name was changed.
    """
    refs = read_plan(job.manifest.files, old, storage)
    record = _begun(job, refs, changes, found, old, new, storage)
    return [ShardPair(*both) for both in zip(refs, read_plan(record.manifest.files, new, storage), strict=True)], record


def _begun(
    job: JobRecord,
    refs: list[ShardRef],
    changes: Changes,
    found: JobRecord | None,
    old: str,
    new: str,
    storage: StorageOptions,
) -> JobRecord:
    """The new output's job: written if the output is new, else compared with the one it was begun with."""
    vocabularies = {now.name: now for _, now in changes.values()}
    digest = PlanDigest()
    shards = digest.watch(_shards(job, refs, changes, old, storage))

    def record_of(files: tuple[str, ...]) -> JobRecord:
        here = {name: importlib.metadata.version(name) for name in _WRITERS}
        return job.model_copy(
            update={
                "vocabularies": {name: each.fingerprint for name, each in vocabularies.items()},
                "manifest": digest.record(files, job.manifest.shard_size),
                "versions": {**job.versions, **here},
            }
        )

    if found is None:
        return begin_job(shards, record_of, vocabularies, new, storage)
    for _ in shards:
        pass
    asked = record_of(found.manifest.files)
    differing = differences(asked, found, vocabulary_details(found, vocabularies, new, storage))
    if differing:
        where = public_uri(new)
        raise OutputError(f"{where}: holds another job ({'; '.join(differing)}); choose another --output")
    return found


def _shards(
    job: JobRecord, refs: list[ShardRef], changes: Changes, old: str, storage: StorageOptions
) -> Iterator[Shard]:
    """The shards of the old plan under their new names."""
    names = tuple(now.name for _, now in changes.values())
    for ref, rows in read_plan_rows(refs, old, storage):
        now = changes[ref.vocabulary][1]
        for row in rows:
            vocabulary_of(row, names)  # refuses another name where the manifest says the old one
        yield Shard(shard_identity(rows, now.fingerprint, job.model.fingerprint, job.options), now.name, rows)
