"""One job from the user's request to a finished dataset: resolve, plan, label, report.

Running the same request again continues it: the plan is made again and compared by its digest with the
one the output was begun with, and only shards without a label file are done.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from pipeline.actor import ReplicaSetup, load_segmenter
from pipeline.labelling import label_shards
from pipeline.lock import lock_output
from pipeline.output import absolute_uri, done_shards, read_job, shard_totals, storing, sweep
from pipeline.placement import ray_cluster, this_machine
from pipeline.plan import read_plan
from pipeline.planning import plan_job
from pipeline.resolve import resolve_job
from pipeline.shard import Segmenter
from pipeline.sources import SourceSummary
from pipeline.storage import StorageOptions
from schemas.job import JobRequest
from schemas.labels import ShardTotals


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


def annotate(request: JobRequest, *, load_segmenter: Callable[[ReplicaSetup], Segmenter] = load_segmenter) -> JobReport:
    """Label what `request` names; go on where an earlier run of the same request stopped.

    Args:
        load_segmenter: called in every actor for its replica of the model.

    Raises:
        InputError: a source, vocabulary, model, output or placement that cannot be used.
        JobFailedError: the job cannot go on; what is done stays.
    """
    started = time.monotonic()
    storage = StorageOptions(endpoint_url=request.endpoint_url, profile=request.profile)
    request = request.model_copy(update={"output": absolute_uri(request.output, storage)})
    with ExitStack() as stack:
        nodes = this_machine() if request.address is None else stack.enter_context(ray_cluster(request.address))
        job = resolve_job(request, storage, nodes)
        sources = SourceSummary()
        read_job(request.output, storage)  # refuses a foreign output before anything is written into it
        with storing(request.output):
            stack.enter_context(lock_output(request.output, storage))
        sweep(request.output, storage)
        record = plan_job(job, sources)
        shards = read_plan(record.manifest.files, request.output, storage)
        done = done_shards(request.output, storage)
        remaining = [shard for shard in shards if shard.shard_id not in done]
        totals = shard_totals((s.shard_id for s in shards if s.shard_id in done), request.output, storage)
        if remaining:
            totals = label_shards(job, remaining, record.manifest, totals, load_segmenter)
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
