"""A bound on memory that threads share, counted in pixels: a hundred small pictures or one huge one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Lets threads in as long as their pictures together have at most `limit` pixels; a larger one goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, n_pixels: int) -> Iterator[None]:
        """Wait for room for a picture, and hold it."""
        self.acquire(n_pixels)
        try:
            yield
        finally:
            self.release(n_pixels)

    def acquire(self, n_pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + n_pixels <= self._limit)
            self._taken += n_pixels

    def release(self, n_pixels: int) -> None:
        with self._changed:
            self._taken -= n_pixels
            self._changed.notify_all()
