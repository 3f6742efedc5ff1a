"""The driver's loop: Ray actors that take one shard after another.

The driver hands out shard references and counts results; pictures and labels never pass through it or
through Ray's object store.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.actor import SHARDS_AT_ONCE, Replica, ReplicaSetup
from pipeline.placement import Placement
from pipeline.probe import Probe
from pipeline.progress import Progress
from pipeline.shard import Counts, ShardResult
from pipeline.summary import unknown_words_line
from schemas.errors import EscnetError, JobFailedError
from schemas.job import ShardRef

MAX_TRIES = 3  # a shard, or a model, whose actor died this often is not tried again
POLL_S = 0.5
ASK_AGAIN_AFTER_S = 2.0  # an actor that is being restarted elsewhere cannot answer yet
SAY_WAITING_AFTER_S = 5.0
SAY_WAITING_EVERY_S = 60.0


def run_shards(
    shards: Iterable[ShardRef],
    setup: ReplicaSetup,
    placement: Placement,
    progress: Progress,
    *,
    has_labels: bool = False,
) -> Iterator[ShardResult]:
    """Label shards on Ray actors; yields results as they come.

    Args:
        has_labels: some picture of the output is labelled already, so a run of failures is no reason to stop.

    Raises:
        JobFailedError: a shard keeps killing its actor, or the first hundred pictures all fail.
        EscnetError: what an actor raised of that kind (weights gone, output not writable).
    """
    crew = _Crew(list(shards), setup, placement, progress, has_labels=has_labels)
    try:
        yield from crew.work()
    finally:
        crew.dismiss()


@dataclass(eq=False)
class _Worker:
    """One actor as the driver sees it. What follows `actor` belongs to its present life and ends with it."""

    actor: Any
    warm_up: Any = None  # pending until the actor is placed and its model loaded
    warm_up_at: float = 0.0  # when to ask for it
    is_placed: bool = False
    is_ready: bool = False
    counts_call: Any = None
    counts: dict[str, Counts] = field(default_factory=dict)  # by shard it has at hand
    n_deaths_loading: int = 0  # in a row, over several lives
    n_restarts: int = 0  # Ray's count of them when its model was last ready


class _Crew:
    """The actors of one job and the shards they still have to do."""

    def __init__(
        self, shards: list[ShardRef], setup: ReplicaSetup, placement: Placement, progress: Progress, *, has_labels: bool
    ) -> None:
        import ray

        self._ray = ray
        self._queue = deque(shards)
        self._probe = Probe(shards, has_labels=has_labels)
        self._progress = progress
        self._placement = placement
        self._model_name = setup.model.name
        self._has_said_words = False
        self._tries: Counter[str] = Counter()
        self._finished = Counts()
        self._in_flight: dict[Any, tuple[_Worker, ShardRef]] = {}  # in the order they were handed out
        self._say_waiting_at = time.monotonic() + SAY_WAITING_AFTER_S
        actor_class = _actor_class(ray, placement)
        self._workers = [_Worker(actor_class.remote(setup)) for _ in range(min(placement.n_actors, len(shards)))]

    def work(self) -> Iterator[ShardResult]:
        while self._queue or self._in_flight:
            self._warm_up()
            self._hand_out()
            calls = [*self._in_flight, *(w.warm_up for w in self._workers if w.warm_up is not None)]
            for call in self._wait(calls):
                yield from self._take(call)
            self._count()
            self._say_waiting()
        self._progress.update(self._finished.done, self._finished.failed, is_loading=False)

    def dismiss(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _wait(self, calls: list[Any]) -> list[Any]:
        if calls:
            return self._ray.wait(calls, timeout=POLL_S)[0]
        time.sleep(POLL_S)  # every actor is being restarted
        return []

    def _warm_up(self) -> None:
        for worker in self._workers:
            if not worker.is_ready and worker.warm_up is None and time.monotonic() >= worker.warm_up_at:
                worker.warm_up = worker.actor.warm_up.remote()

    def _hand_out(self) -> None:
        """A shard for every idle worker, then a second one to fill its window, while there is enough for all."""
        at_hand = Counter(worker for worker, _ in self._in_flight.values())
        for depth in range(SHARDS_AT_ONCE):
            for worker in self._workers:
                may_take = worker.is_ready and at_hand[worker] == depth
                if may_take and self._queue and (depth == 0 or len(self._queue) >= len(self._workers)):
                    ref = self._queue.popleft()
                    call = worker.actor.annotate_shard.remote(ref, self._probe.passed)
                    self._in_flight[call] = (worker, ref)
                    at_hand[worker] += 1

    def _take(self, call: Any) -> Iterator[ShardResult]:
        """The results that a finished call gives: none, or one."""
        worker = self._worker_of(call)
        if worker is None:
            return  # a call of a life that has ended meanwhile
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            self._lost(worker, error)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        else:
            if call in self._in_flight:
                yield from self._finish(self._in_flight.pop(call)[1], result)
            else:
                worker.warm_up, worker.is_ready, worker.n_deaths_loading = None, True, 0
                worker.n_restarts = self._restarts(worker)
                self._say_unknown_words(result)

    def _worker_of(self, call: Any) -> _Worker | None:
        if call in self._in_flight:
            return self._in_flight[call][0]
        return next((worker for worker in self._workers if worker.warm_up == call), None)

    def _finish(self, ref: ShardRef, result: ShardResult) -> Iterator[ShardResult]:
        if result.is_withheld:
            self._probe.withhold(ref, result.last_error)
        else:
            if result.totals.labelled:
                self._probe.pass_()
            failed = sum(result.totals.failed.values())
            self._finished += Counts(result.totals.labelled, failed)
            yield result
        self._queue.extendleft(reversed(self._probe.take_released()))

    def _lost(self, worker: _Worker, error: Exception) -> None:
        """An actor died; Ray restarts it. Its shards are done again, the one at the model three times at most."""
        calls = [call for call, (holder, _) in self._in_flight.items() if holder is worker]
        refs = [self._in_flight.pop(call)[1] for call in calls]
        is_dead = isinstance(error, self._ray.exceptions.ActorDiedError)
        if refs:
            self._tries[refs[0].shard_id] += 1
            self._give_up(self._tries[refs[0].shard_id], f"shard {refs[0].shard_id}", error)
        elif not worker.is_ready:
            worker.n_deaths_loading += is_dead or worker.is_placed
            n_unseen = self._restarts(worker) - worker.n_restarts  # it may die before it answers for the first time
            self._give_up(max(worker.n_deaths_loading, n_unseen), "loading the model", error)
        self._queue.extendleft(reversed(refs))
        if worker.is_placed:
            self._progress.say("a worker process died; what it had at hand is done again")
        fresh = _Worker(worker.actor, warm_up_at=time.monotonic() + ASK_AGAIN_AFTER_S)
        fresh.n_deaths_loading = worker.n_deaths_loading
        fresh.n_restarts = worker.n_restarts + worker.is_ready  # this death was not at loading
        self._workers[self._workers.index(worker)] = fresh

    def _restarts(self, worker: _Worker) -> int:
        """How often Ray has restarted an actor, which no call to it tells; 0 where a Ray client cannot ask."""
        with suppress(AttributeError, self._ray.exceptions.RaySystemError):
            return int(self._ray._private.state.actors(worker.actor._actor_id.hex()).get("NumRestarts", 0))
        return 0

    def _give_up(self, n_deaths: int, doing: str, error: Exception) -> None:
        if n_deaths >= MAX_TRIES:
            raise JobFailedError(
                f"a worker process died {MAX_TRIES} times at {doing}; the machine may be out of memory: "
                f"try fewer --actors or a smaller --shard-size ({type(error).__name__})"
            ) from error

    def _count(self) -> None:
        """Ask the workers, without waiting, how far they are with what they have at hand."""
        for worker in self._workers:
            if worker.counts_call is not None and self._ray.wait([worker.counts_call], timeout=0)[0]:
                with suppress(self._ray.exceptions.RayError):  # an actor that died: `_take` sees to it
                    worker.counts, worker.is_placed = self._ray.get(worker.counts_call), True
                worker.counts_call = None
            if worker.counts_call is None:
                worker.counts_call = worker.actor.counts.remote()
        at_hand = [worker.counts.get(ref.shard_id, Counts()) for worker, ref in self._in_flight.values()]
        so_far = sum(at_hand, start=self._finished)
        if so_far.labelled:
            self._probe.pass_()
            self._queue.extendleft(reversed(self._probe.take_released()))
        self._probe.check()
        is_loading = any(w.is_placed for w in self._workers) and not any(w.is_ready for w in self._workers)
        self._progress.update(so_far.done, so_far.failed, is_loading=is_loading)

    def _say_unknown_words(self, words: list[str]) -> None:
        """Warn once; every replica finds the same."""
        if words and not self._has_said_words:
            self._progress.say(unknown_words_line(self._model_name, words))
            self._has_said_words = True

    def _say_waiting(self) -> None:
        """Never wait in silence for what the cluster cannot give."""
        n_waiting = sum(not worker.is_placed for worker in self._workers)
        if not n_waiting or time.monotonic() < self._say_waiting_at:
            return
        self._say_waiting_at = time.monotonic() + SAY_WAITING_EVERY_S
        free = self._ray.available_resources()
        each = f"{self._placement.cpus_per_actor} CPUs and {self._placement.gpus_per_actor:g} GPUs"
        self._progress.say(
            f"waiting for {n_waiting} of {len(self._workers)} actors, each with {each} on one node; "
            f"free on all nodes: {free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"
        )


def _actor_class(ray: Any, placement: Placement) -> Any:
    ray.method(concurrency_group="counting")(Replica.counts)  # answers while shards are at work
    return ray.remote(
        num_cpus=placement.cpus_per_actor,
        num_gpus=placement.gpus_per_actor,
        max_restarts=-1,
        max_task_retries=0,  # the driver does a lost shard again itself, and counts how often
        max_concurrency=SHARDS_AT_ONCE,
        concurrency_groups={"counting": 1},
    )(Replica)


def _cause(error: Any) -> Exception:
    """What an actor really raised: an error with one clear line stays one."""
    cause = error.cause
    if isinstance(cause, EscnetError):
        return cause
    line = " ".join(str(cause).split())[:300]
    return JobFailedError(f"a worker failed with {type(cause).__name__}: {line}; please report it")
