"""Child processes that end with their parent, and the end of a whole tree of them, by process id."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def start(command: Sequence[object], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a child that finds this checkout's modules and writes all it says to the end of `log`.

    The kernel kills it when this process dies; so call it from the main thread, since a thread that ends counts, too.
    """
    with log.open("ab") as file:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl-C is for this process, which then ends them
        )


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A child and all its descendants; none once it is gone."""
    with suppress(psutil.Error):
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    return []


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a child and all its descendants, none of which can tidy up before another is dead."""
    for each in tree(process):
        with suppress(psutil.Error):
            each.kill()
    process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
