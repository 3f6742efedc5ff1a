"""Storage that stumbles is asked again, with growing waits of random length, for a bounded time.

This is the one place that does so: the drivers' own retries are switched off (see `pipeline.storage.s3`), because
theirs and ours would multiply, and an outage would end after minutes of silence.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.progress import say
from pipeline.storage.errors import STORAGE_ERRORS, asked_wait_s, is_transient, storage_error
from schemas.manifest import is_web_address

T = TypeVar("T")

OUTAGE_S = 60.0  # how long storage may be away; after that nothing new is tried
WEB_OUTAGE_S = 5.0  # of strangers' servers many are gone for ever, and every dead link would cost the whole minute
FIRST_WAIT_S = 0.5  # doubled before every further attempt
LONGEST_WAIT_S = 8.0
SAY_AFTER_S = 5.0
SAY_EVERY_S = 60.0

_saying = threading.Lock()
_said_at = float("-inf")


def retried(uri: str, call: Callable[[], T]) -> T:
    """What `call` returns; while it raises what may pass, it is called again.

    Waits are drawn from the upper half of their length, so that many actors do not come back all at once. No new
    attempt begins once OUTAGE_S (for web addresses WEB_OUTAGE_S) have gone by, except always a second one. A web server
    that is busy and says for how long is asked again after that, if it is within OUTAGE_S, and else not at all.

    Args:
        uri: what the call is about; a line on stderr names it when this takes long.

    Raises:
        Whatever `call` raised last: at once what is permanent (forbidden, not found, a full disk).
    """
    started, n_failed = time.monotonic(), 0
    patience = WEB_OUTAGE_S if is_web_address(uri) else OUTAGE_S
    while True:
        try:
            return call()
        except STORAGE_ERRORS as error:
            n_failed += 1
            wait = min(FIRST_WAIT_S * 2 ** (n_failed - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
            elapsed = time.monotonic() - started
            asked_s = asked_wait_s(error)
            if asked_s is not None:
                patience, wait = OUTAGE_S, asked_s + wait
            has_had_two = n_failed > 1 or asked_s is not None
            if not is_transient(error) or (has_had_two and elapsed + wait > patience):
                raise
            _say(uri, error, elapsed, patience)
        time.sleep(wait)


def _say(uri: str, error: Exception, elapsed: float, patience: float) -> None:
    """One line a minute and process, however many threads wait."""
    global _said_at
    with _saying:
        now = time.monotonic()
        if elapsed < SAY_AFTER_S or now - _said_at < SAY_EVERY_S:
            return
        _said_at = now
    reason = str(storage_error(error, uri)).removesuffix("; try again")
    say(f"{reason}; trying again for up to {patience:.0f} seconds")
