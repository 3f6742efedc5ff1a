"""The run of a planned job on Ray actors: progress, and a clean end however it is stopped."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.actors.actor import ReplicaSetup
from pipeline.actors.orders import Segmenter, ShardResult
from pipeline.actors.placement import ray_cluster
from pipeline.actors.scheduler import run_shards
from pipeline.annotation.resolve import ResolvedJob
from pipeline.progress import Progress
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
        has_labels: some picture of the output is labelled already; see `pipeline.actors.probe.Probe`.
        redo_kinds: see `pipeline.actors.shard.ShardRunner`.
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
    signals = _Signals()
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(run.n_rows, run.n_rows_before))
            progress.say(run.start(min(job.placement.n_actors, len(run.shards))))
            if job.request.address is None:
                stack.enter_context(ray_cluster(None))
            stack.enter_context(signals.noted())

            def check_all() -> None:
                signals.check()
                check()

            for result in run_shards(
                run.shards,
                setup,
                job.placement,
                progress,
                has_labels=run.has_labels,
                n_rows=run.n_rows_of,
                check=check_all,
            ):
                on_result(result)
    except KeyboardInterrupt as stop:  # the actors are gone by now: what lies there is what is done
        is_terminated = signal.SIGTERM in signals.seen
        raise (JobFailedError if is_terminated else StoppedError)(run.stopped()) from stop


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


class _Signals:
    """SIGTERM stops as Ctrl-C does; Ray's own handler would end the process with a dump of its stack.

    Both are noted beside the exception: one that is raised while an object is finalised is lost.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def check(self) -> None:
        """Raises:
        KeyboardInterrupt: a signal came.
        """
        if self.seen:
            raise KeyboardInterrupt

    @contextmanager
    def noted(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            self.seen.add(number)
            raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
