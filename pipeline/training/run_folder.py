"""The folder of a run: what it holds, whose it is, and how the driver and the workers leave word for each other.

    training.json              the recipe, what decides the run, and the versions it was begun with
    curves.csv, curves.png     losses and scores, written as it goes
    checkpoints/step-*.pt      states to go on from, the last two
    <name>.safetensors         the trained network; a run with it is finished

A local folder; of a cluster, one that all its machines share.
"""

import importlib.metadata
import json
import os
import shutil
from contextlib import suppress
from typing import Any

from pipeline.output import storing
from pipeline.storage import StorageOptions, locate
from pipeline.storage.local_files import new_local_file, sweep_partial_files
from pipeline.training import checkpoints, curves
from pipeline.training.config import TrainingConfig
from schemas import errors
from schemas.errors import EscnetError, InputError, JobFailedError, OutputError
from schemas.layout import LOCK_FILE
from schemas.manifest import public_uri
from schemas.quantities import few

RUN_FILE = "training.json"
_STOP_FILE = ".stop"  # left by the driver: stop soon
_STEP_FILE = ".step"  # left by the first worker: how many steps are done
_FAILURE_FILE = ".failure.json"  # left by a worker: an error that no new start would mend
RAY_FOLDER = ".ray"  # Ray Train's own notes; nothing is read from there
_MESSAGES = (_STOP_FILE, _STEP_FILE, _FAILURE_FILE)
_OWN = frozenset({RUN_FILE, *_MESSAGES, RAY_FOLDER, LOCK_FILE, checkpoints.FOLDER, curves.CSV_FILE, curves.PNG_FILE})
_VERSIONS = ("escnet-pipeline", "torch", "ray", "open_clip_torch")


def run_folder_path(output: str) -> str:
    """The absolute path of a run's folder.

    Raises:
        InputError: it is no local folder.
    """
    place = locate(output, StorageOptions())
    if not place.is_local:
        raise InputError(
            f"{public_uri(output)}: training writes to a local folder (on a cluster, one that all its machines "
            "share), not to object storage; give a folder with --output, and copy the checkpoint afterwards"
        )
    return place.path


def checkpoint_path(folder: str, config: TrainingConfig) -> str:
    """Where the trained network of a run lies when it is finished."""
    return os.path.join(folder, f"{config.name}.safetensors")


def is_finished(folder: str, config: TrainingConfig, identity: dict[str, Any]) -> bool:
    """Whether the folder holds this very run with its trained network.

    Raises:
        OutputError: the network there is that of another run.
    """
    if not os.path.exists(checkpoint_path(folder, config)):
        return False
    _refuse_another_run(folder, _read_identity(folder), identity)
    return True


def begin(folder: str, config: TrainingConfig, identity: dict[str, Any], *, overwrite: bool = False) -> int:
    """Make a folder ready for a run, and write down what it is; the step that the run goes on from. Under its lock.

    Raises:
        OutputError: it holds something else, or another run; `overwrite` does away with runs. Or the run starts from
            the very file that it ends with.
        ModelError: its states are another run's, or damaged.
    """
    _refuse_foreign(folder)
    _refuse_own_start(folder, config)
    if overwrite:
        _clear(folder, config)
    found = _read_identity(folder)
    states = checkpoints.Checkpoints(folder, identity)
    if states.latest_step():
        _refuse_another_run(folder, found, identity)
    forget_messages(folder)
    sweep_partial_files(folder)
    record = {
        "recipe": config.model_dump(mode="json"),
        "identity": identity,
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }
    with storing(folder), new_local_file(os.path.join(folder, RUN_FILE), replace=True) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return states.latest_step()


def _refuse_foreign(folder: str) -> None:
    names = set(os.listdir(folder))
    foreign = sorted(name for name in names - _OWN if not name.startswith("."))
    if foreign and RUN_FILE not in names:
        raise OutputError(
            f"{folder}: holds something else ({few(foreign)}) and no {RUN_FILE}; "
            "choose a new or empty folder for --output"
        )


def _refuse_own_start(folder: str, config: TrainingConfig) -> None:
    own = checkpoint_path(folder, config)
    for key, path in (("checkpoint", config.model.checkpoint), ("clip_from", config.model.clip_from)):
        if path is not None and os.path.realpath(path) == os.path.realpath(own):
            raise OutputError(
                f"model.{key}: found {path}, the file that this run ends with; choose another --output or another name"
            )


def _refuse_another_run(folder: str, found: dict[str, Any] | None, identity: dict[str, Any]) -> None:
    differing = checkpoints.differences(found, json.loads(json.dumps(identity))) if found else f"no {RUN_FILE} there"
    if differing:
        raise OutputError(
            f"{folder}: holds another run ({differing}); choose another --output, give the recipe it was begun with, "
            "or pass --overwrite"
        )


def _read_identity(folder: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(folder, RUN_FILE), encoding="utf-8") as file:
            return json.load(file)["identity"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{os.path.join(folder, RUN_FILE)}: cannot be read; begin anew with --overwrite") from error


def _clear(folder: str, config: TrainingConfig) -> None:
    with storing(folder):
        for name in (RUN_FILE, curves.CSV_FILE, curves.PNG_FILE, os.path.basename(checkpoint_path(folder, config))):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        for name in (checkpoints.FOLDER, RAY_FOLDER):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def forget_messages(folder: str) -> None:
    """Take away what an earlier run left for its workers or its driver, and Ray's notes of it."""
    for name in _MESSAGES:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    shutil.rmtree(os.path.join(folder, RAY_FOLDER), ignore_errors=True)


def ask_to_stop(folder: str) -> None:
    """Have the workers save a state and end, after the step at hand."""
    with open(os.path.join(folder, _STOP_FILE), "w", encoding="utf-8"):
        pass


def is_asked_to_stop(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, _STOP_FILE))


def tell_step(folder: str, step: int) -> None:
    """Tell the driver how many steps are done; of lines of the curve there may be one in minutes."""
    with open(os.path.join(folder, _STEP_FILE), "w", encoding="utf-8") as file:
        file.write(str(step))


def told_step(folder: str) -> int:
    """How many steps are done, as far as workers have told; 0 if none has, or is about to."""
    try:
        with open(os.path.join(folder, _STEP_FILE), encoding="utf-8") as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def leave_failure(folder: str, error: EscnetError) -> None:
    """Tell the driver of an error that the user must mend: started again, the workers would only find it again."""
    with new_local_file(os.path.join(folder, _FAILURE_FILE), replace=True) as file:
        file.write(json.dumps({"kind": type(error).__name__, "message": str(error)}).encode())


def found_failure(folder: str) -> EscnetError | None:
    """The error that a worker has left, as it was raised there."""
    try:
        with open(os.path.join(folder, _FAILURE_FILE), encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    return getattr(errors, found["kind"], JobFailedError)(found["message"])
