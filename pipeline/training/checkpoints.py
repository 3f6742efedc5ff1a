"""States of a run: what it goes on from after a stop. They lie below its folder and appear whole or not at all."""

import json
import os
import pickle
import re
import zipfile
from typing import Any

import torch

from pipeline.storage.local_files import new_local_file, sweep_partial_files
from schemas.errors import ModelError, OutputError
from schemas.fingerprint import canonical_json

FOLDER = "checkpoints"
N_KEPT = 2  # the last one, and the one before in case the disk failed
_NAME = re.compile(r"step-(\d{9})\.pt")
_DIFFERENCES_SHOWN = 4

# What torch.load raises for a file that is not as it should be.
_DAMAGED = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError, ValueError)


class Checkpoints:
    """The states below the folder of one run.

    Args:
        run_folder: local.
        identity: all that decides the run, as plain data; a state of another identity is refused.
    """

    def __init__(self, run_folder: str, identity: dict[str, Any]) -> None:
        self._folder = os.path.join(run_folder, FOLDER)
        self._identity = identity

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps, and remove all but the last two.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        path = os.path.join(self._folder, f"step-{step:09}.pt")
        try:
            sweep_partial_files(self._folder)
            with new_local_file(path, replace=True) as file:
                torch.save({"identity": canonical_json(self._identity), "state": state}, file)
            for each in self._paths()[:-N_KEPT]:
                os.unlink(each)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise OutputError(f"{path}: cannot be written ({reason}); make room, and run the same again") from error

    def latest_step(self) -> int:
        """Steps done in the last state that can be read; 0 if there is none at all.

        Raises:
            ModelError: no state can be read.
        """
        path, _ = self._last_readable(maps=True)
        return _step_of(path) if path else 0

    def damaged(self) -> list[str]:
        """The states that are passed over, since they cannot be read and older ones can."""
        path, _ = self._last_readable(maps=True)
        return [each for each in self._paths() if path and each > path]

    def load(self) -> dict[str, Any] | None:
        """The last state that can be read, on the CPU; None if there is none at all.

        Raises:
            ModelError: the state of another run, or no state that can be read.
        """
        path, found = self._last_readable(maps=False)
        if not path:
            return None
        differing = differences(json.loads(found["identity"]), json.loads(canonical_json(self._identity)))
        if differing:
            raise ModelError(
                f"{path}: the state of another run ({differing}); choose another --output, or pass --overwrite"
            )
        return found["state"]

    def _last_readable(self, *, maps: bool) -> tuple[str, dict[str, Any]]:
        """Path and content of a state; "" and nothing if there is none. `maps`: leave the tensors on the disk."""
        paths = self._paths()
        for path in reversed(paths):
            try:
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=maps)
                json.loads(found["identity"])
                found["state"]
            except _DAMAGED:
                continue
            return path, found
        if paths:
            raise ModelError(f"{paths[-1]}: is damaged, and so is what lies beside it; begin anew with --overwrite")
        return "", {}

    def _paths(self) -> list[str]:
        if not os.path.isdir(self._folder):
            return []
        return sorted(os.path.join(self._folder, name) for name in os.listdir(self._folder) if _NAME.fullmatch(name))


def _step_of(path: str) -> int:
    found = _NAME.fullmatch(os.path.basename(path))
    assert found is not None
    return int(found[1])


def differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two identities, in a few words; "" if nothing."""
    found, asked = _leaves(there), _leaves(now)
    said = [
        f"{key}: {_shown(found.get(key))} there, {_shown(asked.get(key))} now"
        for key in dict.fromkeys((*found, *asked))
        if found.get(key) != asked.get(key)
    ]
    more = f" and {len(said) - _DIFFERENCES_SHOWN} more" if len(said) > _DIFFERENCES_SHOWN else ""
    return "; ".join(said[:_DIFFERENCES_SHOWN]) + more


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:60]


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Single values by their keys with dots, as `--set` has them."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return {key: value}
    found: dict[str, Any] = {}
    for name, each in items:
        found |= _leaves(each, f"{key}.{name}" if key else str(name))
    return found
