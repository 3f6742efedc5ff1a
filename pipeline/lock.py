"""One driver at a time on an output.

On a local disk the kernel holds the lock (flock) and lets go of it when the process dies. Object storage
has none: two drivers of the same job there do some shards twice, and publication only if absent keeps the
labels as they would be with one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.storage import StorageOptions, locate
from schemas.errors import OutputError
from schemas.layout import LOCK_FILE


@contextmanager
def lock_output(output: str, storage: StorageOptions) -> Iterator[None]:
    """Hold the output for this process. A folder made for it goes again if nothing else came to lie there.

    Raises:
        OutputError: another run holds it.
    """
    place = locate(output, storage)
    if not place.is_local:
        yield
        return
    is_new = not os.path.isdir(place.path)
    os.makedirs(place.path, exist_ok=True)
    path = os.path.join(place.path, LOCK_FILE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(descriptor, path):
            raise OutputError(f"{output}: another run is at work there; wait until it ends, or stop it")
        try:
            yield
        finally:
            _remove_unused(place.path, is_new)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that ended in between may have removed the file: then a third one can hold another of that name.
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_unused(folder: str, is_new: bool) -> None:
    with suppress(OSError):
        if os.listdir(folder) == [LOCK_FILE]:
            os.unlink(os.path.join(folder, LOCK_FILE))
            if is_new:
                os.rmdir(folder)
