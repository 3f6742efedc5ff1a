"""The driver's loop: Ray actors that take one shard after another.

The driver hands out shard references and counts results; pictures and labels never pass through it or
through Ray's object store.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.actor import SHARDS_AT_ONCE, Replica, ReplicaSetup
from pipeline.placement import Placement
from pipeline.progress import Progress
from pipeline.shard import STOP_AFTER_FAILURES, Counts, EveryPictureFailed, ShardResult
from schemas.errors import EscnetError, JobFailedError
from schemas.job import ShardRef

MAX_TRIES = 3  # a shard whose actor died this often is not tried again
POLL_S = 0.5
SAY_WAITING_AFTER_S = 5.0


def run_shards(
    shards: Iterable[ShardRef], setup: ReplicaSetup, placement: Placement, progress: Progress
) -> Iterator[ShardResult]:
    """Label shards on Ray actors; yields results as they come.

    Raises:
        JobFailedError: a shard keeps killing its actor, or every picture fails.
        EscnetError: what an actor raised of that kind (weights gone, output not writable).
    """
    crew = _Crew(deque(shards), setup, placement, progress)
    try:
        yield from crew.work()
    finally:
        crew.dismiss()


@dataclass(eq=False)
class _Worker:
    """One actor as the driver sees it."""

    actor: Any
    warm_up: Any  # pending until the actor is placed and its model loaded
    is_placed: bool = False
    is_ready: bool = False
    n_in_flight: int = 0
    counts_call: Any = None
    counts: Counts = field(default_factory=Counts)
    before: Counts = field(default_factory=Counts)  # counts of the actor's earlier lives


class _Crew:
    """The actors of one job and the shards they still have to do."""

    def __init__(self, queue: deque[ShardRef], setup: ReplicaSetup, placement: Placement, progress: Progress) -> None:
        import ray

        self._ray = ray
        self._queue = queue
        self._progress = progress
        self._placement = placement
        self._tries: Counter[str] = Counter()
        self._in_flight: dict[Any, tuple[_Worker, ShardRef]] = {}
        actor_class = ray.remote(  # type: ignore[call-overload]  # Ray's stubs do not know concurrency groups
            num_cpus=placement.cpus_per_actor,
            num_gpus=placement.gpus_per_actor,
            max_restarts=-1,
            max_task_retries=0,  # the driver does a lost shard again itself, and counts how often
            max_concurrency=SHARDS_AT_ONCE,
            concurrency_groups={"counting": 1},
        )(Replica)
        actors: list[Any] = [actor_class.remote(setup) for _ in range(min(placement.n_actors, len(queue)))]
        self._workers = [_Worker(actor, actor.warm_up.remote()) for actor in actors]

    def work(self) -> Iterator[ShardResult]:
        say_waiting_at = time.monotonic() + SAY_WAITING_AFTER_S
        while self._queue or self._in_flight:
            self._hand_out()
            waiting = [*self._in_flight, *(w.warm_up for w in self._workers if not w.is_ready)]
            ready, _ = self._ray.wait(waiting, timeout=POLL_S)
            for call in ready:
                result = self._take(call)
                if result is not None:
                    yield result
            self._count()
            if time.monotonic() > say_waiting_at:
                say_waiting_at = math.inf
                self._say_waiting()

    def dismiss(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _hand_out(self) -> None:
        """A shard for every idle worker, then a second one to fill its window, while there is enough for all."""
        for depth in range(SHARDS_AT_ONCE):
            for worker in self._workers:
                may_take = worker.is_ready and worker.n_in_flight == depth
                if may_take and self._queue and (depth == 0 or len(self._queue) >= len(self._workers)):
                    ref = self._queue.popleft()
                    self._in_flight[worker.actor.annotate_shard.remote(ref)] = (worker, ref)
                    worker.n_in_flight += 1

    def _take(self, call: Any) -> ShardResult | None:
        if call not in self._in_flight:
            self._welcome(next(w for w in self._workers if w.warm_up == call))
            return None
        worker, ref = self._in_flight.pop(call)
        worker.n_in_flight -= 1
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            self._lost(worker, ref, error)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        return None

    def _welcome(self, worker: _Worker) -> None:
        try:
            self._ray.get(worker.warm_up)
            worker.is_ready = True
        except self._ray.exceptions.RayActorError as error:
            self._lost(worker, None, error)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error

    def _lost(self, worker: _Worker, ref: ShardRef | None, error: Exception) -> None:
        """An actor died; Ray restarts it. Its shard is done again, three times at most."""
        what = ref.shard_id if ref else "the model"
        self._tries[what] += 1
        if self._tries[what] >= MAX_TRIES:
            doing = f"shard {what}" if ref else "loading the model"
            raise JobFailedError(
                f"a worker process died {MAX_TRIES} times at {doing}; the machine may be out of memory: "
                f"try fewer --actors or a smaller --shard-size ({type(error).__name__})"
            ) from error
        if ref:
            self._queue.appendleft(ref)
        if worker.is_ready:
            worker.is_ready = False
            worker.before = _add(worker.before, worker.counts)
            worker.counts = Counts()
        worker.warm_up = worker.actor.warm_up.remote()
        self._progress.say("a worker process died; its shard is done again")

    def _count(self) -> None:
        """Ask the workers, without waiting, how far they are; stop where nothing at all succeeds."""
        for worker in self._workers:
            if worker.counts_call is not None:
                ready, _ = self._ray.wait([worker.counts_call], timeout=0)
                if not ready:
                    continue
                with suppress(self._ray.exceptions.RayError):  # an actor that died: `_take` sees to it
                    worker.counts = self._ray.get(worker.counts_call)
                    worker.is_placed = True
                worker.counts_call = None
            if worker.is_ready or not worker.is_placed:
                worker.counts_call = worker.actor.counts.options(concurrency_group="counting").remote()
        total = Counts()
        for worker in self._workers:
            total = _add(total, _add(worker.before, worker.counts))
        self._progress.update(total.labelled + total.failed, total.failed)
        if total.labelled == 0 and total.failed >= STOP_AFTER_FAILURES:
            raise JobFailedError(_every_picture_failed(total.last_error))

    def _say_waiting(self) -> None:
        """Never wait in silence for what the cluster cannot give."""
        n_waiting = sum(not worker.is_placed for worker in self._workers)
        if n_waiting:
            free = self._ray.available_resources()
            each = f"{self._placement.cpus_per_actor} CPUs and {self._placement.gpus_per_actor:g} GPUs"
            self._progress.say(
                f"waiting for {n_waiting} of {len(self._workers)} actors with {each} each; "
                f"free now: {free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"
            )


def _add(a: Counts, b: Counts) -> Counts:
    seconds = {stage: a.seconds[stage] + b.seconds[stage] for stage in a.seconds}
    return Counts(a.labelled + b.labelled, a.failed + b.failed, b.last_error or a.last_error, seconds)


def _every_picture_failed(last_error: str) -> str:
    return (
        f"the first {STOP_AFTER_FAILURES} pictures all failed, the last one with {last_error}; nothing more was tried"
    )


def _cause(error: Any) -> Exception:
    """What an actor really raised: an error with one clear line stays one."""
    cause = error.cause
    if isinstance(cause, EscnetError):
        return cause
    if isinstance(cause, EveryPictureFailed):
        return JobFailedError(_every_picture_failed(str(cause)))
    return JobFailedError(f"a worker failed with {type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
