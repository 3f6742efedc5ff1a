"""The driver's loop: Ray actors that take one shard after another.

The driver hands out shard references and counts results; pictures and labels never pass through it or
through Ray's object store.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pipeline.actors.actor import SHARDS_AT_ONCE, ReplicaSetup
from pipeline.actors.orders import Counts, ReplicaStart, ShardResult
from pipeline.actors.placement import Placement, cluster_nodes, describe_nodes
from pipeline.actors.probe import Probe
from pipeline.actors.shard_work import ShardWork
from pipeline.actors.worker import Worker, actor_class, cause, n_restarts, why_not_created
from pipeline.progress import Progress
from schemas.errors import JobFailedError
from schemas.job import ShardRef

MAX_DEATHS_WITHOUT_LABEL = 60  # five pictures that end their process cost as many
MAX_TRIES = 3  # a model whose actor died this often is not tried again
POLL_S = 0.5
ASK_AGAIN_AFTER_S = 2.0  # an actor that is being restarted elsewhere cannot answer yet
SAY_WAITING_AFTER_S = 5.0
SAY_WAITING_EVERY_S = 60.0
ANSWER_WITHIN_S = 60.0  # beyond the time-out of a picture: an actor answers unless something holds all of its process


def run_shards(
    shards: Sequence[ShardRef],
    setup: ReplicaSetup,
    placement: Placement,
    progress: Progress,
    *,
    has_labels: bool = False,
    n_rows: Callable[[ShardRef], int] = lambda ref: ref.n_rows,
    check: Callable[[], None] = lambda: None,
    on_ready: Callable[[int, ReplicaStart], None] = lambda *_: None,
) -> Iterator[ShardResult]:
    """Label shards on Ray actors; yields results as they come.

    Args:
        has_labels: some picture of the output is labelled already; see `Probe`.
        n_rows: how many pictures of a shard are to be done.
        check: called again and again; what it raises ends the job.
        on_ready: called with the number of an actor whenever its model is loaded.

    Raises:
        JobFailedError: actors keep dying and no picture is to blame, or the first hundred pictures all fail.
        EscnetError: what an actor raised of that kind (weights gone, output not writable).
    """
    probe = Probe(((ref, n_rows(ref)) for ref in shards), has_labels=has_labels)
    crew = _Crew(shards, setup, placement, progress, probe=probe, check=check, on_ready=on_ready)
    try:
        yield from crew.work()
    finally:
        crew.dismiss()


class _Crew:
    """The actors of one job and the shards they still have to do."""

    def __init__(
        self,
        shards: Sequence[ShardRef],
        setup: ReplicaSetup,
        placement: Placement,
        progress: Progress,
        *,
        probe: Probe,
        check: Callable[[], None],
        on_ready: Callable[[int, ReplicaStart], None],
    ) -> None:
        import ray

        self._ray = ray
        self._queue = deque(map(ShardWork, shards))
        self._withheld: dict[str, ShardWork] = {}
        self._probe = probe
        self._progress = progress
        self._placement = placement
        self._timeout_s = setup.timeout_s * setup.options.batch_size
        self._check = check
        self._on_ready = on_ready
        self._said: set[str] = set()
        self._n_deaths = 0
        self._finished = Counts()
        self._in_flight: dict[Any, tuple[Worker, ShardWork]] = {}  # in the order they were handed out
        self._say_waiting_at = time.monotonic() + SAY_WAITING_AFTER_S
        self._count_unborn_at = time.monotonic() + ASK_AGAIN_AFTER_S
        replicas = actor_class(ray, placement)
        self._workers = [Worker(replicas.remote(setup)) for _ in range(min(placement.n_actors, len(shards)))]

    def work(self) -> Iterator[ShardResult]:
        while self._queue or self._in_flight:
            self._check()
            self._warm_up()
            self._hand_out()
            calls = [*self._in_flight, *(w.warm_up for w in self._workers if w.warm_up is not None)]
            for call in self._wait(calls):
                yield from self._take(call)
            self._ask_for_reports()
            self._count_unborn()
            self._end_stuck()
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
        for depth in range(SHARDS_AT_ONCE):
            for worker in self._workers:
                at_hand = self._works_of(worker)
                if not worker.is_ready or len(at_hand) != depth or not self._queue:
                    continue
                if depth and (
                    len(self._queue) < len(self._workers) or self._queue[0].is_suspect or at_hand[0].is_suspect
                ):
                    continue
                work = self._queue.popleft()
                self._in_flight[self._call(worker.actor, work)] = (worker, work)

    def _works_of(self, worker: Worker) -> list[ShardWork]:
        return [work for holder, work in self._in_flight.values() if holder is worker]

    def _call(self, actor: Any, work: ShardWork) -> Any:
        if work.search is not None:
            return actor.try_pictures.remote(work.ref, work.search.group)
        return actor.annotate_shard.remote(work.order(self._probe.withholds))

    def _take(self, call: Any) -> Iterator[ShardResult]:
        """The results that a finished call gives: none, or one."""
        worker = self._worker_of(call)
        if worker is None:
            return  # a call of a life that has ended meanwhile
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise cause(error) from error
        except self._ray.exceptions.RayError as error:  # the actor, its node, or what it had to say is gone
            self._lost(worker, error)
        else:
            if call in self._in_flight:
                yield from self._finish(worker, self._in_flight.pop(call)[1], result)
            else:
                worker.warm_up, worker.is_ready, worker.n_deaths_loading = None, True, 0
                worker.n_restarts = n_restarts(self._ray, worker.actor)
                self._on_ready(self._workers.index(worker), result)

    def _worker_of(self, call: Any) -> Worker | None:
        if call in self._in_flight:
            return self._in_flight[call][0]
        return next((worker for worker in self._workers if worker.warm_up == call), None)

    def _finish(self, worker: Worker, work: ShardWork, result: ShardResult | None) -> Iterator[ShardResult]:
        if result is None:  # it was tried in part
            work.survived()
            self._go_on_with([work])
            return
        if result.is_withheld:
            self._probe.withhold(work.ref, result.last_error)
            self._withheld[work.ref.shard_id] = work
        else:
            self._probe.pass_()
            self._finished += result.counts
            self._say_halved(result.n_halved)
            yield replace(result, actor=self._workers.index(worker))
        self._release()

    def _release(self) -> None:
        """What was withheld is done again as soon as that is no longer needed."""
        released = self._probe.take_released()
        self._queue.extendleft(self._withheld.pop(ref.shard_id) for ref in reversed(released))

    def _lost(self, worker: Worker, error: Exception) -> None:
        """An actor died; Ray restarts it, and what it had at hand is done again."""
        calls = [call for call, (holder, _) in self._in_flight.items() if holder is worker]
        works = [self._in_flight.pop(call)[1] for call in calls]
        is_dead = isinstance(error, self._ray.exceptions.ActorDiedError)
        if works:
            self._blame(worker, works)
        elif not worker.is_ready:
            worker.n_deaths_loading += is_dead or worker.is_placed
            n_unseen = (
                n_restarts(self._ray, worker.actor) - worker.n_restarts
            )  # it may die before it answers for the first time
            self._give_up(max(worker.n_deaths_loading, n_unseen) >= MAX_TRIES, MAX_TRIES, "loading the model", error)
        if worker.is_placed and not worker.is_ended:
            self._progress.say("a worker process died; what it had at hand is done again")
        self._go_on_with(works)
        fresh = Worker(worker.actor, warm_up_at=time.monotonic() + ASK_AGAIN_AFTER_S)
        fresh.n_deaths_loading = worker.n_deaths_loading
        fresh.n_restarts = worker.n_restarts + worker.is_ready  # this death was not at loading
        self._workers[self._workers.index(worker)] = fresh

    def _count_unborn(self) -> None:
        """Processes that die before they answer make no call fail: only Ray's count of restarts tells of them."""
        if time.monotonic() < self._count_unborn_at:
            return
        self._count_unborn_at = time.monotonic() + ASK_AGAIN_AFTER_S
        for worker in self._workers:
            if not worker.is_ready:
                n_unseen = n_restarts(self._ray, worker.actor) - worker.n_restarts
                self._give_up(n_unseen >= MAX_TRIES, n_unseen, "loading the model")

    def _blame(self, worker: Worker, works: list[ShardWork]) -> None:
        stuck = worker.report.stuck if worker.is_ended else None
        self._n_deaths += 1
        has_none = not self._finished.labelled
        self._give_up(
            has_none and self._n_deaths >= MAX_DEATHS_WITHOUT_LABEL, self._n_deaths, "work, with nothing done"
        )
        for work in works:
            if stuck is None:
                work.died("timeout" if worker.is_ended else "killed", was_alone=len(works) == 1)
            elif stuck.shard_id == work.ref.shard_id:
                work.died("timeout", was_alone=True, stuck=stuck.positions)
            if work.is_hopeless:
                self._give_up(
                    True,
                    work.n_deaths,
                    f"shard {work.ref.shard_id}, and none of its pictures, or too many, do it alone",
                )

    def _go_on_with(self, works: list[ShardWork]) -> None:
        """Next of all; a search that has just begun or ended is told of."""
        for work in works:
            name = f"shard {work.ref.shard_id}"
            if work.search is not None:
                self._say_once(f"{name}: processes end with it; looking for the picture that does it")
            if work.poison:
                self._say_once(f"{name}: {len(work.poison)} of its pictures end the process, and become failed rows")
        self._queue.extendleft(reversed(works))

    def _give_up(self, is_hopeless: bool, n_deaths: int, doing: str, error: Exception | None = None) -> None:
        if is_hopeless:
            why = why_not_created(error) if error else ""
            why = why or "the machine may be out of memory, or --timeout too short: try fewer --actors, more time"
            raise JobFailedError(f"a worker process died {n_deaths} times at {doing}; {why}") from error

    def _ask_for_reports(self) -> None:
        """Ask the workers, without waiting, how far they are with what they have at hand."""
        for worker in self._workers:
            if worker.report_call is not None and self._ray.wait([worker.report_call], timeout=0)[0]:
                with suppress(self._ray.exceptions.RayError):  # an actor that died: `_take` sees to it
                    worker.report, worker.is_placed = self._ray.get(worker.report_call), True
                worker.report_call = None
            if worker.report_call is None:
                worker.report_call, worker.report_asked_at = worker.actor.report.remote(), time.monotonic()

    def _end_stuck(self) -> None:
        """End processes whose model does not come back, or that answer nothing at all; Ray starts new ones."""
        for worker in self._workers:
            works = self._works_of(worker)
            is_silent = time.monotonic() - worker.report_asked_at > self._timeout_s + ANSWER_WITHIN_S
            if works and not worker.is_ended and (worker.report.stuck or is_silent):
                worker.is_ended = True
                self._progress.say("a picture takes longer than --timeout; its worker process is started anew")
                self._ray.kill(worker.actor, no_restart=False)

    def _count(self) -> None:
        at_hand = [w.report.counts.get(work.ref.shard_id, Counts()) for w, work in self._in_flight.values()]
        so_far = sum(at_hand, start=self._finished)
        if so_far.labelled:
            self._probe.pass_()
            self._release()
        self._probe.check()
        is_loading = any(w.is_placed for w in self._workers) and not any(w.is_ready for w in self._workers)
        self._progress.update(so_far.done, so_far.failed, is_loading=is_loading)

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._progress.say(line)

    def _say_halved(self, n_halved: int) -> None:
        if n_halved:
            self._say_once("a batch did not fit into GPU memory: such batches are cut smaller from now on")

    def _say_waiting(self) -> None:
        """Never wait in silence for what the cluster cannot give."""
        n_waiting = sum(not worker.is_placed for worker in self._workers)
        if not n_waiting or time.monotonic() < self._say_waiting_at:
            return
        self._say_waiting_at = time.monotonic() + SAY_WAITING_EVERY_S
        free, there = self._ray.available_resources(), describe_nodes(cluster_nodes(self._ray))
        self._progress.say(
            f"waiting for {n_waiting} of {len(self._workers)} actors, each with {self._placement.each}; "
            f"free on all nodes: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU; there is {there}"
        )
