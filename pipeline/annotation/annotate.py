"""One job from the user's request to a finished dataset: resolve, plan, label, report.

Running the same request again continues it: the plan is made again and compared by its digest with the
one the output was begun with, and only shards without a label file are done.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from pipeline.actors.actor import ReplicaSetup, load_segmenter
from pipeline.actors.orders import Segmenter, ShardResult
from pipeline.actors.placement import ray_cluster, this_machine
from pipeline.annotation.labelling import Run, label_shards
from pipeline.annotation.planning import plan_job
from pipeline.annotation.resolve import ResolvedJob, resolve_job
from pipeline.annotation.summary import start_line
from pipeline.annotation.update import refuse_overlap, take_over, take_over_unknown_words
from pipeline.annotation.update_corrections import NO_CORRECTIONS, TakenCorrections, take_over_corrections
from pipeline.output import absolute_uri, done_shards, read_job, shard_totals, storing, sweep
from pipeline.output.label_files import merge_totals
from pipeline.output.plan import read_plan
from pipeline.sources import SourceSummary
from pipeline.storage import StorageOptions
from pipeline.storage.lock import lock_output
from schemas.job import JobRequest, ManifestRecord, ShardRef, UpdateCounts
from schemas.labels import ShardTotals
from schemas.timings import RunTimings


@dataclass
class RunningTotals:
    """Totals to which those of shards are added."""

    totals: ShardTotals

    def add(self, result: ShardResult) -> None:
        self.totals = merge_totals((self.totals, result.totals))


@dataclass(frozen=True)
class JobReport:
    """What became of a job. `totals` are over the whole output, earlier runs included; `timings` are of this run alone.

    `n_shards_taken_over` and `corrections` are what this run copied from the output that the job updates.
    """

    output: str
    n_rows: int
    n_shards: int
    n_shards_before: int
    n_rows_now: int
    seconds: float
    totals: ShardTotals
    sources: SourceSummary
    is_random: bool
    update_of: str | None = None
    update_counts: UpdateCounts | None = None
    n_shards_taken_over: int = 0
    corrections: TakenCorrections = NO_CORRECTIONS
    timings: RunTimings | None = None

    @property
    def n_failed(self) -> int:
        return sum(self.totals.failed.values())

    @property
    def failed_fraction(self) -> float:
        return self.n_failed / max(1, self.totals.rows)


def annotate(
    request: JobRequest,
    *,
    load_segmenter: Callable[[ReplicaSetup], Segmenter] = load_segmenter,
    started: float | None = None,
) -> JobReport:
    """Label what `request` names; go on where an earlier run of the same request stopped.

    Args:
        started: when the command was given (`time.monotonic`), if that was before this call.
        load_segmenter: called in every actor for its replica of the model.

    Raises:
        InputError: a source, vocabulary, model, output or placement that cannot be used.
        JobFailedError: the job cannot go on; what is done stays.
    """
    started = time.monotonic() if started is None else started
    storage = StorageOptions(endpoint_url=request.endpoint_url, profile=request.profile)
    request = _placed(request, storage)
    with ExitStack() as stack:
        nodes = this_machine() if request.address is None else stack.enter_context(ray_cluster(request.address))
        job = resolve_job(request, storage, nodes)
        sources = SourceSummary()
        read_job(request.output, storage)  # refuses a foreign output before anything is written into it
        with storing(request.output):
            lock = stack.enter_context(lock_output(request.output, storage))
        sweep(request.output, storage)
        record = plan_job(job, sources)
        done = _finish(job, record.manifest, load_segmenter, lock.check, started)
        sweep(request.output, storage)  # an actor that was killed while it wrote left a temporary file
    return JobReport(
        output=request.output,
        n_rows=record.manifest.n_rows,
        n_shards=record.manifest.n_shards,
        n_shards_before=done.n_shards_before,
        n_rows_now=done.n_rows_now,
        seconds=time.monotonic() - started,
        totals=done.totals,
        sources=sources,
        is_random=job.model.is_random,
        update_of=record.update_of,
        update_counts=record.update_counts,
        n_shards_taken_over=done.n_shards_taken_over,
        corrections=done.corrections,
        timings=done.timings,
    )


@dataclass(frozen=True)
class _Finished:
    """What a run found done, and did. `totals` are over the whole output."""

    n_shards_before: int
    n_shards_taken_over: int
    corrections: TakenCorrections
    n_rows_now: int
    totals: ShardTotals
    timings: RunTimings | None


def _finish(
    job: ResolvedJob,
    plan: ManifestRecord,
    load_segmenter: Callable[[ReplicaSetup], Segmenter],
    check: Callable[[], None],
    started: float,
) -> _Finished:
    """Take over and label what is missing of a planned job."""
    output, storage, update = job.request.output, job.storage, job.request.update
    shards = read_plan(plan.files, output, storage)
    done = done_shards(output, storage)
    missing = [shard for shard in shards if shard.shard_id not in done]
    taken: set[str] = set()
    corrections = NO_CORRECTIONS
    if missing and update is not None:
        corrections = take_over_corrections(update, output, plan, job.vocabularies, storage)
        taken = take_over(missing, len(shards), update, output, storage)
    remaining = [shard for shard in missing if shard.shard_id not in taken]
    left = {shard.shard_id for shard in remaining}
    totals = shard_totals((s.shard_id for s in shards if s.shard_id not in left), output, storage)
    timings = None
    if remaining:
        run, now = replace(_run(job, remaining, plan, totals), started=started), RunningTotals(totals)
        timings = label_shards(job, run, load_segmenter=load_segmenter, check=check, on_result=now.add)
        totals = now.totals
    elif update is not None:
        take_over_unknown_words(update, output, storage)
    n_rows_now = sum(shard.n_rows for shard in remaining)
    return _Finished(len(shards) - len(missing), len(taken), corrections, n_rows_now, totals, timings)


def _run(job: ResolvedJob, remaining: list[ShardRef], plan: ManifestRecord, before: ShardTotals) -> Run:
    """What is left of a job."""

    def stopped() -> str:
        n_done = len(done_shards(job.request.output, job.storage))
        return f"stopped; {n_done} of {plan.n_shards} shards are done and kept, the same command goes on with the rest"

    return Run(
        shards=remaining,
        n_rows=plan.n_rows,
        n_rows_before=before.rows,
        start=partial(start_line, plan.n_rows, plan.n_shards, plan.n_shards - len(remaining), job.options),
        stopped=stopped,
        has_labels=before.labelled > 0,
    )


def _placed(request: JobRequest, storage: StorageOptions) -> JobRequest:
    """The request with places that are the same for every process, and of which none is written into for another."""
    output, update = absolute_uri(request.output, storage), request.update
    if update is not None:
        update = absolute_uri(update, storage).rstrip("/") or "/"
        refuse_overlap(update, output, storage)
    return request.model_copy(update={"output": output, "update": update})
