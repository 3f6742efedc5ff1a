"""A lease on an output in object storage, where no kernel holds a lock for us (Gray and Cheriton 1989, "Leases").

The lease is an object that its holder rewrites every few seconds. Whoever finds one watches it by his own clock, since
clocks of machines differ: one that stays as it is for LEASE_S belongs to a run that died. Every write is on condition
that the object is what the writer last saw, so of two that take over a dead run's lease one succeeds.
"""

import json
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.progress import say
from pipeline.storage.errors import STORAGE_ERRORS, is_taken, s3_code, storage_error
from pipeline.storage.locations import Location
from pipeline.storage.retries import OUTAGE_S, retried
from schemas.errors import JobFailedError, OutputError
from schemas.manifest import public_uri

LEASE_S = 20.0
RENEW_S = 5.0
RELEASE_S = 10.0
POLL_S = 0.5
SAY_AFTER_S = 2.0
REQUEST_S = 5.0  # for one request of a holder, who cannot wait longer to try again
LOOK_S = 6.0  # a living holder has renewed within this time


@dataclass(frozen=True, slots=True)
class _Seen:
    etag: str
    token: str


class Lease:
    """One run's lease on the object at `place`.

    `acquire`, then `check` now and then, then `release`; a thread of its own renews it in between.
    """

    def __init__(self, place: Location, output: str) -> None:
        self._place = place
        self._output = public_uri(output)
        self._token = uuid.uuid4().hex
        self._counter = 0
        self._etag = ""
        self._renewed_at = 0.0  # when the last renewal that succeeded was sent: others saw it later than that
        self._failure = ""
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease, after watching for LEASE_S one that a dead run may have left.

        Raises:
            OutputError: another run holds it.
        """
        while not self._create():
            seen = self._look()
            if seen is not None and self._outlasts(seen):
                if not self._take_over(seen.etag):
                    raise self._refusal()
                break
        self._renewer.start()

    def check(self) -> None:
        """Return while the lease is ours beyond doubt; call it before anything new is begun.

        While storage has not answered for LEASE_S, another run may take over: then this waits until a renewal succeeds.

        Raises:
            JobFailedError: another run has taken over, or storage has been away for OUTAGE_S.
        """
        while not self._failure and time.monotonic() - self._renewed_at >= LEASE_S:
            time.sleep(POLL_S)
        if self._failure:
            raise JobFailedError(f"{self._output}: {self._failure}")

    def release(self) -> None:
        """Remove the lease if it is still ours; if that fails it is stale for the next run, which then waits for it."""
        self._stop.set()
        self._renewer.join()
        give_up_at = time.monotonic() + RELEASE_S
        while not self._failure and time.monotonic() < give_up_at:
            with suppress(*STORAGE_ERRORS):
                # Renewed this moment, it can be nobody else's for LEASE_S; not every store deletes on a condition.
                if self._renew():
                    self._call("delete_object")
                return
            time.sleep(POLL_S)

    def _create(self) -> bool:
        sent = time.monotonic()
        etag = retried(self._place.uri, lambda: self._put(IfNoneMatch="*"))
        return self._hold(etag, sent)

    def _take_over(self, stale: str) -> bool:
        sent = time.monotonic()
        return self._hold(retried(self._place.uri, lambda: self._swap(stale)), sent)

    def _hold(self, etag: str | None, sent: float) -> bool:
        if etag is None and (seen := self._look()) is not None and seen.token == self._token:
            etag = seen.etag  # our own, written by a request whose answer got lost
        if etag is not None:
            self._etag, self._renewed_at = etag, sent
        return etag is not None

    def _outlasts(self, first: _Seen) -> bool:
        """Does a lease stay as it is? False if it is removed; OutputError if it is renewed."""
        started, has_said = time.monotonic(), False
        while time.monotonic() - started < LEASE_S:
            time.sleep(POLL_S)
            seen = self._look()
            if seen is None:
                return False
            if seen.etag != first.etag:
                raise self._refusal()
            if not has_said and time.monotonic() - started >= SAY_AFTER_S:
                has_said = True
                line = "another run was at work there; waiting up to {:.0f} seconds to see whether it still is"
                say(f"{self._output}: {line.format(LEASE_S)}")
        return True

    def _refusal(self) -> OutputError:
        return OutputError(f"{self._output}: another run is at work there; wait until it ends, or stop it")

    def _keep(self) -> None:
        """Renew until stopped; what goes wrong is left for `check` to say."""
        wait = RENEW_S
        while not self._stop.wait(wait):
            wait = RENEW_S
            try:
                if not self._renew():
                    self._failure = "another run has taken this output over, so this one stops; what is done is kept"
            except STORAGE_ERRORS as error:
                wait = POLL_S
                if time.monotonic() - self._renewed_at >= OUTAGE_S:
                    reason = str(storage_error(error, self._output)).removeprefix(f"{self._output}: ")
                    self._failure = f"the run's lock could not be renewed for {OUTAGE_S:.0f} seconds: {reason}"
            if self._failure:
                return

    def _renew(self) -> bool:
        """Rewrite the lease; False if it is somebody else's now, or gone."""
        for _ in range(2):
            sent = time.monotonic()
            etag = self._swap(self._etag)
            if etag is not None:
                self._etag, self._renewed_at = etag, sent
                return True
            seen = self._look()
            if seen is None or seen.token != self._token:
                return False
            self._etag = seen.etag  # an earlier renewal, whose answer got lost
        if time.monotonic() - self._renewed_at >= OUTAGE_S:
            raise OSError("it takes no write on condition that nothing changed")  # storage that knows no If-Match
        return True

    def _swap(self, etag: str) -> str | None:
        """Write the lease in place of the one with this etag; the new etag, or None if there is another or none."""
        for form in (etag, f'"{etag}"'):  # Ceph wants it bare, as AWS writes it; the standard wants quotes
            if (written := self._put(IfMatch=form)) is not None:
                return written
        return None

    def _put(self, **condition: str) -> str | None:
        self._counter += 1
        holder = {"token": self._token, "counter": str(self._counter)}
        try:
            answer = self._call("put_object", Body=json.dumps(holder).encode(), Metadata=holder, **condition)
        except OSError as error:
            if is_taken(error) or s3_code(error) == "NoSuchKey":
                return None
            raise
        return str(answer["ETag"]).strip('"')

    def _look(self) -> _Seen | None:
        return retried(self._place.uri, lambda: look(self._place))

    def _call(self, method: str, **request: Any) -> Any:
        return call(self._place, method, **request)


def call(place: Location, method: str, **request: Any) -> Any:
    """One request about the object at `place`, which ends within REQUEST_S."""
    bucket, _, key = place.path.partition("/")
    return place.fs.call_s3(method, Bucket=bucket, Key=key, timeout=REQUEST_S, **request)


def look(place: Location) -> _Seen | None:
    """The lease that lies there now, if any."""
    try:
        found = call(place, "head_object")
    except FileNotFoundError:
        return None
    return _Seen(str(found["ETag"]).strip('"'), found.get("Metadata", {}).get("token", ""))


def is_leased(place: Location) -> bool:
    """Is there a lease that somebody renews? Reads only; takes up to LOOK_S, and no time where there is none."""
    first = retried(place.uri, lambda: look(place))
    started = time.monotonic()
    while first is not None and time.monotonic() - started < LOOK_S:
        time.sleep(POLL_S)
        seen = retried(place.uri, lambda: look(place))
        if seen != first:
            return seen is not None
    return False
