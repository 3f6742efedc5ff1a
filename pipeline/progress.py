"""Progress on long work: a bar in a terminal, plain lines elsewhere."""

import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm

from schemas.manifest import ManifestRow
from schemas.quantities import duration_text

LINE_EVERY_S = 10.0
RATE_AFTER_S = 0.5  # a rate over less time says nothing
# tqdm's own, but for the rate: slow ones stay pictures a second, where tqdm would say seconds a picture
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


def listing(batches: Iterable[Sequence[ManifestRow]]) -> Iterator[Sequence[ManifestRow]]:
    """The rows, counted in a bar in a terminal and in a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    last_line, count = time.monotonic(), 0
    with tqdm(unit=" pictures", leave=False, disable=not is_terminal) as bar:
        for batch in batches:
            count += len(batch)
            bar.update(len(batch))
            if not is_terminal and time.monotonic() - last_line >= LINE_EVERY_S:
                last_line = time.monotonic()
                say(f"{count:,} pictures listed")
            yield batch


def bar(total: int, initial: int, unit: str) -> "tqdm[NoReturn]":
    """A bar towards a total, in a terminal; elsewhere it shows nothing."""
    return tqdm(
        total=total,
        initial=initial,
        unit=f" {unit}",
        smoothing=0.1,
        dynamic_ncols=True,
        bar_format=BAR,
        disable=not sys.stderr.isatty(),
    )


def say(text: str) -> None:
    """Print a line on stderr without breaking a bar; a terminal that was closed in the meantime is no error."""
    try:
        tqdm.write(text, file=sys.stderr)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class Progress:
    """Counts pictures towards a total, with pictures a second and the time left.

    Args:
        total: pictures of the job.
        initial: pictures done by earlier runs.
    """

    def __init__(self, total: int, initial: int = 0) -> None:
        self._total = total
        self._initial = initial
        self._done = initial
        self._failed = 0
        self._started = self._last_line = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self.heard: Callable[[str], None] = lambda _: None  # told of every line that is not about progress
        self._bar = bar(total, initial, "pictures")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def update(self, n_done: int, n_failed: int, *, is_loading: bool) -> None:
        """Say how many pictures this run has done so far, and how many of them failed."""
        done = min(self._total, max(self._done, self._initial + n_done))
        self._bar.update(done - self._done)
        self._done = done
        if n_failed != self._failed:
            self._failed = n_failed
            self._bar.set_postfix(failed=n_failed)
        now = time.monotonic()
        if n_done == 0:
            self._started = now  # the model is still loading: no part of the rate
        if not self._is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self._write_line(now, is_loading)

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        self.heard(text)
        say(text)

    def _write_line(self, now: float, is_loading: bool) -> None:
        seconds = now - self._started
        rate = (self._done - self._initial) / seconds if seconds >= RATE_AFTER_S else 0.0
        failed = f", {self._failed:,} failed" if self._failed else ""
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        pace = f", {rate:.2f} a second, {duration_text(left)} left" if rate > 0 else ""
        loading = "; the model is being loaded" if is_loading else ""
        say(f"{self._done:,} of {self._total:,} pictures{failed}{pace}{loading}")
