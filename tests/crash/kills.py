"""Which process is killed, and when: drawn from a seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

KillKind = Literal["driver", "actor", "writer", "node"]
KILL_KINDS: tuple[KillKind, ...] = get_args(KillKind)

# How many of a hundred. A writer is an actor with a temporary file open, which only a local disk shows. After the
# driver's death on object storage, the next one may wait 20 seconds for its lock.
SHARES: Mapping[str, Mapping[KillKind, int]] = {
    "local": {"driver": 30, "actor": 30, "writer": 20, "node": 20},
    "s3": {"driver": 10, "actor": 70, "writer": 0, "node": 20},
}
_SHORTEST_S, _LONGEST_S = 0.02, 4.0
_LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True)
class Kill:
    """One kill.

    Args:
        delay_s: from the moment there is something of the kind to kill. Short and long ones are equally frequent, so
            that a driver also dies while it starts, plans and connects.
        choice: in [0, 1), which one of several.
        pause_s: before a new driver is started by its user, or another node joins.
    """

    kind: KillKind
    delay_s: float
    choice: float
    pause_s: float


def draw_kills(n_kills: int, shares: Mapping[KillKind, int], seed: int) -> list[Kill]:
    """`n_kills` kills in random order, with as many of each kind as `shares` says of a hundred."""
    draw = random.Random(seed)
    kinds = [kind for kind in KILL_KINDS for _ in range(round(n_kills * shares[kind] / 100))]
    kinds = (kinds + ["actor"] * n_kills)[:n_kills]  # the rounding
    draw.shuffle(kinds)
    return [_draw_kill(kind, draw) for kind in kinds]


def _draw_kill(kind: KillKind, draw: random.Random) -> Kill:
    delay_s = _SHORTEST_S * (_LONGEST_S / _SHORTEST_S) ** draw.random()
    pause_s = draw.uniform(0.0, _LONGEST_PAUSE_S) if kind == "node" else draw.choice((0.0, 1.0))
    return Kill(kind, delay_s, draw.random(), pause_s)
