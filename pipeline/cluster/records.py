"""What this machine remembers of the jobs it submitted: a small file each, which outlives the cluster.

It holds where a job went and where it writes, and no secret.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.output import storing
from pipeline.storage.local_files import new_local_file
from schemas.errors import InputError, OutputError

FOLDER_VARIABLE = "ESCNET_STATE"


@dataclass(frozen=True)
class SubmittedJob:
    """One submitted job. `command` is annotate or train; `submitted` is in seconds since 1970."""

    submission_id: str
    address: str
    command: str
    output: str
    submitted: float
    endpoint_url: str | None = None
    profile: str | None = None


def remember(job: SubmittedJob) -> None:
    """Write the file of a job."""
    path = _path(job.submission_id)
    with storing(str(path), OutputError), new_local_file(str(path), replace=True) as file:
        file.write(json.dumps(asdict(job), indent=2).encode())


def recall(submission_id: str) -> SubmittedJob | None:
    """What is known here of a job; None of one that was submitted elsewhere.

    Raises:
        InputError: its file is damaged.
    """
    path = _path(submission_id)
    try:
        return SubmittedJob(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}); remove it, and name --address") from error


def newest_address() -> str | None:
    """Where the last job went."""
    found = [recall(path.stem) for path in _folder().glob("*.json")]
    jobs = sorted((job for job in found if job is not None), key=lambda job: job.submitted)
    return jobs[-1].address if jobs else None


def _folder() -> Path:
    states = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.environ.get(FOLDER_VARIABLE) or f"{states}/escnet").expanduser() / "jobs"


def _path(submission_id: str) -> Path:
    if "/" in submission_id or submission_id.startswith("."):
        raise InputError(f"{submission_id}: not the id of a job; see `escnet job list`")
    return _folder() / f"{submission_id}.json"
