"""One job from the user's request to a finished dataset: resolve, plan, label, report.

Running the same request again continues it: the plan is made again and compared by its digest with the
one the output was begun with, and only shards without a label file are done.
"""

import importlib.metadata
import platform
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from escnet.models import ResolvedModel, resolve_model
from pipeline.actor import ReplicaSetup
from pipeline.label_files import merge_totals
from pipeline.lock import lock_output
from pipeline.output import absolute_uri, done_shards, read_job, shard_totals, storing, sweep, write_job
from pipeline.placement import Node, Placement, check_placement, ray_cluster, resolve_placement, this_machine
from pipeline.plan import PlanDigest, Shard, cut_shards, read_plan, sweep_parts, write_plan
from pipeline.progress import Progress, listing
from pipeline.scheduler import run_shards
from pipeline.sources import SourceSummary, list_sources
from pipeline.storage import StorageOptions, join, write_replace
from pipeline.summary import start_line
from pipeline.vocabularies import load_vocabulary
from schemas.errors import (
    InputError,
    JobFailedError,
    OutputError,
    SourceError,
    StoppedError,
    VocabularyError,
)
from schemas.job import (
    JobRecord,
    JobRequest,
    LabelOptions,
    ManifestRecord,
    ModelRecord,
    ShardRef,
    differences,
    shard_identity,
)
from schemas.labels import ShardTotals
from schemas.layout import JOB_FILE, VOCABULARIES_FOLDER
from schemas.manifest import ManifestRow, public_uri
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

BATCH_SIZE_ON_GPU = 8
RECORDED_VERSIONS = ("escnet-pipeline", "torch", "open_clip_torch", "segment-anything", "timm", "pillow", "pyarrow")


@dataclass(frozen=True)
class JobReport:
    """What became of a job. `totals` are over the whole output, earlier runs included."""

    output: str
    n_rows: int
    n_shards: int
    n_shards_before: int
    n_rows_now: int
    seconds: float
    totals: ShardTotals
    sources: SourceSummary
    is_random: bool

    @property
    def n_failed(self) -> int:
        return sum(self.totals.failed.values())

    @property
    def failed_fraction(self) -> float:
        return self.n_failed / max(1, self.totals.rows)


@dataclass(frozen=True)
class _Resolved:
    """A request with every name looked up and every default chosen."""

    request: JobRequest
    storage: StorageOptions
    vocabularies: dict[str, Vocabulary]
    model: ResolvedModel
    options: LabelOptions
    placement: Placement

    def identify(self, rows: list[ManifestRow], vocabulary: str) -> str:
        return shard_identity(rows, self.vocabularies[vocabulary].fingerprint, self.model.fingerprint, self.options)

    def record(self, manifest: ManifestRecord) -> JobRecord:
        return JobRecord(
            model=ModelRecord(name=self.model.name, fingerprint=self.model.fingerprint, is_random=self.model.is_random),
            vocabularies={name: vocabulary.fingerprint for name, vocabulary in self.vocabularies.items()},
            options=self.options,
            manifest=manifest,
            sources=tuple(public_uri(source) for source in self.request.sources),
            versions={
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in RECORDED_VERSIONS},
            },
        )


def annotate(request: JobRequest) -> JobReport:
    """Label what `request` names; go on where an earlier run of the same request stopped.

    Raises:
        InputError: a source, vocabulary, model, output or placement that cannot be used.
        JobFailedError: the job cannot go on; what is done stays.
    """
    started = time.monotonic()
    storage = StorageOptions(endpoint_url=request.endpoint_url, profile=request.profile)
    request = request.model_copy(update={"output": absolute_uri(request.output, storage)})
    with ExitStack() as stack:
        nodes = this_machine() if request.address is None else stack.enter_context(ray_cluster(request.address))
        job = _resolve(request, storage, nodes)
        sources = SourceSummary()
        read_job(request.output, storage)  # refuses a foreign output before anything is written into it
        with storing(request.output):
            stack.enter_context(lock_output(request.output, storage))
        sweep(request.output, storage)
        record = _plan(job, sources)
        shards = read_plan(record.manifest.files, request.output, storage)
        done = done_shards(request.output, storage)
        remaining = [shard for shard in shards if shard.shard_id not in done]
        totals = shard_totals((s.shard_id for s in shards if s.shard_id in done), request.output, storage)
        if remaining:
            totals = _label(job, remaining, record.manifest, totals)
    return JobReport(
        output=request.output,
        n_rows=record.manifest.n_rows,
        n_shards=len(shards),
        n_shards_before=len(shards) - len(remaining),
        n_rows_now=sum(shard.n_rows for shard in remaining),
        seconds=time.monotonic() - started,
        totals=totals,
        sources=sources,
        is_random=job.model.is_random,
    )


