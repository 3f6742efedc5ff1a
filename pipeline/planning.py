"""The plan of a job: made and written once, then made again by every run and compared with what was written."""

from collections.abc import Iterable, Iterator

from pipeline.output import read_job, storing, write_job
from pipeline.plan import PlanDigest, Shard, cut_shards, sweep_parts, write_plan
from pipeline.progress import listing
from pipeline.resolve import ResolvedJob
from pipeline.sources import SourceSummary, list_sources
from pipeline.storage import join, write_replace
from schemas.errors import OutputError, SourceError
from schemas.job import JobRecord, JobRequest, differences
from schemas.layout import JOB_FILE, VOCABULARIES_FOLDER
from schemas.manifest import public_uri
from schemas.vocabulary_files import vocabulary_yaml


def plan_job(job: ResolvedJob, sources: SourceSummary) -> JobRecord:
    """The plan of the job: written if the output is new, else compared with the one it was begun with.

    Raises:
        InputError: no pictures, an output that holds another job, or what listing the sources raises.
    """
    output = job.request.output
    found = read_job(output, job.storage)
    if found is not None:
        _refuse_differences(job.record(found.manifest), found, output)  # before listing millions of pictures
    digest = PlanDigest()
    shards = digest.watch(_shards(job, sources))
    if found is None:
        return _write_plan(job, shards, digest)
    for _ in shards:
        pass
    _refuse_empty(digest, job.request)
    asked = job.record(digest.record(found.manifest.files, job.request.shard_size))
    _refuse_differences(asked, found, output)
    if digest.has_signed:  # yesterday's signatures have expired: the same plan again, with today's
        write_plan(_shards(job, SourceSummary()), output, job.storage)
    return found


def _write_plan(job: ResolvedJob, shards: Iterable[Shard], digest: PlanDigest) -> JobRecord:
    output = job.request.output
    files = write_plan(shards, output, job.storage)
    _refuse_empty(digest, job.request)
    with storing(output):
        for name, vocabulary in job.vocabularies.items():
            uri = join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml")
            write_replace(uri, vocabulary_yaml(vocabulary).encode(), job.storage)
    record = job.record(digest.record(files, job.request.shard_size))
    if not write_job(record, output, job.storage):
        raise OutputError(f"{public_uri(output)}: another run began a job here at this moment; run again to join it")
    with storing(output):
        sweep_parts(record.manifest.files, output, job.storage)
    return record


def _shards(job: ResolvedJob, sources: SourceSummary) -> Iterator[Shard]:
    request = job.request
    rows = list_sources(request.sources, job.storage, sources, image_root=request.image_root, limit=request.limit)
    return cut_shards(listing(rows), tuple(job.vocabularies), request.shard_size, job.identify)


def _refuse_empty(digest: PlanDigest, request: JobRequest) -> None:
    if digest.n_rows == 0:
        sources = ", ".join(public_uri(source) for source in request.sources)
        raise SourceError(f"{sources}: no pictures there; see `escnet annotate --help` for what a SOURCE can be")


def _refuse_differences(asked: JobRecord, found: JobRecord, output: str) -> None:
    differing = differences(asked, found)
    if differing:
        raise OutputError(
            f"{public_uri(output)}: holds another job ({'; '.join(differing)}); "
            f"choose another --output, or give the options and pictures that {JOB_FILE} there was begun with"
        )
