"""Ports for servers that have to be told theirs before they start."""

import random
import socket
from contextlib import ExitStack, closing, suppress

# The kernel gives none of these to connections (from 32768 on), nor Ray to its workers (10002 to 19999) and to the
# servers of its clients (23000 to 23999): what is free stays free until the server that it is for is up.
_PORTS = range(24000, 32000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens at now, all different, and never the same ones twice."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            port = random.SystemRandom().choice(_PORTS)
            if port not in _given:
                _given.add(port)
                with suppress(OSError):
                    stack.enter_context(closing(socket.socket())).bind(("", port))
                    found.append(port)
    return found
