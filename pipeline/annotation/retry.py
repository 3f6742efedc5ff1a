"""Failed rows done again: only those that failed in a certain way, in the label files that are there."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from pipeline.actors.actor import ReplicaSetup, load_segmenter
from pipeline.actors.orders import Counts, Segmenter
from pipeline.actors.placement import ray_cluster, this_machine
from pipeline.annotation.labelling import Run, label_shards
from pipeline.annotation.resolve import ResolvedJob, resolve_job
from pipeline.output import FOOTER_THREADS, absolute_uri, done_shards, shard_totals, storing, sweep
from pipeline.output.files import existing_job
from pipeline.output.label_files import read_totals
from pipeline.output.plan import read_plan
from pipeline.storage import StorageOptions, join
from pipeline.storage.lock import lock_output
from schemas.errors import InputError, ModelError, OutputError
from schemas.job import DEFAULT_TIMEOUT_S, JobRecord, JobRequest, ShardRef, differences
from schemas.labels import ShardTotals
from schemas.layout import LABELS_FOLDER, VOCABULARIES_FOLDER
from schemas.manifest import public_uri
from schemas.quantities import counted


@dataclass(frozen=True)
class RetryRequest:
    """What `escnet retry` was asked to do; the rest stands in the output's job.json.

    Args:
        kinds: of failure (`schemas.errors.ErrorKind`), to be done again.
        model: where the job's model lies; None where its name says it.
    """

    output: str
    kinds: frozenset[str]
    model: str | None = None
    actors: int | None = None
    gpus_per_actor: float | None = None
    node_labels: tuple[str, ...] = ()
    accelerator_type: str | None = None
    wait_for_nodes: bool = False
    address: str | None = None
    timeout: float = DEFAULT_TIMEOUT_S
    endpoint_url: str | None = None
    profile: str | None = None


@dataclass
class RetryReport:
    """What became of failed rows. `totals` are over the whole output, now."""

    n_tried: int = 0
    n_labelled: int = 0
    totals: ShardTotals = field(default_factory=ShardTotals)

    @property
    def n_failed(self) -> int:
        return sum(self.totals.failed.values())

    @property
    def failed_fraction(self) -> float:
        return self.n_failed / max(1, self.totals.rows)

    def add(self, counts: Counts) -> None:
        self.n_tried += counts.done
        self.n_labelled += counts.labelled


def retry(
    request: RetryRequest, *, load_segmenter: Callable[[ReplicaSetup], Segmenter] = load_segmenter
) -> RetryReport:
    """Do rows again that failed in certain ways, and put each shard's new file in the place of the old one, whole.

    The other rows stay as they are, byte for byte. The model, vocabularies and options are those of the job.

    Raises:
        InputError: an output that is none, or a model or machine other than the job's.
        JobFailedError: the run cannot go on; the files that are replaced by then stay so.
    """
    storage = StorageOptions(request.endpoint_url, request.profile)
    output = absolute_uri(request.output, storage)
    record = existing_job(output, storage)
    report = RetryReport()
    with ExitStack() as stack:
        nodes = this_machine() if request.address is None else stack.enter_context(ray_cluster(request.address))
        with storing(output):
            lock = stack.enter_context(lock_output(output, storage))
        sweep(output, storage)
        done = done_shards(output, storage)
        shards = [shard for shard in read_plan(record.manifest.files, output, storage) if shard.shard_id in done]
        affected = _affected(shards, request.kinds, output, storage)
        if affected:
            job = _resolve(request, record, output, storage, nodes)
            run = _run(affected, request, output)
            label_shards(
                job, run, load_segmenter=load_segmenter, check=lock.check,
                on_result=lambda result: report.add(result.counts),
            )  # fmt: skip
        report.totals = shard_totals((shard.shard_id for shard in shards), output, storage)
    return report


def retry_lines(report: RetryReport, kinds: Iterable[str]) -> list[str]:
    """The end of a retry in a few lines."""
    named = ", ".join(sorted(kinds))
    if not report.n_tried:
        return [f"Nothing to do: no picture failed with {named}."]
    lines = [f"Done: labelled {report.n_labelled:,} of {counted(report.n_tried, 'failed picture')}."]
    if report.n_failed:
        reasons = sorted(report.totals.failed.items(), key=lambda item: (-item[1], item[0]))
        lines.append("  still failed: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
    return lines


def _affected(
    shards: list[ShardRef], kinds: frozenset[str], output: str, storage: StorageOptions
) -> list[tuple[ShardRef, int]]:
    """The shards with rows that failed so, and how many they are; from footers alone."""

    def n_failed(shard: ShardRef) -> int:
        totals = read_totals(join(output, f"{LABELS_FOLDER}/{shard.shard_id}.parquet"), storage)
        return sum(n for reason, n in totals.failed.items() if reason.partition("/")[2] in kinds)

    with storing(output), ThreadPoolExecutor(FOOTER_THREADS) as pool:
        counts = pool.map(n_failed, shards)
        return [(shard, n) for shard, n in zip(shards, counts, strict=True) if n]


def _resolve(
    request: RetryRequest, record: JobRecord, output: str, storage: StorageOptions, nodes: list[dict[str, float]]
) -> ResolvedJob:
    """The job as it was begun, on the machines of now."""
    options = record.options
    as_begun = JobRequest(
        sources=record.sources,
        vocabularies=tuple(join(output, f"{VOCABULARIES_FOLDER}/{name}.yaml") for name in record.vocabularies),
        model=request.model or record.model.name,
        output=output,
        actors=request.actors,
        cpus_per_actor=options.cpus_per_actor,
        gpus_per_actor=0 if options.device == "cpu" else request.gpus_per_actor,
        node_labels=request.node_labels,
        accelerator_type=request.accelerator_type if options.device == "cuda" else None,
        wait_for_nodes=request.wait_for_nodes,
        address=request.address,
        shard_size=record.manifest.shard_size,
        views=options.views,
        dtype=options.dtype,
        batch_size=options.batch_size,
        max_pixels=options.max_pixels,
        preselect=options.preselect,
        allow_random_weights=record.model.is_random,
        endpoint_url=request.endpoint_url,
        profile=request.profile,
        timeout=request.timeout,
    )
    try:
        job = resolve_job(as_begun, storage, nodes)
    except ModelError as error:
        if request.model is not None:
            raise
        raise InputError(
            f"{error}; this job was made with {record.model.name}: say where it lies with --model"
        ) from error
    differing = differences(job.record(record.manifest), record)
    if differing:
        raise OutputError(f"{public_uri(output)}: cannot be retried so: {'; '.join(differing)}")
    return job


def _run(affected: list[tuple[ShardRef, int]], request: RetryRequest, output: str) -> Run:
    n_rows = sum(n for _, n in affected)
    n_of = {shard.shard_id: n for shard, n in affected}
    what = f"{counted(n_rows, 'failed picture')} in {counted(len(affected), 'shard')}"
    return Run(
        shards=[shard for shard, _ in affected],
        n_rows=n_rows,
        n_rows_before=0,
        start=lambda n_actors: f"{what} of {public_uri(output)} again; {counted(n_actors, 'actor')}",
        stopped=lambda: "stopped; what was labelled is kept, the same command goes on with the rest",
        has_labels=True,
        command="retry",
        redo_kinds=request.kinds,
        n_rows_of=lambda shard: n_of[shard.shard_id],
    )
