"""One driver at a time on an output.

On a local disk the kernel holds the lock (flock) and lets go of it when the process dies. Object storage
has none: two drivers of the same job there do some shards twice, and publication only if absent keeps the
labels as they would be with one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.storage import StorageOptions, locate
from schemas.errors import OutputError
from schemas.layout import LOCK_FILE


@contextmanager
def lock_output(output: str, storage: StorageOptions) -> Iterator[None]:
    """Hold the output for this process.

    Raises:
        OutputError: another run holds it.
    """
    place = locate(output, storage)
    if not place.is_local:
        yield
        return
    os.makedirs(place.path, exist_ok=True)
    descriptor = os.open(os.path.join(place.path, LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{output}: another run is at work there; wait until it ends, or stop it") from error
        yield
    finally:
        os.close(descriptor)
