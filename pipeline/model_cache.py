"""Checkpoints in object storage: fetched once a node, checked, and shared by the processes there.

A node's cache has a folder for each fingerprint, so a checkpoint that was replaced under its name is another one.
Whoever fetches or loads a checkpoint holds the lock of its folder: the first process fetches, the others wait for it,
and nothing that is being loaded is removed to make room.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from escnet.models import ResolvedModel, resolve_model
from pipeline.output import storing
from pipeline.progress import say
from pipeline.storage import StorageOptions, find_info, locate, open_file, read_bytes
from pipeline.storage.local_files import new_local_file, sweep_partial_files
from schemas.errors import InputError, ModelError
from schemas.manifest import public_uri

FOLDER_VARIABLE = "ESCNET_CACHE"
LIMIT_VARIABLE = "ESCNET_CACHE_GB"
DEFAULT_LIMIT_GB = 50.0
_FILE = "model.safetensors"
_BLOCK_BYTES = 16 * 2**20
_LARGEST_HEADER_BYTES = 100_000_000  # where safetensors itself stops


def find_model(name: str, storage: StorageOptions, allow_random_weights: bool = False) -> ResolvedModel:
    """The model that a preset's name, a path or a URI means; what a URI names is fetched into this node's cache.

    Raises:
        ModelError: as `resolve_model`, and what storage has against it.
    """
    if "://" not in name:
        return resolve_model(name, allow_random_weights)
    place = locate(name, storage)
    if place.is_local:
        return resolve_model(place.path, allow_random_weights)
    fingerprint = _fingerprint_at(name, storage)
    with _at_hand(name, fingerprint, storage, says=True) as path:
        found = resolve_model(str(path), allow_random_weights)
    return replace(found, name=public_uri(name), uri=name)


@contextmanager
def model_on_this_node(model: ResolvedModel, storage: StorageOptions) -> Iterator[ResolvedModel]:
    """The model with a path that can be loaded while the block runs.

    Raises:
        ModelError: it cannot be fetched, or is no longer the one that was resolved.
    """
    if model.uri is None:
        yield model
        return
    with _at_hand(model.uri, model.fingerprint, storage) as path:
        yield replace(model, path=path)


def cache_folder() -> Path:
    """Where this node keeps checkpoints: `ESCNET_CACHE`, or `escnet` where caches of this user are."""
    named = os.environ.get(FOLDER_VARIABLE)
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named or f"{caches}/escnet").expanduser() / "models"


@contextmanager
def _at_hand(uri: str, fingerprint: str, storage: StorageOptions, *, says: bool = False) -> Iterator[Path]:
    """Hold the cached file against removal, after fetching it if it is not there."""
    folder = cache_folder() / fingerprint
    path = folder / _FILE
    with storing(str(folder), ModelError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not path.is_file():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                _fetch(uri, fingerprint, path, storage, says=says)
            fcntl.flock(lock, fcntl.LOCK_SH)  # lets go of it for a moment, in which it may be removed again
        os.utime(folder)
        yield path
    finally:
        os.close(lock)


def _fetch(uri: str, fingerprint: str, path: Path, storage: StorageOptions, *, says: bool) -> None:
    """Copy a checkpoint into its place, which it gets only if it is whole and the right one."""
    from escnet.checkpoint import check_content

    with storing(uri, ModelError):
        size = (find_info(uri, storage) or {}).get("size") or 0
    if says:
        say(f"{public_uri(uri)}: fetching {size / 1e6:,.0f} MB into {path.parent}")
    _make_room(path.parent, size)
    candidate = path.with_name("fetched")
    try:
        with storing(uri, ModelError), ExitStack() as stack:
            sweep_partial_files(str(path.parent))
            source = stack.enter_context(open_file(uri, storage, block_size=_BLOCK_BYTES))
            shutil.copyfileobj(source, stack.enter_context(new_local_file(str(candidate), replace=True)), _BLOCK_BYTES)
        found = check_content(candidate, called=public_uri(uri))
        if found.fingerprint != fingerprint:
            raise ModelError(
                f"{public_uri(uri)}: the file was replaced: fingerprint {found.fingerprint}, expected {fingerprint}; "
                "put the old file back, or start a new job"
            )
        candidate.replace(path)
    finally:
        candidate.unlink(missing_ok=True)


def _make_room(folder: Path, n_bytes: int) -> None:
    """Remove the checkpoints that were not used for longest, and are not in use now, until `n_bytes` fit the limit."""
    others = [each / _FILE for each in folder.parent.iterdir() if (each / _FILE).is_file()]
    surplus = sum(file.stat().st_size for file in others) + n_bytes - _limit_bytes()
    for file in sorted(others, key=lambda file: file.parent.stat().st_mtime):
        if surplus <= 0:
            return
        lock = os.open(file.with_name("lock"), os.O_RDWR | os.O_CREAT, 0o644)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            surplus -= file.stat().st_size
            file.unlink()
        os.close(lock)


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "") or str(DEFAULT_LIMIT_GB)
    try:
        return float(text) * 1e9
    except ValueError as error:
        raise InputError(f"{LIMIT_VARIABLE}: found {text!r}, expected a number of gigabytes") from error


def _fingerprint_at(uri: str, storage: StorageOptions) -> str:
    """What the checkpoint says of itself, from its header alone."""
    with storing(uri, ModelError):
        is_empty = (find_info(uri, storage) or {}).get("size") == 0  # which S3 gives no range of
        size = 0 if is_empty else int.from_bytes(read_bytes(uri, storage, 0, 8), "little")
        header = read_bytes(uri, storage, 8, size) if 0 < size <= _LARGEST_HEADER_BYTES else b""
    try:
        fingerprint = json.loads(header)["__metadata__"]["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        fingerprint = None
    if not isinstance(fingerprint, str) or not re.fullmatch("[0-9a-f]{32}", fingerprint):
        raise ModelError(
            f"{public_uri(uri)}: no ESC-Net checkpoint (.safetensors); make one with `escnet model import`"
        )
    return fingerprint
