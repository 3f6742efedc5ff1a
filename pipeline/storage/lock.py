"""One driver at a time on an output.

On a local disk the kernel holds the lock (flock) and lets go of it when the process dies. On S3 it is a lease
(`pipeline.storage.lease`), which a dead run leaves behind for seconds. Other object storage has none: two drivers of
the same job there do some shards twice, and publication only if absent keeps the labels as they would be with one.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from pipeline.storage import StorageOptions, join, locate
from pipeline.storage.lease import Lease, is_leased
from schemas.errors import OutputError
from schemas.layout import LOCK_FILE

_TAKE_S = 1.0  # whoever only looks whether there is a lock holds it for a moment
_TAKE_EVERY_S = 0.05


class OutputLock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Call it before each new piece of work; it may wait while storage does not answer.

        Raises:
            JobFailedError: the lock is lost, and the run must stop.
        """


class _FileLock:
    """Held by the kernel for as long as this process lives: nothing can go wrong."""

    def check(self) -> None:
        return


@contextmanager
def lock_output(output: str, storage: StorageOptions) -> Iterator[OutputLock]:
    """Hold the output for this process. A folder made for it goes again if nothing else came to lie there.

    On S3 a lock that a dead run left is waited for, up to 20 seconds, with a line on stderr.

    Raises:
        OutputError: another run holds it.
    """
    place = locate(output, storage)
    if place.is_local:
        with _lock_folder(place.path, output):
            yield _FileLock()
    elif place.is_s3:
        lease = Lease(locate(join(output, LOCK_FILE), storage), output)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()
    else:
        yield _FileLock()


def is_locked(output: str, storage: StorageOptions) -> bool:
    """Is a run at work on the output? Only looks, so that no run notices; on S3 this takes up to 6 seconds."""
    place = locate(join(output, LOCK_FILE), storage)
    if not place.is_local:
        return place.is_s3 and is_leased(place)
    try:
        descriptor = os.open(place.path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _lock_folder(folder: str, output: str) -> Iterator[None]:
    is_new = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, LOCK_FILE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(descriptor, path):
            raise OutputError(f"{output}: another run is at work there; wait until it ends, or stop it")
        try:
            yield
        finally:
            _remove_unused(folder, is_new)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str) -> bool:
    deadline = time.monotonic() + _TAKE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TAKE_EVERY_S)
    try:
        # A run that ended in between may have removed the file: then a third one can hold another of that name.
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_unused(folder: str, is_new: bool) -> None:
    with suppress(OSError):
        if os.listdir(folder) == [LOCK_FILE]:
            os.unlink(os.path.join(folder, LOCK_FILE))
            if is_new:
                os.rmdir(folder)
