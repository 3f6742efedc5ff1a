"""The run of a planned job on Ray actors: progress, and a clean end however it is stopped."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipeline.actor import ReplicaSetup
from pipeline.label_files import merge_totals
from pipeline.orders import Segmenter
from pipeline.output import done_shards
from pipeline.placement import ray_cluster
from pipeline.progress import Progress
from pipeline.resolve import ResolvedJob
from pipeline.scheduler import run_shards
from pipeline.summary import start_line
from schemas.errors import JobFailedError, StoppedError
from schemas.job import ManifestRecord, ShardRef
from schemas.labels import ShardTotals


def label_shards(
    job: ResolvedJob,
    remaining: list[ShardRef],
    plan: ManifestRecord,
    before: ShardTotals,
    load_segmenter: Callable[[ReplicaSetup], Segmenter],
) -> ShardTotals:
    """Run the shards that are left; the totals of the whole output."""
    identity = {"model": job.model.fingerprint, "options": job.options.model_dump()}
    setup = ReplicaSetup(
        job.model,
        job.vocabularies,
        job.options,
        job.request.output,
        job.storage,
        identity,
        timeout_s=job.request.timeout,
        load_segmenter=load_segmenter,
    )
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
