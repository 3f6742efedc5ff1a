"""A network to be trained, made from other people's weights: CLIP by open_clip, prompts and mask decoder by SAM.

ESC-Net (Lee et al. 2025, arXiv:2411.14723) starts its training from both, CAT-Seg (Cho et al. 2024, arXiv:2303.11797)
from CLIP alone. Every ESC-Block gets a copy of
its own of SAM's decoder transformer and tokens. What the two do not cover stays at its seeded random
start, and the checkpoint says so: such a network must be trained before its labels mean anything.
"""

import difflib
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import resize_pos_embed
from torch import Tensor

from escnet.base_network import Network
from escnet.catseg.config import CatSegConfig
from escnet.catseg.network import CatSeg
from escnet.checkpoint import describe_mismatch
from escnet.checkpoint_header import UNTRAINED_PARTS
from escnet.config import EscNetConfig, preset_config
from escnet.models import build_random
from escnet.network import EscNet
from escnet.weight_files import read_weights, shapes_of
from schemas.errors import ModelError

_GRID_SIDE = 24  # patches; the paper's grid
_QUICKGELU = "-quickgelu"
_MOST_POSITIONS = 2**16
_POSITIONS = "visual.positional_embedding"
# Buffers that only OpenAI's own CLIP files hold; those weights were all trained with QuickGELU.
_OPENAI_MARKS = frozenset(("input_resolution", "context_length", "vocab_size"))
_SAM_COPIED = ("transformer.", "iou_token.", "mask_tokens.")
_SAM_UNNEEDED = (
    "image_encoder.",
    "mask_decoder.output_upscaling.",
    "mask_decoder.output_hypernetworks_mlps.",
    "mask_decoder.iou_prediction_head.",
)


@dataclass(frozen=True)
class _ClipSource:
    name: str  # pretrained tag or file name
    path: Path
    licence: str
    normalisation: dict[str, Any]  # fields of a configuration that these weights decide

    def origin(self, arch: str) -> dict[str, str]:
        """For a checkpoint's provenance."""
        sha256 = _sha256_of(self.path)
        return {"architecture": arch, "weights": self.name, "sha256": sha256, "licence": self.licence}


def import_escnet(
    *, clip: str, clip_pretrained: str, sam: str | Path, image_size: int | None = None
) -> tuple[EscNet, dict[str, Any]]:
    """Build an ESC-Net on the weights of CLIP and SAM.

    Args:
        clip: an open_clip architecture with open_clip's own vision transformer, such as ViT-B-16-quickgelu.
        clip_pretrained: one of open_clip's pretrained tags for it (downloaded or from the cache), or a file.
        sam: a SAM checkpoint in the layout of sam_vit_b_01ec64.pth; vit_l and vit_h serve as well.
        image_size: side of the network's input in pixels, default 24 patches; CLIP's position
            embeddings are interpolated bicubically to the grid.

    Returns:
        The network, in evaluation mode on the CPU, and the provenance for `save_checkpoint`.

    Raises:
        ModelError: an unknown or unsupported architecture, weights that do not fit, cannot be had or
            cannot be read safely, or an activation (GELU, QuickGELU) other than the weights'.
    """
    config = config_for_clip(clip, image_size)
    sam_weights = read_weights(sam)  # before a download that may take minutes
    source = _find_clip_weights(clip, clip_pretrained)
    network = build_random(config.model_copy(update=source.normalisation)).eval()
    filled = _load_sam(network, Path(sam), sam_weights) | _load_clip(network, clip, source.path)
    of_sam = {
        "weights": Path(sam).name,
        "sha256": _sha256_of(Path(sam)),
        "licence": "Apache-2.0, where this is Meta's own file",
    }
    return network, _provenance(network, filled, clip=source.origin(clip), sam=of_sam)


