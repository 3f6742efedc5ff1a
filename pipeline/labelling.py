"""The run of a planned job on Ray actors: progress, and a clean end however it is stopped."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.actor import ReplicaSetup
from pipeline.orders import Segmenter, ShardResult
from pipeline.placement import ray_cluster
from pipeline.progress import Progress
from pipeline.resolve import ResolvedJob
from pipeline.scheduler import run_shards
from schemas.errors import JobFailedError, StoppedError
from schemas.job import ShardRef


@dataclass(frozen=True)
class Run:
    """What one run does of a planned job.

    Args:
        shards: to be labelled, or to be done again in part.
        n_rows: pictures that the progress counts to, of which earlier runs did `n_rows_before`.
        start: the line that the run begins with.
        stopped: gives the line for a run that was stopped.
        has_labels: some picture of the output is labelled already; see `pipeline.probe.Probe`.
        redo_kinds: see `pipeline.shard.ShardRunner`.
        n_rows_of: how many pictures of a shard are to be done.
    """

    shards: list[ShardRef]
    n_rows: int
    n_rows_before: int
    start: Callable[[int], str]
    stopped: Callable[[], str]
    has_labels: bool
    redo_kinds: frozenset[str] | None = None
    n_rows_of: Callable[[ShardRef], int] = lambda ref: ref.n_rows


def label_shards(
    job: ResolvedJob,
    run: Run,
    *,
    load_segmenter: Callable[[ReplicaSetup], Segmenter],
    check: Callable[[], None],
    on_result: Callable[[ShardResult], None],
) -> None:
    """Do the shards of a run.

    Args:
        check: called again and again; what it raises ends the run.
        on_result: called for every shard that is done.

    Raises:
        StoppedError: by Ctrl-C. JobFailedError: by SIGTERM, or the job cannot go on.
    """
    setup = replica_setup(job, run, load_segmenter)
    terminated = threading.Event()
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(run.n_rows, run.n_rows_before))
            progress.say(run.start(min(job.placement.n_actors, len(run.shards))))
            if job.request.address is None:
                stack.enter_context(ray_cluster(None))
            stack.enter_context(_sigterm_stops(terminated))
            for result in run_shards(
                run.shards, setup, job.placement, progress, has_labels=run.has_labels, n_rows=run.n_rows_of, check=check
            ):
                on_result(result)
    except KeyboardInterrupt as stop:  # the actors are gone by now: what lies there is what is done
        raise (JobFailedError if terminated.is_set() else StoppedError)(run.stopped()) from stop


def replica_setup(job: ResolvedJob, run: Run, load_segmenter: Callable[[ReplicaSetup], Segmenter]) -> ReplicaSetup:
    """What the actors of a run are made from."""
    identity = {"model": job.model.fingerprint, "options": job.options.model_dump()}
    return ReplicaSetup(
        job.model,
        job.vocabularies,
        job.options,
        job.request.output,
        job.storage,
        identity,
        timeout_s=job.request.timeout,
        redo_kinds=run.redo_kinds,
        load_segmenter=load_segmenter,
    )


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
