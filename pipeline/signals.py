"""Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) for long work: all stop it, and none is lost."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
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


def stop_error(numbers: Iterable[int], line: str) -> EscnetError:
    """What a run ends with that these signals stopped; `line` is for the user."""
    return (StoppedError if set(numbers) == {signal.SIGINT} else JobFailedError)(line)


@contextmanager
def answered(answer: Callable[[int], None]) -> Iterator[None]:
    """Call `answer` with the number of each signal that is a wish to stop, in place of what Python and Ray would do.

    SIGHUP stays ignored where it is, as `nohup` has it. Threads other than the first hear no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda found, _: answer(found)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopSignals:
    """SIGTERM and SIGHUP stop as Ctrl-C does; Ray's own handler would end the process with a dump of its stack.

    All are noted beside the exception: one that is raised while an object is finalised is lost.
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
        return stop_error(self.seen or {signal.SIGINT}, line)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at a wish to stop, and note it."""
        with answered(self._note):
            yield

    def _note(self, number: int) -> None:
        self.seen.add(number)
        if self._wishes.is_new():
            raise KeyboardInterrupt
