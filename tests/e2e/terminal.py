"""A terminal of its own for a command, which can be closed."""

import fcntl
import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_terminal(command: list[str]) -> Iterator[tuple[subprocess.Popen, int]]:
    """The process of a command that a new terminal belongs to, and the descriptor whose `os.close` closes that."""
    outer, inner = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    streams = {"stdin": inner, "stdout": inner, "stderr": inner}
    with subprocess.Popen(command, **streams, preexec_fn=take_terminal, pass_fds=()) as process:
        os.close(inner)
        try:
            yield process, outer
        finally:
            process.kill()
