"""Process groups: the Ray that a command starts for itself is not to hear the signals that are meant for the command.

`timeout` and some batch schedulers signal the whole process group of a command. Ray's servers would end at once, and
with them the workers, before these have saved what they do; the command stops them when it is ready. For the same
reason Ctrl-Z holds the command alone, and its workers go on.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_is_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """Children that are forked here lead process groups of their own, in the same session.

    Those alone that Python forks with a hook of its caller's (`preexec_fn`), as Ray does with its servers: others do
    not run the hooks of `os.register_at_fork`. If Ray ceases to do so, its servers stay in the command's group.
    """
    global _is_apart
    _is_apart = True
    try:
        yield
    finally:
        _is_apart = False


def _lead_own_group() -> None:
    if _is_apart:
        os.setpgid(0, 0)


# On Linux the kernel ends Ray's servers with the command. Elsewhere Ray has a process that does so, by its own group.
if sys.platform == "linux":
    os.register_at_fork(after_in_child=_lead_own_group)
