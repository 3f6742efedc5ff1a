"""`escnet` as a program: the command line, and the end of the process.

Threads of pyarrow let go of what was read when they get to it. If Python is being taken down by then, they end the
process with "terminate called without an active exception" and an exit code of their own; so it is not taken down.
"""

import atexit
import os
import sys

from jobs.main import main
from schemas.errors import EXIT_OTHER


def run() -> None:
    """Run a command and end the process with its exit code, after all that others want done at exit."""
    code = EXIT_OTHER  # of a traceback, which `--debug` lets through

    def leave() -> None:
        os._exit(code if _is_all_said() else code or EXIT_OTHER)

    atexit.register(leave)  # before any other: the first to register is the last to be called
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else EXIT_OTHER
        raise


def _is_all_said() -> bool:
    """Flush what was printed; False if it cannot be written."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        return False
    return True
