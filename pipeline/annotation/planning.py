"""The plan of a job: made and written once, then made again by every run and compared with what was written.

The plan of an update keeps the cuts of the output that it updates. A run that goes on with it keeps its own, which
are the same: so the other output is needed for what is still to be copied, and for nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain

from pipeline.annotation.plan_spool import PictureChanges, PlanSpool
from pipeline.annotation.resolve import ResolvedJob
from pipeline.annotation.update import refuse_other_update
from pipeline.output import read_job, storing, write_job
from pipeline.output.files import existing_job
from pipeline.output.plan import PlanDigest, Rows, Shard, cut_shards, read_plan, sweep_parts, write_plan
from pipeline.output.shard_size import choose_shard_size, shard_size_of_update
from pipeline.progress import listing
from pipeline.sources import SourceSummary, list_batches
from pipeline.storage import StorageOptions, join, write_replace
from pipeline.vocabularies import load_vocabulary
from schemas.errors import OutputError, SourceError, VocabularyError
from schemas.job import JobRecord, JobRequest, UpdateCounts, differences
from schemas.layout import JOB_FILE, VOCABULARIES_FOLDER
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_changes import vocabulary_changes
from schemas.vocabulary_files import vocabulary_yaml


@dataclass(frozen=True)
class _Cutting:
    """How the rows of a job are cut into shards.

    Args:
        shards: gives them; what the sources hold is counted in the summary.
        changes: of an update: how its rows differ from those of the kept cuts.
    """

    shard_size: int
    shards: Callable[[SourceSummary], Iterable[Shard]]
    changes: PictureChanges | None = None


def plan_job(job: ResolvedJob, sources: SourceSummary) -> JobRecord:
    """The plan of the job: written if the output is new, else compared with the one it was begun with.

    Raises:
        InputError: no pictures, an output that holds another job, one to update that is none, or what listing the
            sources raises.
    """
    request = job.request
    found = read_job(request.output, job.storage)
    if found is not None:
        refuse_other_update(request.update, found, request.output)
        unlisted = found.manifest.model_copy(update={"shard_size": _shard_size(request, found)})
        _refuse_differences(job, job.record(unlisted), found)  # before listing millions of pictures
        with storing(request.output):  # a run that was killed just after it wrote the plan did not come to it
            sweep_parts(found.manifest.files, request.output, job.storage)
    digest = PlanDigest()
    with _cutting(job, found, sources) as cutting:
        shards = digest.watch(cutting.shards(sources))
        if found is None:
            return _write_plan(job, shards, digest, cutting)
        for _ in shards:
            pass
        _refuse_empty(digest, request)
        asked = job.record(digest.record(found.manifest.files, cutting.shard_size))
        if asked.manifest != found.manifest:
            _refuse_differences(job, asked, found, cutting.changes or _changes_since(job, found))
        if digest.has_signed:  # yesterday's signatures have expired: the same plan again, with today's
            write_plan(cutting.shards(SourceSummary()), request.output, job.storage)
    return found


@contextmanager
def _cutting(job: ResolvedJob, found: JobRecord | None, sources: SourceSummary) -> Iterator[_Cutting]:
    request, names = job.request, tuple(job.vocabularies)
    if request.update is not None:
        planned, where = found, request.output
        if planned is None:
            planned, where = existing_job(request.update, job.storage), request.update
        size = _shard_size(request, planned)
        with _compared(job, planned, where, sources) as spool:
            if found is None and request.shard_size is None:
                size = shard_size_of_update(size, spool.n_added, job.options.batch_size)
            yield _Cutting(size, lambda _: spool.shards(job.identify, size), spool.changes)
    elif found is not None:
        size = _shard_size(request, found)
        yield _Cutting(size, lambda summary: cut_shards(_batches(job, summary), names, size, job.identify))
    else:
        size, batches = choose_shard_size(_batches(job, sources), request.shard_size, job.options.batch_size)
        yield _Cutting(size, lambda _: cut_shards(batches, names, size, job.identify))


def _shard_size(request: JobRequest, planned: JobRecord) -> int:
    """What was asked for, or else what an output was begun with."""
    return request.shard_size or planned.manifest.shard_size


def _compared(
    job: ResolvedJob, planned: JobRecord, where: str, sources: SourceSummary
) -> AbstractContextManager[PlanSpool]:
    """What lies in the sources now, against the plan of the output `where`."""
    refs = read_plan(planned.manifest.files, where, job.storage)
    return PlanSpool.of(refs, where, job.storage, tuple(job.vocabularies), chain.from_iterable(_batches(job, sources)))


def _changes_since(job: ResolvedJob, found: JobRecord) -> PictureChanges:
    with _compared(job, found, job.request.output, SourceSummary()) as spool:
        return spool.changes


def _write_plan(job: ResolvedJob, shards: Iterable[Shard], digest: PlanDigest, cutting: _Cutting) -> JobRecord:
    def record_of(files: tuple[str, ...]) -> JobRecord:
        _refuse_empty(digest, job.request)
        record = job.record(digest.record(files, cutting.shard_size))
        if job.request.update is None or cutting.changes is None:
            return record
        return record.model_copy(
            update={"update_of": public_uri(job.request.update), "update_counts": _counts(cutting.changes)}
        )

    return begin_job(shards, record_of, job.vocabularies, job.request.output, job.storage)


def begin_job(
    shards: Iterable[Shard],
    record_of: Callable[[tuple[str, ...]], JobRecord],
    vocabularies: Mapping[str, Vocabulary],
    output: str,
    storage: StorageOptions,
) -> JobRecord:
    """Write the plan of a new output: manifest, vocabularies, and last of all its job.json.

    Args:
        record_of: gives the job from the names of its manifest files; asked when all shards are written.
    """
    record = record_of(write_plan(shards, output, storage))
    with storing(output):
        for name, vocabulary in vocabularies.items():
            uri = join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml")
            write_replace(uri, vocabulary_yaml(vocabulary).encode(), storage)
    if not write_job(record, output, storage):
        raise OutputError(f"{public_uri(output)}: another run began a job here at this moment; run again to join it")
    with storing(output):
        sweep_parts(record.manifest.files, output, storage)
    return record


def _counts(changes: PictureChanges) -> UpdateCounts:
    return UpdateCounts(n_new=changes.new.n, n_changed=changes.changed.n, n_gone=changes.gone.n)


def _batches(job: ResolvedJob, sources: SourceSummary) -> Iterator[Rows]:
    request = job.request
    return listing(
        list_batches(request.sources, job.storage, sources, image_root=request.image_root, limit=request.limit)
    )


def _refuse_empty(digest: PlanDigest, request: JobRequest) -> None:
    if digest.n_rows == 0:
        sources = ", ".join(public_uri(source) for source in request.sources)
        raise SourceError(f"{sources}: no pictures there; see `escnet annotate --help` for what a SOURCE can be")


def _refuse_differences(
    job: ResolvedJob, asked: JobRecord, found: JobRecord, changes: PictureChanges | None = None
) -> None:
    output = job.request.output
    if not differences(asked, found):
        return
    details = vocabulary_details(found, job.vocabularies, output, job.storage)
    if changes is not None:
        details["pictures"] = f"{found.manifest.n_rows:,} there, {asked.manifest.n_rows:,} now: {changes}"
    where = public_uri(output)
    raise OutputError(
        f"{where}: holds another job ({'; '.join(differences(asked, found, details))}); label what differs into a "
        f"new output with `--update {where} --output NEW`, or give the options and pictures that {JOB_FILE} there "
        "was begun with"
    )


def vocabulary_details(
    found: JobRecord, vocabularies: Mapping[str, Vocabulary], output: str, storage: StorageOptions
) -> dict[str, str]:
    """In what the vocabularies differ from those of `found`, for those whose old form lies in the output as it was.

    What `schemas.job.differences` takes as details.
    """
    details: dict[str, str] = {}
    for name, fingerprint in found.vocabularies.items():
        if name in vocabularies and vocabularies[name].fingerprint != fingerprint:
            with suppress(VocabularyError):
                before = load_vocabulary(join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml"), storage)
                details[f"vocabulary {name}"] = vocabulary_changes(before, vocabularies[name])
    return details
