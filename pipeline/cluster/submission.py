"""From a request to a job on a cluster: what it is called, which files go with it, and what is refused beforehand."""

import os
import re
import secrets
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from escnet.config import PRESET_NAMES
from pipeline.cluster.client import connect, talking
from pipeline.cluster.parcel import Code, command_on_cluster, runtime_environment
from pipeline.cluster.records import SubmittedJob, remember
from pipeline.output import absolute_uri, read_job, storing
from pipeline.output.status import StatusReport, status
from pipeline.storage import StorageOptions, locate, read_bytes
from pipeline.vocabularies import bundled_names, load_vocabulary
from schemas.errors import InputError
from schemas.job import JobRecord, JobRequest
from schemas.manifest import public_uri

JOB_FILE = "job.yaml"
RECIPE_FILE = "recipe.yaml"
_LETTERS = "abcdefghjkmnpqrstuvwxyz"  # without those that are read as digits


@dataclass(frozen=True)
class Submission:
    """A job as it will be sent.

    command: annotate or train.
    arguments: that the command gets on the cluster, where `files`, text by name, lie in its working directory.
    about: what the job's id says of it.
    local: places on a disk of this machine, which every node would have to see.
    """

    command: str
    arguments: tuple[str, ...]
    files: Mapping[str, str]
    about: str
    output: str
    storage: StorageOptions
    local: tuple[str, ...]


def labelling(request: JobRequest) -> Submission:
    """The submission of a labelling job: its options as a job file, and its own vocabularies beside that.

    Raises:
        InputError: a vocabulary that cannot be used, or a URI with a secret.
    """
    named = (*request.sources, *request.vocabularies, request.output, request.update, request.image_root, request.model)
    _refuse_secrets([uri for uri in named if uri])
    storage = StorageOptions(request.endpoint_url, request.profile)
    vocabularies = [load_vocabulary(name, storage) for name in request.vocabularies]
    placed, files = _with_vocabularies(_placed(request, storage), storage)
    options = placed.model_dump(mode="json", exclude_defaults=True, exclude={"address"})
    files[JOB_FILE] = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    model = None if placed.model in PRESET_NAMES else placed.model
    places = [uri for uri in (*placed.sources, placed.output, placed.update, placed.image_root, model) if uri]
    return Submission(
        "annotate", ("--job", JOB_FILE), files, vocabularies[0].name, placed.output, storage, _local(places, storage)
    )


def training(config: Any, output: str, options: Sequence[str], storage: StorageOptions) -> Submission:
    """The submission of a training run.

    Args:
        config: a `TrainingConfig`.
        options: further arguments of `escnet train`.

    Raises:
        InputError: a URI with a secret.
    """
    from pipeline.training.identity import with_absolute_places

    _refuse_secrets([text for text in (*_texts(config.model_dump(mode="json")), output) if "://" in text])
    folder = absolute_uri(output, storage)
    data = with_absolute_places(config, storage).model_dump(mode="json", exclude_defaults=True)
    places = [text for text in _texts(data) if "://" in text or os.path.isabs(text)] + [folder]
    return Submission(
        "train",
        (RECIPE_FILE, "--output", folder, *options),
        {RECIPE_FILE: yaml.safe_dump(data, sort_keys=False, allow_unicode=True)},
        f"train-{config.name}",
        folder,
        storage,
        _local(places, storage),
    )


def complete(request: JobRequest) -> StatusReport | None:
    """How an output stands that is complete and is the one asked for; None if there is anything to do.

    What only a listing of the sources tells, such as pictures that are new, is not looked at.

    Raises:
        OutputError: there is something else. EscnetError: it cannot be looked at from here.
    """
    storage = StorageOptions(request.endpoint_url, request.profile)
    placed = _placed(request, storage)
    record = read_job(placed.output, storage)
    if record is None or not _is_alike(placed, record, storage):
        return None
    report = status(placed.output, storage)
    return report if report.n_shards_done == report.n_shards and not report.unread else None


