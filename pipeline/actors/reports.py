"""How far workers are with what they have at hand: asked in turns, and never waited for."""

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pipeline.actors.worker import Worker

ASKED_AT_ONCE = 200  # however many there are, so that the driver does not spend its time with asking


class Reports:
    """Asks workers for their reports, and keeps the newest with each of them."""

    def __init__(self, ray: Any, workers: Iterable[Worker]) -> None:
        self._ray = ray
        self._to_ask = deque(workers)
        self._asked: dict[Any, Worker] = {}

    def add(self, worker: Worker) -> None:
        """A worker begins a life."""
        self._to_ask.append(worker)

    def gather(self) -> None:
        """Take the answers that have come, then ask those who were not asked for longest."""
        calls = list(self._asked)
        if calls:
            for call in self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]:
                self._hear(call)
        for _ in range(min(ASKED_AT_ONCE, len(self._to_ask))):
            worker = self._to_ask.popleft()
            if not worker.is_gone:
                self._asked[worker.actor.report.remote()] = worker
                worker.asked_at = time.monotonic()

    def _hear(self, call: Any) -> None:
        worker = self._asked.pop(call)
        if worker.is_gone:
            return
        with suppress(self._ray.exceptions.RayError):  # an actor that died: its work comes back as lost
            worker.report, worker.is_placed = self._ray.get(call), True
        worker.asked_at = None
        self._to_ask.append(worker)
