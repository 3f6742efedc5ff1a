"""Ctrl-C and SIGTERM for long work: both stop it, and neither is lost."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import EscnetError, JobFailedError, StoppedError

ECHO_S = 0.5  # `timeout`, for one, signals a command, and then its whole process group, the command with it


class Wishes:
    """Tells one wish to stop from the next, and from its echo."""

    def __init__(self) -> None:
        self._last_at = -math.inf

    def is_new(self) -> bool:
        """A signal came now; False for an echo of the one before."""
        now, before = time.monotonic(), self._last_at
        self._last_at = now
        return now - before > ECHO_S


class StopSignals:
    """SIGTERM stops as Ctrl-C does; Ray's own handler would end the process with a dump of its stack.

    Both are noted beside the exception: one that is raised while an object is finalised is lost.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._wishes = Wishes()

    def check(self) -> None:
        """Raises:
        KeyboardInterrupt: a signal came.
        """
        if self.seen:
            raise KeyboardInterrupt

    def error(self, line: str) -> EscnetError:
        """What a run that was stopped ends with; `line` is for the user."""
        return (JobFailedError if signal.SIGTERM in self.seen else StoppedError)(line)

    @contextmanager
    def noted(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            self.seen.add(number)
            if self._wishes.is_new():
                raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
