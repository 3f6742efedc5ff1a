"""Threads that give up on work which takes too long.

A thread cannot be ended from outside. Work past its time is given up instead: its result is decided without
it, what it held is let go, and a new thread takes the place of the one that may never come back.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from pipeline.picture.budget import PixelBudget
from schemas.errors import ErrorStage

LOOKS_A_TIMEOUT = 4  # how often the watcher looks while one time-out passes
LONGEST_LOOK_S = 1.0


class GivenUpError(Exception):
    """Raised in work that comes back after it was given up; nobody waits for it."""


class Task:
    """One piece of work: the stage it is at, since when, and what it holds."""

    def __init__(self, work: Callable[["Task"], Any], late: Callable[[ErrorStage], Any]) -> None:
        self.future: Future = Future()
        self.held = ExitStack()
        self.is_given_up = False
        self.stage: ErrorStage = "fetch"
        self._since: float | None = None  # the clock stands while the task waits for memory
        self._work = work
        self._late = late

    def enter(self, stage: ErrorStage) -> None:
        """Begin a stage; each has all of the time.

        Raises:
            GivenUpError: the stage before took too long.
        """
        if self.is_given_up:
            raise GivenUpError
        self.stage, self._since = stage, time.monotonic()

    def take(self, budget: PixelBudget, n_pixels: int) -> None:
        """Wait for memory for a picture, and hold it to the end of the task; waiting does not count."""
        self._since = None
        budget.acquire(n_pixels)
        self.held.callback(budget.release, n_pixels)
        self.enter(self.stage)

    def run(self) -> Any:
        return self._work(self)

    def give_up(self) -> None:
        self.is_given_up = True
        self.held.close()
        self.future.set_result(self._late(self.stage))

    def is_late(self, timeout_s: float) -> bool:
        since = self._since
        return since is not None and time.monotonic() - since > timeout_s


class TimedPool:
    """A pool of threads for tasks whose stages may take `timeout_s` seconds each."""

    def __init__(self, n_threads: int, timeout_s: float, name: str) -> None:
        self._timeout_s = timeout_s
        self._name = name
        self._waiting: SimpleQueue[Task] = SimpleQueue()
        self._running: set[Task] = set()
        self._lock = threading.Lock()
        for _ in range(n_threads):
            self._start(self._serve)
        self._start(self._watch)

    @property
    def n_at_hand(self) -> int:
        """Tasks that wait or run."""
        return self._waiting.qsize() + len(self._running)

    def submit(
        self, work: Callable[[Task], Any], late: Callable[[ErrorStage], Any], held: ExitStack | None = None
    ) -> Future:
        """Run `work` in a thread; `late` gives the result, from the stage, if it takes too long.

        Args:
            held: closed when the task ends or is given up.
        """
        task = Task(work, late)
        if held is not None:
            task.held.push(held)
        self._waiting.put(task)
        return task.future

    def _start(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            task = self._waiting.get()
            with self._lock:
                self._running.add(task)
            result = error = None
            try:
                result = task.run()
            except BaseException as raised:
                error = raised
            if not self._ends(task):
                task.held.close()  # what it took after it was given up
                return  # another thread has this one's place
            task.held.close()
            if error is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(error)

    def _ends(self, task: Task) -> bool:
        """The task is done: by itself, or given up by the watcher before."""
        with self._lock:
            is_ours = task in self._running
            self._running.discard(task)
        return is_ours

    def _watch(self) -> None:
        while True:
            time.sleep(min(LONGEST_LOOK_S, self._timeout_s / LOOKS_A_TIMEOUT))
            with self._lock:
                late = [task for task in self._running if task.is_late(self._timeout_s)]
                self._running.difference_update(late)
            for task in late:
                task.give_up()
                self._start(self._serve)
