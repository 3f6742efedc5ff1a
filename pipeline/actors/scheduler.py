"""The driver's loop: Ray actors that take one shard after another.

The driver hands out shard references and counts results; pictures and labels never pass through it or
through Ray's object store. What it does for every shard costs the same however many actors there are, but for one
`ray.wait`; what it does for every actor it does twice a second (docs/scaling.md).
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.actors.actor import SHARDS_AT_ONCE, ReplicaSetup
from pipeline.actors.orders import Counts, ReplicaStart, ShardResult
from pipeline.actors.placement import Placement, waiting_line
from pipeline.actors.probe import Probe
from pipeline.actors.reports import Reports
from pipeline.actors.shard_work import ShardWork
from pipeline.actors.worker import Worker, actor_class, cause, check_loading, give_up_if, n_restarts
from pipeline.progress import Progress
from schemas.job import ShardRef

MAX_DEATHS_WITHOUT_LABEL = 60  # five pictures that end their process cost as many
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
        JobFailedError: actors keep dying and no picture is to blame, the first hundred pictures all fail, or
            storage refuses what it gave before.
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
        self._look_at = time.monotonic()
        self._say_waiting_at = self._look_at + SAY_WAITING_AFTER_S
        self._count_unborn_at = self._look_at + ASK_AGAIN_AFTER_S
        replicas = actor_class(ray, placement)
        self._workers = [Worker(i, replicas.remote(setup)) for i in range(min(placement.n_actors, len(shards)))]
        self._cold = set(self._workers)  # to be asked to load the model
        self._warm_ups: dict[Any, Worker] = {}
        self._open: dict[Worker, None] = {}  # ready, and with room for a shard; in this order
        self._in_flight: dict[Any, Worker] = {}
        self._reports = Reports(ray, self._workers)

    def work(self) -> Iterator[ShardResult]:
        while self._queue or self._in_flight:
            self._check()
            self._warm_up()
            self._hand_out()
            for call in self._wait():
                yield from self._take(call)
            self._probe.check()
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + POLL_S
                self._look_around()
        self._probe.end()
        self._progress.update(self._finished.done, self._finished.failed, is_loading=False)

    def dismiss(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _wait(self) -> list[Any]:
        """All calls that have ended; the more at once, the busier the driver is."""
        calls = [*self._in_flight, *self._warm_ups]
        if not calls:
            time.sleep(POLL_S)  # every actor is being restarted
        elif self._ray.wait(calls, timeout=POLL_S)[0]:
            return self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]
        return []

    def _warm_up(self) -> None:
        for worker in [worker for worker in self._cold if time.monotonic() >= worker.warm_up_at]:
            self._cold.remove(worker)
            self._warm_ups[worker.actor.warm_up.remote()] = worker

    def _hand_out(self) -> None:
        """A shard for every idle worker, then a second one to fill its window, while there is enough for all."""
        for depth in range(SHARDS_AT_ONCE):
            for worker in [worker for worker in self._open if len(worker.at_hand) == depth]:
                if not self._queue:
                    return
                if depth == 0 or self._may_go_ahead(worker):
                    self._hand(worker, self._queue.popleft())

    def _may_go_ahead(self, worker: Worker) -> bool:
        suspects = [self._queue[0], *worker.at_hand.values()]
        return len(self._queue) >= len(self._workers) and not any(work.is_suspect for work in suspects)

    def _hand(self, worker: Worker, work: ShardWork) -> None:
        call = self._call(worker.actor, work)
        self._in_flight[call] = worker
        worker.at_hand[call] = work
        if len(worker.at_hand) == SHARDS_AT_ONCE:
            del self._open[worker]

    def _call(self, actor: Any, work: ShardWork) -> Any:
        if work.search is not None:
            return actor.try_pictures.remote(work.ref, work.search.group)
        return actor.annotate_shard.remote(work.order(self._probe.withholds))

    def _take(self, call: Any) -> Iterator[ShardResult]:
        """The results that a finished call gives: none, or one."""
        worker = self._in_flight.get(call) or self._warm_ups.get(call)
        if worker is None:
            return  # a call of a life that has ended meanwhile
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise cause(error) from error
        except self._ray.exceptions.RayError as error:  # the actor, its node, or what it had to say is gone
            self._lost(worker, error)
        else:
            self._open[worker] = None
            if self._in_flight.pop(call, None):
                yield from self._finish(worker, worker.at_hand.pop(call), result)
            else:
                del self._warm_ups[call]
                worker.is_placed = worker.is_ready = worker.has_loaded = True
                worker.n_deaths_loading = 0
                worker.n_restarts = n_restarts(self._ray, worker.actor)
                self._on_ready(worker.number, result)

    def _finish(self, worker: Worker, work: ShardWork, result: ShardResult | None) -> Iterator[ShardResult]:
        if result is None:  # it was tried in part
            work.survived()
            self._go_on_with([work])
            return
        if result.is_withheld:
            self._probe.withhold(work.ref, result.last_error, is_refused=result.is_refused)
            self._withheld[work.ref.shard_id] = work
        else:
            self._probe.pass_()
            self._finished += result.counts
            if result.n_halved:
                self._say_once("a batch did not fit into GPU memory: such batches are cut smaller from now on")
            yield replace(result, actor=worker.number)
        self._release()

    def _release(self) -> None:
        """What was withheld is done again as soon as that is no longer needed."""
        released = self._probe.take_released()
        self._queue.extendleft(self._withheld.pop(ref.shard_id) for ref in reversed(released))

    def _lost(self, worker: Worker, error: Exception) -> None:
        """An actor died; Ray restarts it, and what it had at hand is done again."""
        works = self._bury(worker)
        is_dead = isinstance(error, self._ray.exceptions.ActorDiedError)
        if works:
            self._blame(worker, works)
        elif not worker.is_ready:
            worker.n_deaths_loading += is_dead or worker.is_placed
            check_loading(self._ray, [worker], self._workers, error)
        if worker.is_placed and not worker.is_ended:
            self._progress.say("a worker process died; what it had at hand is done again")
        self._go_on_with(works)
        fresh = Worker(worker.number, worker.actor, warm_up_at=time.monotonic() + ASK_AGAIN_AFTER_S)
        fresh.has_loaded, fresh.n_deaths_loading = worker.has_loaded, worker.n_deaths_loading
        fresh.n_restarts = worker.n_restarts + worker.is_ready  # this death was not at loading
        self._workers[worker.number] = fresh
        self._cold.add(fresh)
        self._reports.add(fresh)

    def _bury(self, worker: Worker) -> list[ShardWork]:
        """The end of a life; what it had at hand."""
        worker.is_gone = True
        self._open.pop(worker, None)
        self._warm_ups = {call: other for call, other in self._warm_ups.items() if other is not worker}
        for call in worker.at_hand:
            del self._in_flight[call]
        return list(worker.at_hand.values())

    def _count_unborn(self) -> None:
        """Processes that die before they answer at all make no call fail: Ray's count of restarts tells of them."""
        if time.monotonic() >= self._count_unborn_at:
            self._count_unborn_at = time.monotonic() + ASK_AGAIN_AFTER_S
            check_loading(self._ray, self._workers, self._workers)

    def _blame(self, worker: Worker, works: list[ShardWork]) -> None:
        stuck = worker.report.stuck if worker.is_ended else None
        self._n_deaths += 1
        has_none = not self._finished.labelled
        give_up_if(has_none and self._n_deaths >= MAX_DEATHS_WITHOUT_LABEL, self._n_deaths, "work, with nothing done")
        for work in works:
            if stuck is None:
                work.died("timeout" if worker.is_ended else "killed", was_alone=len(works) == 1)
            elif stuck.shard_id == work.ref.shard_id:
                work.died("timeout", was_alone=True, stuck=stuck.positions)
            doing = f"shard {work.ref.shard_id}, and none of its pictures, or too many, do it alone"
            give_up_if(work.is_hopeless, work.n_deaths, doing)

    def _go_on_with(self, works: list[ShardWork]) -> None:
        """Next of all; a search that has just begun or ended is told of."""
        for work in works:
            name = f"shard {work.ref.shard_id}"
            if work.search is not None:
                self._say_once(f"{name}: processes end with it; looking for the picture that does it")
            if work.poison:
                self._say_once(f"{name}: {len(work.poison)} of its pictures end the process, and become failed rows")
        self._queue.extendleft(reversed(works))

    def _look_around(self) -> None:
        """What is done for every worker, and therefore only now and then."""
        self._reports.gather()
        self._count_unborn()
        self._end_stuck()
        self._count()
        self._say_waiting()

    def _end_stuck(self) -> None:
        """End processes whose model does not come back, or that answer nothing at all; Ray starts new ones."""
        silent_since = time.monotonic() - self._timeout_s - ANSWER_WITHIN_S
        for worker in self._workers:
            is_silent = worker.asked_at is not None and worker.asked_at < silent_since
            if worker.at_hand and not worker.is_ended and (worker.report.stuck or is_silent):
                worker.is_ended = True
                self._progress.say("a picture takes longer than --timeout; its worker process is started anew")
                self._ray.kill(worker.actor, no_restart=False)

    def _count(self) -> None:
        at_hand = [(worker.report.counts, work) for worker in self._workers for work in worker.at_hand.values()]
        so_far = sum((counts.get(work.ref.shard_id, Counts()) for counts, work in at_hand), start=self._finished)
        if so_far.labelled and not self._probe.passed:
            self._probe.pass_()
            self._release()
        is_loading = any(w.is_placed for w in self._workers) and not any(w.is_ready for w in self._workers)
        self._progress.update(so_far.done, so_far.failed, is_loading=is_loading)

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._progress.say(line)

    def _say_waiting(self) -> None:
        """Never wait in silence for what the cluster cannot give."""
        asked = time.monotonic() - POLL_S  # one that was asked just now, or not yet, may well be there
        n_waiting = sum(not w.is_placed and w.asked_at is not None and w.asked_at < asked for w in self._workers)
        if not n_waiting or time.monotonic() < self._say_waiting_at:
            return
        self._say_waiting_at = time.monotonic() + SAY_WAITING_EVERY_S
        self._progress.say(waiting_line(self._ray, n_waiting, len(self._workers), self._placement))
