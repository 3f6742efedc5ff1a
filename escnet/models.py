"""From what the user typed after `--model` to a network: a preset's name or a checkpoint's path.

Resolving is cheap (no torch, no tensor is read) and settles identity; loading builds the network. Random
weights are never used unless asked for, because a random network also writes masks.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from escnet.base_config import ModelConfig
from escnet.checkpoint_header import read_header
from escnet.config import PRESET_NAMES, preset_config
from schemas.errors import ModelError
from schemas.fingerprint import fingerprint

if TYPE_CHECKING:
    import torch

    from escnet.base_network import Network

RANDOM_SEED = 0
# Written down so that listing the presets need not build them.
PRESET_PARAMETERS = {
    "escnet-b16": 169_540_593,
    "escnet-l14": 448_884_977,
    "escnet-small": 10_905_092,
    "escnet-nano": 2_089_691,
    "cat-seg-b16": 154_581_218,
    "cat-seg-l14": 433_726_946,
}


@dataclass(frozen=True)
class ResolvedModel:
    """One model, fully named. `path` is its checkpoint, None for a preset with random weights.

    `is_random`: some part, or all of it, holds random numbers. `uri`: where others get the checkpoint, None if they
    find it at the same path.
    """

    name: str
    config: ModelConfig
    fingerprint: str
    path: Path | None
    is_random: bool
    uri: str | None = None


def bundled_weights(preset: str) -> Path | None:
    """The checkpoint of a preset that came with the package, if it did."""
    path = Path(str(resources.files("escnet"))) / "weights" / f"{preset}.safetensors"
    return path if path.is_file() else None


def resolve_model(name_or_path: str, allow_random_weights: bool = False) -> ResolvedModel:
    """Find the model that a preset's name or a checkpoint's path means.

    A preset's name wins over a file of the same name; write ./NAME for the file.

    Raises:
        ModelError: no such preset or file, a damaged file, or weights that are random in some part
            while `allow_random_weights` is False.
    """
    if name_or_path in PRESET_NAMES:
        path = bundled_weights(name_or_path)
        return (
            _preset_without_weights(name_or_path, allow_random_weights)
            if path is None
            else _resolve_file(name_or_path, path, allow_random_weights)
        )
    path = Path(name_or_path)
    if not path.exists():
        presets = ", ".join(PRESET_NAMES)
        raise ModelError(f"{name_or_path}: neither a preset ({presets}) nor a checkpoint file; see `escnet model list`")
    return _resolve_file(path.name, path.absolute(), allow_random_weights)  # absolute: for workers elsewhere


def load_model(resolved: ResolvedModel, device: "str | torch.device" = "cpu") -> "Network":
    """The network of a resolved model, in evaluation mode on `device`.

    Raises:
        ModelError: the checkpoint is damaged, or is no longer the one that was resolved.
    """
    if resolved.path is None:
        return build_random(resolved.config).to(device).eval()
    from escnet.checkpoint import load_checkpoint

    return load_checkpoint(resolved.path, device, expected_fingerprint=resolved.fingerprint)


def build_random(config: ModelConfig) -> "Network":
    """A network with the random weights of seed 0, the same every time; the caller's generators stay as they are."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RANDOM_SEED)
        return config.build()


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """Parameters of each part of a network, counted without memory for one."""
    import torch

    from escnet.base_network import count_parameters

    with torch.device("meta"):
        return count_parameters(config.build())


def _preset_without_weights(name: str, allow_random_weights: bool) -> ResolvedModel:
    if not allow_random_weights:
        raise ModelError(
            f"{name}: no weights come with this preset; give the path of a trained checkpoint (docs/models.md says "
            "how to get or make one), or pass --allow-random-weights to try things out (labels are noise)"
        )
    config = preset_config(name)
    identity = fingerprint([config.model_dump(mode="json"), f"random weights, seed {RANDOM_SEED}"])
    return ResolvedModel(name, config, identity, path=None, is_random=True)


def _resolve_file(name: str, path: Path, allow_random_weights: bool) -> ResolvedModel:
    info = read_header(path)
    if not info.is_trained and not allow_random_weights:
        raise ModelError(
            f"{path}: untrained parts hold random numbers ({', '.join(info.untrained_parts)}); "
            "train it first, or pass --allow-random-weights to try things out (labels are noise)"
        )
    return ResolvedModel(name, info.config, info.fingerprint, path, is_random=not info.is_trained)
