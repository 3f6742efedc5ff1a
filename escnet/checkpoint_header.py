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

from escnet.base_config import ModelConfig
from escnet.config import parse_config
from schemas.errors import ModelError

FORMAT = "escnet-checkpoint/1"
UNTRAINED_PARTS = "untrained_parts"

_MAKE_ONE = "make one with `escnet model import`"
_CLIP_SIZES = ("embed_dim", "layers", "width", "heads", "patch_size", "context_length", "vocab_size")
_LARGEST_INPUT = 8192  # pixels a side; attention over its patches would fill any memory
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
        config = parse_config(json.loads(config_json))
        provenance = json.loads(metadata["provenance"])
        _refuse_impossible(config, n_tensors=len(tensors))
    except KeyError as error:
        raise ModelError(f"{path}: the header lacks {error}; the file is damaged, get it again") from error
    except ModelError as error:
        raise ModelError(f"{path}: its configuration is not one this version can use: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: configuration or provenance is no JSON; the file is damaged, get it again"
        ) from error
    except (AttributeError, TypeError) as error:  # settings of CLIP that are no numbers
        raise ModelError(f"{path}: its configuration is not one this version can use: {error}") from error
    if not isinstance(provenance, dict):
        raise ModelError(f"{path}: the provenance is no JSON object; the file is damaged, get it again")
    parts = provenance.get(UNTRAINED_PARTS, [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ModelError(f"{path}: {UNTRAINED_PARTS} is no list of names; the file is damaged, get it again")
    return CheckpointInfo(config, config_json, fingerprint, provenance, tensors, path.stat().st_size)


def _refuse_impossible(config: ModelConfig, n_tensors: int) -> None:
    """Refuse more layers than the file has tensors, and an input of any size, before they cost time and memory."""
    towers = [config.clip.get(name) or {} for name in ("vision_cfg", "text_cfg")]
    if not all(isinstance(tower, dict) for tower in towers):
        raise ModelError("clip: a tower is no mapping of settings")
    if config.image_size > _LARGEST_INPUT:
        raise ModelError(f"image_size {config.image_size}, expected at most {_LARGEST_INPUT}")
    for settings in (config.clip, *towers):
        for name, value in settings.items():
            if name in _CLIP_SIZES and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ModelError(f"clip: {name} is {str(value)[:80]}, expected a whole number from 1")
    if max(config.depths) > n_tensors:
        raise ModelError(f"{max(config.depths)} layers, but the file has only {n_tensors} tensors")


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