def submit(submission: Submission, address: str, code: Code) -> SubmittedJob:
    """Send a job; returns what this machine remembers of it.

    Raises:
        PlacementError: no cluster there, or one of another version. JobFailedError: it does not take the job.
    """
    client = connect(address)
    submission_id = _new_id(submission.about)
    arguments = [submission.command, *submission.arguments, "--address", "auto"]
    output = public_uri(submission.output)
    os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"  # a parcel is packed as it is
    with tempfile.TemporaryDirectory(prefix="escnet-") as folder, talking(address):
        client.submit_job(
            entrypoint=f"{command_on_cluster(code)} {shlex.join(arguments)}",
            submission_id=submission_id,
            runtime_env=runtime_environment(Path(folder), submission.files, code),
            metadata={"escnet": submission.command, "output": output},
        )
    storage = submission.storage
    job = SubmittedJob(
        submission_id, address, submission.command, output, time.time(), storage.endpoint_url, storage.profile
    )
    remember(job)
    return job


def _new_id(about: str) -> str:
    name = re.sub("[^a-z0-9]+", "-", about.lower()).strip("-")[:40] or "job"
    letters = "".join(secrets.choice(_LETTERS) for _ in range(4))
    return f"escnet-{name}-{time.strftime('%Y%m%d', time.gmtime())}-{letters}"


def _placed(request: JobRequest, storage: StorageOptions) -> JobRequest:
    """The request with absolute paths in place of local names."""
    changes: dict[str, Any] = {"sources": tuple(absolute_uri(source, storage) for source in request.sources)}
    for name in ("output", "update", "image_root"):
        if (value := getattr(request, name)) is not None:
            changes[name] = absolute_uri(value, storage)
    if request.model not in PRESET_NAMES:
        changes["model"] = absolute_uri(request.model, storage)
    return request.model_copy(update=changes)


def _with_vocabularies(request: JobRequest, storage: StorageOptions) -> tuple[JobRequest, dict[str, str]]:
    """Vocabulary files of this machine travel along: each in a folder of its own, since its name may be the words'."""
    names, files = [], {}
    for position, name in enumerate(request.vocabularies):
        if name in bundled_names() or not locate(name, storage).is_local:
            names.append(name)
            continue
        path = f"vocabularies/{position}/{os.path.basename(name)}"
        with storing(name, InputError):
            files[path] = read_bytes(name, storage).decode("utf-8")
        names.append(path)
    return request.model_copy(update={"vocabularies": tuple(names)}), files


def _refuse_secrets(uris: Sequence[str]) -> None:
    for uri in uris:
        if public_uri(uri) != uri:
            raise InputError(
                f"{public_uri(uri)}: the URI holds a password or signature, which would be sent with the job; "
                "let the nodes have credentials, or list signed addresses in a manifest in a bucket"
            )


def _local(uris: Sequence[str], storage: StorageOptions) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uri for uri in uris if locate(uri, storage).is_local))


def _texts(data: Any) -> list[str]:
    """All texts in plain data."""
    if isinstance(data, str):
        return [data]
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for each in inner for text in _texts(each)]


def _is_alike(request: JobRequest, record: JobRecord, storage: StorageOptions) -> bool:
    """Does all that can be told from here speak for the same job?"""
    loaded = [load_vocabulary(name, storage) for name in request.vocabularies]
    model = request.model if "://" in request.model else os.path.basename(request.model)
    asked = request.model_dump(include={"views", "dtype", "batch_size", "preselect"}, exclude_none=True)
    found = record.options.model_dump()
    return (
        {each.name: each.fingerprint for each in loaded} == record.vocabularies
        and public_uri(model) == record.model.name
        and [public_uri(source) for source in request.sources]
        == [public_uri(absolute_uri(source, storage)) for source in record.sources]
        and all(found[name] == value for name, value in asked.items())
        and request.shard_size in (None, record.manifest.shard_size)
        and (request.limit is None or request.limit >= record.manifest.n_rows)
        and (found["cpus_per_actor"], found["max_pixels"]) == (request.cpus_per_actor, request.max_pixels)
    )
