"""Local files: written so that they appear whole or not at all, read only where there is an end to read to."""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

_PARTIAL_NAME = re.compile(r"\.[0-9a-f]{32}\.partial")
NO_REGULAR_FILE = errno.ENXIO  # what the kernel says itself where a socket is opened
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def new_local_file(path: str, *, replace: bool) -> Iterator[IO[bytes]]:
    """Write under a temporary name in the same folder; when the block ends the file is on disk and has its name.

    Raises:
        FileExistsError: a file has the name, and `replace` is false. It stays as it is.
        OSError: the folder cannot be made or written, or is a file; a folder has the name.
    """
    folder = os.path.dirname(path)
    _make_folder(folder)
    partial = os.path.join(folder, f".{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(partial, path)
        else:
            _link(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)
    _sync_folder(folder)


def refuse_special_file(path: str) -> None:
    """Refuse what may never end or never begin: opening a FIFO waits for a writer, /dev/zero fills the memory.

    A folder passes: opening it says what it is.

    Raises:
        OSError: errno NO_REGULAR_FILE for a FIFO, a device or a socket; else what looking at the path raised.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(NO_REGULAR_FILE, "not a regular file", path)


def is_partial_name(name: str) -> bool:
    """Is it the temporary name of a file that is being written, or whose writer was killed?"""
    return _PARTIAL_NAME.fullmatch(name) is not None


def sweep_partial_files(folder: str) -> int:
    """Remove what killed writers left in a folder; the number of files removed."""
    if not os.path.isdir(folder):
        return 0
    names = [name for name in os.listdir(folder) if is_partial_name(name)]
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    return len(names)


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError as error:  # would read as "published before", which it is not
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from error


def _link(partial: str, path: str) -> None:
    """Give the file its name unless the name is taken: a link does both in one step, a rename would overwrite."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # FAT and some network mounts have no hard links; there the output's lock alone keeps writers apart.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        os.replace(partial, path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
