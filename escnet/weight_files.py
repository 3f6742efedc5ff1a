"""Weight files of other projects: safetensors, and PyTorch's pickles read without running any code of theirs."""

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from schemas.errors import ModelError

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"
# What the readers raise on files with flipped bytes and missing ends, found by trying.
_DAMAGE = (
    SafetensorError, zipfile.BadZipFile, struct.error, OSError, EOFError, RuntimeError, ValueError, LookupError,
    TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError,
)  # fmt: skip


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a weight file by name, on the CPU.

    The kind of file is told from its content. A `{"state_dict": ...}` or `{"model": ...}` around the weights and a
    `module.` before every name are taken off.

    Raises:
        ModelError: the file is missing, damaged, a TorchScript archive, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, expected a file of weights")
    try:
        weights = _read(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: damaged, or a pickle that holds more than tensors, whose reading could run code; refused, "
            "use a safetensors file of the same weights"
        ) from error
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0][:120]
        raise ModelError(f"{path}: damaged or cut short ({reason}); get the file again") from error
    return _tensors_of(path, weights)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each, for `checkpoint.describe_mismatch`; floating point of any width is "float"."""
    return {
        name: (tuple(tensor.shape), "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        return load_file(path)
    if start.startswith(_ZIP_START):
        _refuse_torchscript(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if start.startswith(_PICKLE_START):
        if tarfile.is_tarfile(path):  # PyTorch's oldest form, in which "weights only" once ran code (CVE-2025-32434)
            raise ModelError(f"{path}: a tar of pickles; use a safetensors file of the same weights")
        return torch.load(path, map_location="cpu", weights_only=True)
    raise ModelError(f"{path}: neither safetensors nor a PyTorch file, expected .safetensors, .pt, .pth or .bin")


def _refuse_torchscript(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        is_torchscript = any(name.endswith("/constants.pkl") for name in archive.namelist())
    if is_torchscript:
        raise ModelError(
            f"{path}: a TorchScript archive (as OpenAI publishes CLIP), which cannot be read as weights only; "
            "use the pretrained tag `openai`, or convert the file once as docs/models.md shows"
        )


def _tensors_of(path: Path, weights: Any) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(weights, dict) and isinstance(weights.get(wrapper), dict):
            weights = weights[wrapper]
    if not isinstance(weights, dict) or not weights:
        found = "nothing" if weights == {} else f"a {type(weights).__name__}"
        raise ModelError(f"{path}: holds {found}, expected tensors by name (a state dict)")
    for name, value in weights.items():
        if not isinstance(name, str):
            raise ModelError(f"{path}: {str(name)[:60]!r} stands for a name, expected tensors by name (a state dict)")
        if not isinstance(value, Tensor):
            raise ModelError(f"{path}: {name!r} is a {type(value).__name__}, expected tensors only (a state dict)")
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ModelError(f"{path}: {name!r} holds no plain numbers, expected a plain tensor; save it as one")
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    return dict(weights)