def import_cat_seg_start(config: CatSegConfig, clip_pretrained: str) -> tuple[CatSeg, dict[str, Any]]:
    """Build a CAT-Seg on the weights of CLIP.

    Args:
        config: its `clip_arch` is an open_clip architecture.
        clip_pretrained: one of open_clip's pretrained tags for it (downloaded or from the cache), or a file.

    Returns:
        The network, in evaluation mode on the CPU, and the provenance for `save_checkpoint`.

    Raises:
        ModelError: weights that do not fit, cannot be had or cannot be read safely, or another activation.
    """
    source = _find_clip_weights(config.clip_arch, clip_pretrained)
    network = build_random(config.model_copy(update=source.normalisation)).eval()
    filled = _load_clip(network, config.clip_arch, source.path)
    return network, _provenance(network, filled, clip=source.origin(config.clip_arch))


def _provenance(network: Network, filled: set[str], **origins: dict[str, str]) -> dict[str, Any]:
    untrained = sorted({_part_of(name) for name in network.state_dict() if name not in filled})
    return {"imported_from": origins, UNTRAINED_PARTS: untrained}


def config_for_clip(arch: str, image_size: int | None = None) -> EscNetConfig:
    """The configuration of an ESC-Net on an open_clip architecture; blocks 1/3 and 2/3 up are tapped.

    Raises:
        ModelError: open_clip does not know it, it is not one we can use, or the size does not fit the patches.
    """
    clip = open_clip.get_model_config(arch) if arch in open_clip.list_models() else None
    if clip is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3, cutoff=0.3)
        raise ModelError(f"{arch}: not an open_clip architecture; near ones: {', '.join(near) or 'none'}")
    vision, text = clip["vision_cfg"], clip["text_cfg"]
    own_towers = isinstance(vision.get("layers"), int) and "timm_model_name" not in vision
    own_words = not {"hf_model_name", "hf_tokenizer_name"} & text.keys()
    if not (own_towers and own_words) or clip.get("custom_text") or "multimodal_cfg" in clip:
        raise ModelError(
            f"{arch}: its towers or tokenizer are not open_clip's own; "
            "expected a plain vision transformer such as ViT-B-16-quickgelu or ViT-L-14-336-quickgelu"
        )
    patch, layers = vision["patch_size"], vision["layers"]
    side = _GRID_SIDE * patch if image_size is None else image_size
    if side < patch or side % patch:
        raise ModelError(f"image size {side}: expected a multiple of {arch}'s patch size {patch}")
    return EscNetConfig(clip_arch=arch, clip=clip, image_size=side, tap_layers=(layers // 3 - 1, 2 * layers // 3 - 1))


def clip_of_preset(preset: str) -> tuple[str, int]:
    """The open_clip architecture and the input size in pixels of a preset.

    Raises:
        ModelError: no such preset, or one whose CLIP nobody publishes weights for.
    """
    config = preset_config(preset)
    if config.clip_arch is None:
        raise ModelError(f"{preset}: has a small CLIP of its own, nothing to import; use escnet-b16 or escnet-l14")
    return config.clip_arch, config.image_size


def _find_clip_weights(arch: str, pretrained: str) -> _ClipSource:
    known = open_clip.get_pretrained_cfg(arch, pretrained)
    if not known:
        return _local_clip_weights(arch, pretrained)
    _refuse_other_activation(arch, f"the pretrained tag {pretrained}", bool(known.get("quick_gelu", False)))
    try:
        path = open_clip.download_pretrained(known)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:160]
        raise ModelError(
            f"{arch}: the weights {pretrained!r} could not be downloaded ({reason}); "
            "check the connection, or give a local file instead of the tag"
        ) from error
    licence = "MIT" if pretrained == "openai" else "as stated by the publisher of these weights"
    normalisation = {"image_mean": tuple(known["mean"]), "image_std": tuple(known["std"])}
    return _ClipSource(pretrained, Path(path), licence, normalisation)


def _local_clip_weights(arch: str, pretrained: str) -> _ClipSource:
    path = Path(pretrained)
    if not path.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise ModelError(f"{pretrained}: neither a file nor a pretrained tag of {arch}; its tags: {tags}")
    return _ClipSource(path.name, path, "as stated by the publisher of these weights", normalisation={})


def _refuse_other_activation(arch: str, weights: str, weights_use_quickgelu: bool) -> None:
    """open_clip only warns here, and computes nonsense with the wrong activation."""
    config = open_clip.get_model_config(arch)
    if bool(config.get("quick_gelu", False)) == weights_use_quickgelu:
        return
    other = arch + _QUICKGELU if weights_use_quickgelu else arch.removesuffix(_QUICKGELU)
    trained, built = ("QuickGELU", "GELU") if weights_use_quickgelu else ("GELU", "QuickGELU")
    raise ModelError(f"{arch}: builds {built}, but {weights} was trained with {trained}; use {other}")


def _load_clip(network: Network, arch: str, path: Path) -> set[str]:
    """Fill `network.clip` from the file; returns the names of the network's tensors now filled."""
    weights = read_weights(path)
    if _OPENAI_MARKS & weights.keys():
        _refuse_other_activation(arch, f"{path.name} (OpenAI's weights)", weights_use_quickgelu=True)
    weights = {name: tensor for name, tensor in weights.items() if name not in _OPENAI_MARKS}
    targets = network.clip.state_dict()
    positions, ours = weights.get(_POSITIONS), targets.get(_POSITIONS)
    if positions is not None and ours is not None and _is_grid(positions, like=ours):
        # float: interpolation in half precision, as OpenAI stores its weights, would lose digits
        weights[_POSITIONS] = positions.float()
        resize_pos_embed(weights, network.clip)
    if problem := describe_mismatch(shapes_of(weights), shapes_of(targets)):
        raise ModelError(f"{path}: these are not the weights of open_clip's {arch}: {problem}")
    network.clip.load_state_dict(weights)
    return {f"clip.{name}" for name in targets}


def _is_grid(positions: Tensor, like: Tensor) -> bool:
    """Whether these are embeddings as wide as `like`: one for the whole picture, and a square of them for patches."""
    if positions.shape[1:] != like.shape[1:] or not 1 < len(positions) <= _MOST_POSITIONS:
        return False
    return math.isqrt(len(positions) - 1) ** 2 == len(positions) - 1


def _load_sam(network: EscNet, path: Path, weights: dict[str, Tensor]) -> set[str]:
    """Fill the prompt encoder and every block's SAM parts; returns the names of the network's tensors now filled."""
    sources: dict[str, tuple[str, Tensor]] = {}  # our name -> (SAM's name, our tensor)
    for name, tensor in network.prompt_encoder.state_dict().items():
        sources[f"prompt_encoder.{name}"] = (f"prompt_encoder.{name}", tensor)
    for i, block in enumerate(network.blocks):
        for name, tensor in block.sam.state_dict().items():
            if name.startswith(_SAM_COPIED):
                sources[f"blocks.{i}.sam.{name}"] = (f"mask_decoder.{name}", tensor)
    found = {name: tensor for name, tensor in weights.items() if not name.startswith(_SAM_UNNEEDED)}
    if problem := describe_mismatch(shapes_of(found), shapes_of(dict(sources.values()))):
        raise ModelError(f"{path}: not a SAM checkpoint in the layout of sam_vit_b_01ec64.pth: {problem}")
    with torch.no_grad():
        for their_name, ours in sources.values():
            ours.copy_(found[their_name])
    return set(sources)


def _part_of(name: str) -> str:
    """The part of the network a tensor belongs to, blocks taken together: blocks.*.vlf, decoder."""
    words = name.split(".")
    if words[0] != "blocks":
        return words[0]
    depth = 4 if words[2] == "sam" else 3
    return ".".join(["blocks", "*", *words[2:depth]])


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
