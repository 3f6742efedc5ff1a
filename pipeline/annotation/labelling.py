"""The run of a planned job on Ray actors: progress, and a clean end however it is stopped."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from pipeline.actors.actor import ReplicaSetup
from pipeline.actors.orders import ReplicaStart, Segmenter, ShardResult
from pipeline.actors.placement import Placement, ray_cluster
from pipeline.actors.scheduler import run_shards
from pipeline.annotation.health import PlanWatch
from pipeline.annotation.resolve import ResolvedJob
from pipeline.annotation.run_watch import RunWatch
from pipeline.annotation.summary import unknown_words_line
from pipeline.progress import Progress
from pipeline.signals import StopSignals
from pipeline.storage import join, locate
from schemas.errors import JobFailedError
from schemas.job import ShardRef
from schemas.layout import JOB_FILE
from schemas.timings import RunTimings


@dataclass(frozen=True)
class Run:
    """What one run does of a planned job.

    Args:
        shards: to be labelled, or to be done again in part.
        n_rows: pictures that the progress counts to, of which earlier runs did `n_rows_before`.
        start: the line that the run begins with.
        stopped: gives the line for a run that was stopped.
        has_labels: some picture of the output is labelled already; see `pipeline.actors.probe.Probe`.
        command: which one gave the run.
        redo_kinds: see `pipeline.actors.shard.ShardRunner`.
        n_rows_of: how many pictures of a shard are to be done.
        started: when the command was given (`time.monotonic`).
    """

    shards: list[ShardRef]
    n_rows: int
    n_rows_before: int
    start: Callable[[int], str]
    stopped: Callable[[], str]
    has_labels: bool
    command: Literal["annotate", "retry"] = "annotate"
    redo_kinds: frozenset[str] | None = None
    n_rows_of: Callable[[ShardRef], int] = lambda ref: ref.n_rows
    started: float = field(default_factory=time.monotonic)


def label_shards(
    job: ResolvedJob,
    run: Run,
    *,
    load_segmenter: Callable[[ReplicaSetup], Segmenter],
    check: Callable[[], None],
    on_result: Callable[[ShardResult], None],
) -> RunTimings:
    """Do the shards of a run; returns where the time went.

    Args:
        check: called again and again; what it raises ends the run.
        on_result: called for every shard that is done.

    Raises:
        StoppedError: by Ctrl-C. JobFailedError: by SIGTERM or SIGHUP, or the job cannot go on.
    """
    setup = replica_setup(job, run, load_segmenter)
    plan = None if job.request.expected is None or run.command != "annotate" else PlanWatch(job.request.expected)
    placement = replace(job.placement, n_actors=min(job.placement.n_actors, len(run.shards)))
    signals = StopSignals()
    try:
        with Progress(run.n_rows, run.n_rows_before) as progress, _watching(job, run, placement, progress) as watch:
            progress.say(run.start(placement.n_actors))
            with ExitStack() as stack:
                if job.request.address is None:
                    stack.enter_context(ray_cluster(None))
                watch.passed("cluster")
                stack.enter_context(signals.noted())

                def check_all() -> None:
                    signals.check()
                    check()

                for result in run_shards(
                    run.shards,
                    setup,
                    placement,
                    progress,
                    has_labels=run.has_labels,
                    n_rows=run.n_rows_of,
                    check=check_all,
                    on_ready=partial(_welcome, job.model.name, watch, progress),
                ):
                    watch.add(result)
                    on_result(result)
                    _hold_to_plan(plan, result, job.request.strict, progress)
    except KeyboardInterrupt as stop:  # the actors are gone by now: what lies there is what is done
        raise signals.error(run.stopped()) from stop
    return watch.timings()


@contextmanager
def _watching(job: ResolvedJob, run: Run, placement: Placement, progress: Progress) -> Iterator[RunWatch]:
    about = {"command": run.command, "n_pictures": sum(map(run.n_rows_of, run.shards)), "n_shards": len(run.shards)}
    watch = RunWatch(job, about, placement, run.started, progress)
    try:
        yield watch
    except BaseException as error:
        watch.close(error)
        raise
    watch.close(None)


def _hold_to_plan(plan: PlanWatch | None, result: ShardResult, strict: bool, progress: Progress) -> None:
    """Say what strays from the plan.

    Raises:
        JobFailedError: something strays for the worse, and the run is to be `strict`.
    """
    strayed = plan.look(result) if plan is not None else {}
    for kind, line in strayed.items():
        if strict and kind != "faster":
            raise JobFailedError(f"stopped by --strict: {line}; what is done is kept, without --strict it goes on")
        progress.say(line)


def _welcome(model: str, watch: RunWatch, progress: Progress, actor: int, start: ReplicaStart) -> None:
    """An actor is ready. Every replica finds the same unknown words."""
    if start.unknown_words and watch.is_first:
        progress.say(unknown_words_line(model, start.unknown_words))
    watch.ready(actor, start)


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
        shared=_shared_paths(job),
        timeout_s=job.request.timeout,
        redo_kinds=run.redo_kinds,
        load_segmenter=load_segmenter,
    )


def _shared_paths(job: ResolvedJob) -> tuple[str, ...]:
    """What a job reads and writes on a disk, which must be one that all nodes of its cluster share."""
    if job.request.address is None:
        return ()
    named = (*job.request.sources, join(job.request.output, JOB_FILE))
    places = [locate(uri, job.storage) for uri in named]
    return tuple(place.path for place in places if place.is_local and os.path.exists(place.path))