def _resolve(request: JobRequest, storage: StorageOptions, nodes: Sequence[Node]) -> _Resolved:
    vocabularies: dict[str, Vocabulary] = {}
    for name in request.vocabularies:
        vocabulary = load_vocabulary(name, storage)
        if vocabulary.name in vocabularies:
            raise VocabularyError(
                f"{name}: a second vocabulary named {vocabulary.name!r}; names must differ in one job"
            )
        vocabularies[vocabulary.name] = vocabulary
    model = resolve_model(request.model, request.allow_random_weights)
    placement = resolve_placement(request, nodes, model)
    where = f"the cluster at {request.address}" if request.address else "this machine"
    check_placement(placement, nodes, where=where, can_grow=request.address is not None)
    device: Literal["cpu", "cuda"] = "cuda" if placement.gpus_per_actor > 0 else "cpu"
    options = LabelOptions(
        views=request.views or model.config.views,
        device=device,
        dtype=request.dtype or ("bfloat16" if device == "cuda" else "float32"),
        batch_size=(request.batch_size or BATCH_SIZE_ON_GPU) if device == "cuda" else 1,
        cpus_per_actor=request.cpus_per_actor,
        max_pixels=request.max_pixels,
    )
    if device == "cpu" and options.dtype == "float16":
        raise InputError("--dtype float16 needs a GPU; on a CPU use float32 or bfloat16")
    return _Resolved(request, storage, vocabularies, model, options, placement)


def _plan(job: _Resolved, sources: SourceSummary) -> JobRecord:
    """The plan of the job: written if the output is new, else compared with the one it was begun with."""
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


def _write_plan(job: _Resolved, shards: Iterable[Shard], digest: PlanDigest) -> JobRecord:
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


def _shards(job: _Resolved, sources: SourceSummary) -> Iterator[Shard]:
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


def _label(job: _Resolved, remaining: list[ShardRef], plan: ManifestRecord, before: ShardTotals) -> ShardTotals:
    """Run the shards that are left; the totals of the whole output."""
    identity = {"model": job.model.fingerprint, "options": job.options.model_dump()}
    setup = ReplicaSetup(job.model, job.vocabularies, job.options, job.request.output, job.storage, identity)
    n_actors = min(job.placement.n_actors, len(remaining))
    totals, terminated = before, threading.Event()
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(plan.n_rows, before.rows))
            progress.say(start_line(plan.n_rows, plan.n_shards, plan.n_shards - len(remaining), job.options, n_actors))
            if job.request.address is None:
                stack.enter_context(ray_cluster(None))
            stack.enter_context(_sigterm_stops(terminated))
            has_labels = before.labelled > 0
            for result in run_shards(remaining, setup, job.placement, progress, has_labels=has_labels):
                totals = merge_totals((totals, result.totals))
    except KeyboardInterrupt as stop:  # the actors are gone by now: what lies there is what is done
        n_done = len(done_shards(job.request.output, job.storage))
        line = f"stopped; {n_done} of {plan.n_shards} shards are done and kept, the same command goes on with the rest"
        raise (JobFailedError if terminated.is_set() else StoppedError)(line) from stop
    return totals


@contextmanager
def _sigterm_stops(terminated: threading.Event) -> Iterator[None]:
    """Let SIGTERM stop as Ctrl-C does; Ray's own handler would end the process with a dump of its stack."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        terminated.set()  # Ray passes on that it was interrupted, but not by what
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
