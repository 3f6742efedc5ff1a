"""What a checkpoint says about itself, read without torch and without touching a weight.

A checkpoint is one safetensors file. Its header holds the names, shapes and types of all tensors and,
under four keys of text, what the weights belong to: `format`, `config` (canonical JSON of the
`ModelConfig`), `fingerprint` (see `escnet.checkpoint`) and `provenance` (JSON: where the weights came from).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from escnet.config import ModelConfig
from schemas.errors import ModelError

FORMAT = "escnet-checkpoint/1"
UNTRAINED_PARTS = "untrained_parts"

_MAKE_ONE = "make one with `escnet model import`"
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")


@dataclass(frozen=True)
class CheckpointInfo:
    """The header of one checkpoint. `n_parameters` counts every stored number, frozen ones too."""

    config: ModelConfig
    config_json: str  # as stored; the fingerprint covers this text
    fingerprint: str
    provenance: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], str]]  # name -> (shape, safetensors dtype such as "F32")
    size_bytes: int

    @property
    def n_parameters(self) -> int:
        return sum(math.prod(shape) for shape, _ in self.tensors.values())

    @property
    def untrained_parts(self) -> tuple[str, ...]:
        return tuple(self.provenance.get(UNTRAINED_PARTS, ()))

    @property
    def is_trained(self) -> bool:
        """False while any part still holds random numbers, as after an import."""
        return not self.untrained_parts


def read_header(path: str | Path) -> CheckpointInfo:
    """What the checkpoint at `path` says about itself; no tensor is read.

    Raises:
        ModelError: the file is missing, is no safetensors file, is cut short, or is no ESC-Net checkpoint
            of this format.
    """
    path = Path(path)
    metadata, tensors = _open_header(path)
    found = metadata.get("format")
    if found is None:
        raise ModelError(f"{path}: a safetensors file without an ESC-Net configuration, expected {FORMAT}; {_MAKE_ONE}")
    if found != FORMAT:
        raise ModelError(f"{path}: format {found!r}, expected {FORMAT!r}; use the version of escnet that wrote it")
    try:
        config_json, fingerprint = metadata["config"], metadata["fingerprint"]
        config = ModelConfig.model_validate(json.loads(config_json))
        provenance = json.loads(metadata["provenance"])
    except KeyError as error:
        raise ModelError(f"{path}: the header lacks {error}; the file is damaged, get it again") from error
    except ModelError as error:
        raise ModelError(f"{path}: its configuration is not one this version can use: {error}") from error
    except ValueError as error:
        raise ModelError(
            f"{path}: configuration or provenance is no JSON; the file is damaged, get it again"
        ) from error
    if not isinstance(provenance, dict):
        raise ModelError(f"{path}: the provenance is no JSON object; the file is damaged, get it again")
    return CheckpointInfo(config, config_json, fingerprint, provenance, tensors, path.stat().st_size)


def _open_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[tuple[int, ...], str]]]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ModelError(f"{path}: {found}, expected an ESC-Net checkpoint (.safetensors); {_MAKE_ONE}")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file begins with the length of its header, any eight bytes, and then the header's "{".
        if start[8:] != b"{" and start.startswith(_PICKLE_STARTS):
            raise ModelError(f"{path}: a PyTorch file (.pt, .pth), expected an ESC-Net checkpoint; {_MAKE_ONE} from it")
        with safe_open(path, framework="np") as file:
            views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return file.metadata() or {}, {n: (tuple(v.get_shape()), v.get_dtype()) for n, v in views.items()}
    except SafetensorError as error:
        raise ModelError(f"{path}: no safetensors file, or cut short ({error}); get it again") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
