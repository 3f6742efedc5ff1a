"""Checkpoints: one safetensors file with weights and configuration, named by its content.

The fingerprint is a hash of the configuration and of every tensor's name, type, shape and bytes, so two
files with one fingerprint label alike, whatever they are called. It is checked on every load, and every
load is strict: a half-loaded model still writes plausible masks.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from escnet.base_config import ModelConfig
from escnet.base_network import Network
from escnet.checkpoint_header import FORMAT, CheckpointInfo, read_header
from schemas.errors import ModelError, OutputError
from schemas.fingerprint import canonical_json
from schemas.quantities import few

_DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_MOST_NAMED = 3


def fingerprint_of(state_dict: Mapping[str, Tensor], config: ModelConfig) -> str:
    """32 hex digits of SHA-256 over the configuration and all tensors, in the order of their names."""
    digest = _digest_of_config(_config_json(config))
    for name in sorted(state_dict):
        _add_tensor(digest, name, state_dict[name])
    return digest.hexdigest()[:32]


def save_checkpoint(
    network: Network, path: str | Path, provenance: Mapping[str, Any], *, overwrite: bool = False
) -> CheckpointInfo:
    """Write the network to `path`, whole or not at all, and return the header as written.

    Args:
        provenance: JSON values that say where the weights came from, their licences, and under
            "untrained_parts" which parts still hold random numbers (none listed: a trained network).

    Raises:
        OutputError: the file exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": _config_json(network.config),
        "fingerprint": fingerprint_of(tensors, network.config),
        "provenance": canonical_json(dict(provenance)),
    }
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # save_file would leave 0600, unreadable for colleagues
        save_file(tensors, temporary, metadata)
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return read_header(path)


def refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    """Raise OutputError if `path` exists and may not be overwritten, or if its folder does not exist."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file to write")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")


def load_checkpoint(
    path: str | Path, device: str | torch.device = "cpu", *, expected_fingerprint: str | None = None
) -> Network:
    """The network of a checkpoint, in evaluation mode on `device`.

    Strict in names, shapes and types; the stored fingerprint is compared with the content and, where
    given, with `expected_fingerprint` (a file replaced since a job was planned).

    Raises:
        ModelError: anything is wrong with the file; one line says what.
    """
    path = Path(path)
    info = read_header(path)
    if expected_fingerprint not in (None, info.fingerprint):
        raise ModelError(
            f"{path}: the file was replaced: fingerprint {info.fingerprint}, expected {expected_fingerprint}; "
            "put the old file back, or start a new job"
        )
    with torch.device("meta"):  # without memory, which a configuration can ask for any amount of
        outline = _build_without_weights(path, info.config).state_dict()
    expected = {name: (tuple(t.shape), _DTYPE_NAMES[t.dtype]) for name, t in outline.items()}
    if problem := describe_mismatch(info.tensors, expected):
        raise ModelError(f"{path}: the weights do not fit its configuration: {problem}")
    network = _build_without_weights(path, info.config)
    targets = network.state_dict()
    _refuse_damaged(_read_all(path, info, targets), info, path)
    return network.to(device).eval()


def check_content(path: str | Path, called: str | None = None) -> CheckpointInfo:
    """The header of a checkpoint whose every byte was compared with its fingerprint; builds no network.

    Args:
        called: what to name the file in errors.

    Raises:
        ModelError: it is no checkpoint, or damaged.
    """
    path = Path(path)
    info = read_header(path)
    _refuse_damaged(_read_all(path, info), info, called or path)
    return info


def _refuse_damaged(found: str, info: CheckpointInfo, name: str | Path) -> None:
    if found != info.fingerprint:
        raise ModelError(
            f"{name}: the content does not match its fingerprint {info.fingerprint}; "
            "the file was changed or damaged, get it again"
        )


def describe_mismatch(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What differs between two mappings of tensor names, in a few words naming the first few; "" if nothing."""
    problems = [
        _first_few("missing", [name for name in expected if name not in found]),
        _first_few("surplus", [name for name in found if name not in expected]),
        _first_few(
            "different",
            [
                f"{name} is {_words(found[name])}, expected {_words(expected[name])}"
                for name in expected
                if name in found and found[name] != expected[name]
            ],
        ),
    ]
    return "; ".join(filter(None, problems))


def _words(description: Any) -> str:
    shape, dtype = description
    return " x ".join(map(str, shape)) + f" {dtype}" if shape else f"one number {dtype}"


def _first_few(what: str, names: list[str]) -> str:
    return f"{what} {few(names, _MOST_NAMED)}" if names else ""


def _config_json(config: ModelConfig) -> str:
    return canonical_json(config.model_dump(mode="json"))


def _digest_of_config(config_json: str) -> Any:
    """A SHA-256 over the configuration as stored: a field added later with a default changes no fingerprint."""
    return hashlib.sha256(config_json.encode())


def _add_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    digest.update(canonical_json([name, _DTYPE_NAMES[tensor.dtype], list(tensor.shape)]).encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy())


def _read_all(path: Path, info: CheckpointInfo, targets: Mapping[str, Tensor] | None = None) -> str:
    """The fingerprint of what the file holds, which goes into `targets`, if given.

    Copied, not mapped: in memory of torch's own the alignment, and so the last bits of a product, do not
    depend on where a tensor happens to lie in the file.
    """
    digest = _digest_of_config(info.config_json)
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            for name in sorted(info.tensors):
                tensor = file.get_tensor(name)
                _add_tensor(digest, name, tensor if targets is None else targets[name].copy_(tensor))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); get it again") from error
    return digest.hexdigest()[:32]


class _WithoutRandomNumbers(TorchFunctionMode):
    """Leaves out random initialisation, which the weights overwrite: seconds on a large network.

    Everything else runs, so buffers that are computed and not stored are right, which they would
    not be on the meta device.
    """

    _IN_PLACE = (Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._IN_PLACE:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build_without_weights(path: Path, config: ModelConfig) -> Network:
    try:
        with _WithoutRandomNumbers():
            return config.build()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: its configuration describes no network we can build ({reason})") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
