"""Catching an actor in the act of writing: its labels are half on disk, under a temporary name."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

_POLL_S = 0.0005  # a file of a few kilobytes is there for milliseconds


def kill_writer(actors: Sequence[psutil.Process], names: Callable[[], list[str]], timeout_s: float) -> bool:
    """SIGKILL for the first actor that is seen to write within `timeout_s`; whether there was one.

    Args:
        names: lists the folder of the labels.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if any(name.startswith(".") for name in names()) and _kill_one_with_open_file(actors):
            return True
        time.sleep(_POLL_S)
    return False


def _kill_one_with_open_file(actors: Sequence[psutil.Process]) -> bool:
    """All are halted while it is found out which of them has a temporary file open, or it would be closed by then."""
    try:
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                actor.suspend()
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                if any("/labels/." in file.path for file in actor.open_files()):
                    actor.kill()
                    return True
    finally:
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                actor.resume()
    return False
