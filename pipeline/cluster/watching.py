"""Jobs on a cluster as people look at them: which there are, how far one is, what it says, and its end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.cluster.client import UnreachableError, talking
from schemas.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_OTHER, InputError, JobFailedError, one_line

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_LOOK_EVERY_S = 1.0
_LOST_AFTER_S = 30.0  # without an answer
_STOPS_WITHIN_S = 150.0


@dataclass(frozen=True)
class SeenJob:
    """A job as its cluster sees it. `status` is Ray's word; times are in seconds since 1970."""

    submission_id: str
    status: str
    command: str
    output: str
    started: float | None
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def command_exit_code(self) -> int:
        """What the command would have exited with here."""
        if self.status == "STOPPED":
            return EXIT_INTERRUPTED
        if self.status == "SUCCEEDED":
            return EXIT_DONE
        return self.exit_code if self.exit_code is not None and self.exit_code > 0 else EXIT_OTHER


def list_jobs(client: Any, address: str) -> tuple[list[SeenJob], int]:
    """The jobs that `escnet job submit` sent, the newest first, and how many others there are."""
    with talking(address):
        found = client.list_jobs()
    ours = [_seen(each) for each in found if (each.metadata or {}).get("escnet")]
    return sorted(ours, key=lambda job: -(job.started or 0.0)), len(found) - len(ours)


def look_at(client: Any, address: str, submission_id: str) -> SeenJob:
    """One job.

    Raises:
        InputError: the cluster has none of that id.
    """
    try:
        with talking(address):
            return _seen(client.get_job_info(submission_id))
    except JobFailedError as error:
        if "status code 404" not in str(error):
            raise
        raise InputError(f"{submission_id}: {address} has no such job; see `escnet job list`") from error


def read_log(client: Any, address: str, submission_id: str) -> str:
    """What a job has said so far."""
    look_at(client, address, submission_id)
    with talking(address):
        return str(client.get_job_logs(submission_id))


def follow(client: Any, address: str, submission_id: str, write: Callable[[str], None]) -> SeenJob:
    """Pass on what a job says, as it says it, until it ends; returns how it ended.

    Raises:
        UnreachableError: the cluster is gone.
    """
    job = look_at(client, address, submission_id)
    n_written, answered = 0, time.monotonic()
    while True:
        try:
            with talking(address):
                n_written = asyncio.run(_tail(client, submission_id, n_written, write))
            job = look_at(client, address, submission_id)
            answered = time.monotonic()
        except UnreachableError as error:
            if time.monotonic() - answered > _LOST_AFTER_S:
                raise UnreachableError(f"{error}; the job may be lost: `escnet job status {submission_id}`") from error
        except JobFailedError:  # the connection ended in between
            job = look_at(client, address, submission_id)
        if job.has_ended:
            return job
        time.sleep(_LOOK_EVERY_S)


def stop(client: Any, address: str, submission_id: str) -> SeenJob:
    """Stop a job as Ctrl-C would, and wait until it has; one that has ended stays as it is."""
    job = look_at(client, address, submission_id)
    if job.has_ended:
        return job
    with talking(address):
        client.stop_job(submission_id)
    deadline = time.monotonic() + _STOPS_WITHIN_S
    while time.monotonic() < deadline:
        job = look_at(client, address, submission_id)
        if job.has_ended:
            return job
        time.sleep(_LOOK_EVERY_S)
    raise JobFailedError(f"{submission_id}: was asked to stop and is still {job.status}; try again")


async def _tail(client: Any, submission_id: str, n_skip: int, write: Callable[[str], None]) -> int:
    """Write what comes after the first `n_skip` characters; returns how many there are now."""
    n_seen = 0
    async for text in client.tail_job_logs(submission_id):
        n_seen += len(text)
        if n_seen > n_skip:
            write(text[-(n_seen - n_skip) :])
            n_skip = n_seen
    return max(n_seen, n_skip)


def _seen(details: Any) -> SeenJob:
    metadata = details.metadata or {}
    return SeenJob(
        submission_id=details.submission_id or "",
        status=str(getattr(details.status, "value", details.status)),
        command=metadata.get("escnet", ""),
        output=metadata.get("output", ""),
        started=None if details.start_time is None else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        exit_code=details.driver_exit_code,
        message=one_line(details.message or ""),
    )
