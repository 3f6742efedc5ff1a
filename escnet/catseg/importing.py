"""The public checkpoints of CAT-Seg (cvlab-kaist/CAT-Seg: model_base.pth, model_large.pth), as networks of ours.

Their layout is that of the public code at its current commit (6d3a188): a dictionary whose `model` holds the tensors.
Every tensor has its place here or stands in `_UNNEEDED`. Three things are laid out otherwise by us. CLIP's query, key
and value projections are stacked, as open_clip has them. The decoder's first convolution of a stage is two, one over
features and one over guidance. CLIP's position embeddings are interpolated once to the network's grid, as theirs are at
every pass: bicubically, without the antialiasing that open_clip would add.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from escnet.catseg.config import CatSegConfig
from escnet.catseg.network import CatSeg
from escnet.checkpoint import describe_mismatch
from escnet.config import preset_config
from escnet.models import build_random
from escnet.weight_files import read_weights, shapes_of
from schemas.errors import ModelError

ARCHITECTURES = {"ViT-B/16": "cat-seg-b16", "ViT-L/14@336px": "cat-seg-l14"}

_CLIP = "sem_seg_head.predictor.clip_model."
_AGGREGATOR = "sem_seg_head.predictor.transformer."
_POSITIONS = f"{_CLIP}visual.positional_embedding"
_PATCHES = f"{_CLIP}visual.conv1.weight"
_UNNEEDED = re.compile(
    r"(clip_)?pixel_(mean|std)$"  # of older versions; those of ImageNet are never used, CLIP's are in our configuration
    r"|.*\.swin_block\.block_[12]\.attn_mask$"  # follows from grid and window
)
# Ours to theirs, one after the other.
_RENAMED = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^clip\.", _CLIP),
        (r"^embed\.", f"{_AGGREGATOR}conv1."),
        (r"^image_guidance\.", f"{_AGGREGATOR}guidance_projection.0."),
        (r"^text_guidance\.", f"{_AGGREGATOR}text_guidance_projection.0."),
        (r"^layers\.(\d+)\.spatial\.blocks\.0\.", rf"{_AGGREGATOR}layers.\1.swin_block.block_1."),
        (r"^layers\.(\d+)\.spatial\.blocks\.1\.", rf"{_AGGREGATOR}layers.\1.swin_block.block_2."),
        (r"^layers\.(\d+)\.spatial\.", rf"{_AGGREGATOR}layers.\1.swin_block."),
        (r"^layers\.(\d+)\.classes\.", rf"{_AGGREGATOR}layers.\1.attention."),
        (r"(block_\d)\.(query|key|value|project)\.", r"\1.attn.\2."),
        (r"\.attention\.(query|key|value)\.", r".attention.attention.\1."),
        (r"\.query\.", ".q."),
        (r"\.key\.", ".k."),
        (r"\.value\.", ".v."),
        (r"\.project\.(weight|bias)$", r".proj.\1"),
        (r"(block_\d)\.ffn\.0\.", r"\1.mlp.fc1."),
        (r"(block_\d)\.ffn\.2\.", r"\1.mlp.fc2."),
        (r"\.attention\.ffn\.", ".attention.MLP."),
        (r"\.ffn_norm\.", ".norm2."),
        (r"(block_\d|attention)\.norm\.", r"\1.norm1."),
        (r"\.padding$", ".padding_tokens"),
        (r"^decoder\.head\.", f"{_AGGREGATOR}head."),
    )
]


class _Piece(NamedTuple):
    """Where numbers of theirs go: `theirs[index]` has the numbers of `ours`, a view of one of our tensors."""

    ours: Tensor
    index: tuple[slice, ...] = ()


def import_cat_seg(path: str | Path, arch: str | None = None) -> tuple[CatSeg, dict[str, Any]]:
    """A CAT-Seg with the weights of a public checkpoint.

    Args:
        path: such as model_base.pth.
        arch: one of `ARCHITECTURES`; None to tell it from the width of CLIP.

    Returns:
        The network, in evaluation mode on the CPU, and the provenance for `save_checkpoint`.

    Raises:
        ModelError: the file cannot be read safely, is of another architecture, or lacks a tensor or has one too many.
    """
    path = Path(path)
    weights = read_weights(path)
    preset = ARCHITECTURES[arch or _told_by(path, weights)]
    network = load_official(path, weights, preset_config(preset))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    source = {"weights": path.name, "sha256": sha256, "licence": "MIT, where this is the authors' own file"}
    return network, {"imported_from": {"cat_seg": source}}


def load_official(path: Path, weights: Mapping[str, Tensor], config: CatSegConfig) -> CatSeg:
    """The network that these weights, read from `path`, are of.

    Raises:
        ModelError: a tensor is missing, left over, or of another shape.
    """
    network = build_random(config).eval()
    targets = dict(_targets(network))
    found = {name: tensor for name, tensor in weights.items() if not _UNNEEDED.match(name)}
    found[_POSITIONS] = _resized(found.get(_POSITIONS), config)
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    if problem := describe_mismatch(shapes_of(found), {name: (shape, "float") for name, (shape, _) in targets.items()}):
        raise ModelError(f"{path}: not a CAT-Seg checkpoint of {_name_of(config)} in its authors' layout: {problem}")
    with torch.no_grad():
        for name, (_, pieces) in targets.items():
            for piece in pieces:
                piece.ours.copy_(found[name][piece.index].view_as(piece.ours))
    return network


def _told_by(path: Path, weights: Mapping[str, Tensor]) -> str:
    """The architecture whose patch embedding the weights have."""
    found = weights.get(_PATCHES)
    if found is None:
        raise ModelError(
            f"{path}: no CAT-Seg checkpoint, its {_PATCHES} is missing; expected model_base.pth or model_large.pth of "
            "cvlab-kaist/CAT-Seg"
        )
    for arch, preset in ARCHITECTURES.items():
        vision = preset_config(preset).clip["vision_cfg"]
        if tuple(found.shape) == (vision["width"], 3, vision["patch_size"], vision["patch_size"]):
            return arch
    raise ModelError(
        f"{path}: {_PATCHES} is {' x '.join(map(str, found.shape))}, that of neither {' nor '.join(ARCHITECTURES)}"
    )


def _name_of(config: CatSegConfig) -> str:
    return next((arch for arch, preset in ARCHITECTURES.items() if preset_config(preset) == config), "this size")


def _targets(network: CatSeg) -> Iterator[tuple[str, tuple[tuple[int, ...], list[_Piece]]]]:
    """Their names, each with its shape and where its numbers go."""
    tensors = network.state_dict()
    for name, ours in tensors.items():
        if name.endswith(".attn.in_proj_weight"):
            stem = _theirs(name).removesuffix("in_proj_weight")
            for part, third in zip("qkv", ours.chunk(3), strict=True):
                yield f"{stem}{part}_proj_weight", (tuple(third.shape), [_Piece(third)])
        elif name.endswith((".padding", ".padding_guidance")):
            yield _theirs(name), ((1, 1, *ours.shape), [_Piece(ours)])
        elif not name.startswith(("decoder.stages.", "decoder.guidance.")):
            yield _theirs(name), (tuple(ours.shape), [_Piece(ours)])
    for i in range(len(network.decoder.stages)):
        yield from _decoder_targets(tensors, i)


def _decoder_targets(tensors: dict[str, Tensor], i: int) -> Iterator[tuple[str, tuple[tuple[int, ...], list[_Piece]]]]:
    """Of stage i."""
    stage, guidance, theirs = f"decoder.stages.{i}.", f"decoder.guidance.{i}.", f"{_AGGREGATOR}decoder{i + 1}."
    plain = {
        f"{guidance}spread.": f"upsample{i + 1}.",
        f"{guidance}project.": f"{_AGGREGATOR}decoder_guidance_projection.{i}.0.",
        f"{stage}enlarge.": f"{theirs}up.",
        f"{stage}norm.": f"{theirs}conv.double_conv.1.",
        f"{stage}refine.": f"{theirs}conv.double_conv.3.",
        f"{stage}refine_norm.": f"{theirs}conv.double_conv.4.",
    }
    for name, ours in tensors.items():
        for prefix, their_prefix in plain.items():
            if name.startswith(prefix):
                yield their_prefix + name.removeprefix(prefix), (tuple(ours.shape), [_Piece(ours)])
    of_features, of_guidance = tensors[f"{stage}mix.weight"], tensors[f"{guidance}mix.weight"]
    n_features, n_guidance = of_features.shape[1], of_guidance.shape[1]
    pieces = [
        _Piece(of_features, (slice(None), slice(0, n_features))),
        _Piece(of_guidance, (slice(None), slice(n_features, None))),
    ]
    shape = (of_features.shape[0], n_features + n_guidance, *of_features.shape[2:])
    yield f"{theirs}conv.double_conv.0.weight", (shape, pieces)


def _theirs(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _resized(positions: Tensor | None, config: CatSegConfig) -> Tensor | None:
    """Position embeddings (1 + n * n, width) for our grid; left as they are where they are none of a square."""
    if positions is None or positions.ndim != 2 or math.isqrt(len(positions) - 1) ** 2 != len(positions) - 1:
        return positions
    side, of_class, of_patches = math.isqrt(len(positions) - 1), positions[:1].float(), positions[1:].float()
    if (side, side) == config.grid_hw:
        return positions
    grid = of_patches.unflatten(0, (side, side)).movedim(-1, 0).unsqueeze(0)  # (1, width, n, n)
    grid = F.interpolate(grid, config.grid_hw, mode="bicubic", align_corners=False)
    return torch.cat([of_class, grid[0].flatten(1).T])
