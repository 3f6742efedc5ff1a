"""CAT-Seg's weights as its public code lays them out (cvlab-kaist/CAT-Seg at 6d3a188), with random numbers.

Names and shapes are written out here and not taken from the importer that is tested with them. The outputs under
`reference.json` were made once with that code on these weights.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from escnet.catseg.config import CatSegConfig

HEAD = "sem_seg_head.predictor.transformer."
CLIP = "sem_seg_head.predictor.clip_model."
_GROUP_NORMS = tuple(f"double_conv.{i}.{kind}" for i in (1, 4) for kind in ("weight", "bias"))
TINY_CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 9, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def tiny_config(**changes: Any) -> CatSegConfig:
    """The real grid, windows and canvas of the ViT-B/16 network; all widths small."""
    values: dict[str, Any] = {
        "clip_arch": None,
        "clip": TINY_CLIP,
        "image_size": 384,
        "tap_layers": (3, 7),
        "hidden_dim": 16,
        "text_guidance_dim": 8,
        "image_guidance_dim": 8,
        "decoder_dims": (16, 16),
        "guidance_dims": (4, 4),
    }
    return CatSegConfig(**(values | changes))


def official_shapes(config: CatSegConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape."""
    d, g, t = config.hidden_dim, config.image_guidance_dim, config.text_guidance_dim
    width, channels = config.clip["vision_cfg"]["width"], config.clip["embed_dim"]
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(config.n_layers):
        layer = f"{HEAD}layers.{i}."
        for block in ("block_1", "block_2"):
            shapes |= _linear(f"{layer}swin_block.{block}.attn.q", d, d + g)
            shapes |= _linear(f"{layer}swin_block.{block}.attn.k", d, d + g)
            shapes |= _linear(f"{layer}swin_block.{block}.attn.v", d, d)
            shapes |= _linear(f"{layer}swin_block.{block}.attn.proj", d, d)
            shapes |= _linear(f"{layer}swin_block.{block}.mlp.fc1", 4 * d, d)
            shapes |= _linear(f"{layer}swin_block.{block}.mlp.fc2", d, 4 * d)
            shapes |= _norm(f"{layer}swin_block.{block}.norm1", d) | _norm(f"{layer}swin_block.{block}.norm2", d)
        shapes[f"{layer}swin_block.block_2.attn_mask"] = (4, 144, 144)
        shapes |= _norm(f"{layer}swin_block.guidance_norm", g)
        shapes |= _linear(f"{layer}attention.attention.q", d, d + t)
        shapes |= _linear(f"{layer}attention.attention.k", d, d + t)
        shapes |= _linear(f"{layer}attention.attention.v", d, d)
        shapes |= _linear(f"{layer}attention.MLP.0", 4 * d, d) | _linear(f"{layer}attention.MLP.2", d, 4 * d)
        shapes |= _norm(f"{layer}attention.norm1", d) | _norm(f"{layer}attention.norm2", d)
        shapes[f"{layer}attention.padding_tokens"] = (1, 1, d)
        shapes[f"{layer}attention.padding_guidance"] = (1, 1, t)
    shapes |= {f"{HEAD}conv1.weight": (d, 1, 7, 7), f"{HEAD}conv1.bias": (d,)}
    shapes |= {f"{HEAD}guidance_projection.0.weight": (g, channels, 3, 3), f"{HEAD}guidance_projection.0.bias": (g,)}
    shapes |= _linear(f"{HEAD}text_guidance_projection.0", t, channels)
    in_dim = d
    for i, (out_dim, guidance, scale) in enumerate(zip(config.decoder_dims, config.guidance_dims, (2, 4), strict=True)):
        spread, up, conv = 8 * guidance, f"{HEAD}decoder{i + 1}.up", f"{HEAD}decoder{i + 1}.conv.double_conv."
        project = f"{HEAD}decoder_guidance_projection.{i}.0"
        shapes |= {f"{project}.weight": (guidance, spread, 3, 3), f"{project}.bias": (guidance,)}
        shapes |= {f"{up}.weight": (in_dim, in_dim - guidance, 2, 2), f"{up}.bias": (in_dim - guidance,)}
        shapes |= {f"{conv}0.weight": (out_dim, in_dim, 3, 3), f"{conv}3.weight": (out_dim, out_dim, 3, 3)}
        shapes |= _norm(f"{conv}1", out_dim) | _norm(f"{conv}4", out_dim)
        shapes |= {f"upsample{i + 1}.weight": (width, spread, scale, scale), f"upsample{i + 1}.bias": (spread,)}
        in_dim = out_dim
    shapes |= {f"{HEAD}head.weight": (1, in_dim, 3, 3), f"{HEAD}head.bias": (1,)}
    return shapes | _clip_shapes(config.clip)


def official_weights(config: CatSegConfig, seed: int = 0) -> dict[str, Tensor]:
    """Numbers of a size that lets every part of the network show in its output."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in sorted(official_shapes(config).items()):
        numbers = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
        words = name.split(".")
        is_norm = "norm" in words[-2] or words[-2].startswith("ln_") or name.endswith(_GROUP_NORMS)
        if name.endswith("attn_mask"):
            numbers = torch.zeros(shape)  # computed by both
        elif is_norm:
            numbers = numbers * 0.2 + (words[-1] == "weight")
        elif words[-1] == "weight" and len(shape) > 1:
            numbers *= 1.5 / math.sqrt(math.prod(shape[1:]))
        elif not shape:
            numbers = torch.tensor(math.log(100.0))
        else:
            numbers *= 0.3
        weights[name] = numbers
    return weights


def _linear(name: str, out_dim: int, in_dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out_dim, in_dim), f"{name}.bias": (out_dim,)}


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _clip_shapes(clip: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    vision, text, channels = clip["vision_cfg"], clip["text_cfg"], clip["embed_dim"]
    width, patch = vision["width"], vision["patch_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((vision["image_size"] // patch) ** 2 + 1, width),
        "visual.proj": (width, channels),
        "visual.conv1.weight": (width, 3, patch, patch),
        "positional_embedding": (text["context_length"], text["width"]),
        "token_embedding.weight": (text["vocab_size"], text["width"]),
        "text_projection": (text["width"], channels),
        "logit_scale": (),
    }
    shapes |= _norm("visual.ln_pre", width) | _norm("visual.ln_post", width) | _norm("ln_final", text["width"])
    for tower, prefix in ((vision, "visual.transformer."), (text, "transformer.")):
        for i in range(tower["layers"]):
            block, w = f"{prefix}resblocks.{i}.", tower["width"]
            shapes |= {f"{block}attn.{part}_proj_weight": (w, w) for part in "qkv"}
            shapes |= {f"{block}attn.in_proj_bias": (3 * w,)}
            shapes |= _linear(f"{block}attn.out_proj", w, w)
            shapes |= _linear(f"{block}mlp.c_fc", 4 * w, w) | _linear(f"{block}mlp.c_proj", w, 4 * w)
            shapes |= _norm(f"{block}ln_1", w) | _norm(f"{block}ln_2", w)
    return {CLIP + name: shape for name, shape in shapes.items()}


CASES = {  # name: classes, views, height and width of the picture
    "20 classes, single": (20, "single", (384, 384)),
    "171 classes, single": (171, "single", (384, 384)),
    "847 classes, single": (847, "single", (384, 384)),
    "20 classes, sliding": (20, "sliding", (480, 700)),
    "171 classes, sliding": (171, "sliding", (480, 700)),
    "847 classes, sliding": (847, "sliding", (480, 700)),
}
TEMPLATE = "A photo of a {} in the scene"  # theirs


def class_names(n_classes: int) -> list[str]:
    """So many names, each other tokens."""
    return [f"thing {i}" for i in range(n_classes)]


def picture(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A seeded picture of coarse and fine patterns, (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    height, width = size_hw
    coarse = generator.integers(0, 200, (height // 40 + 1, width // 40 + 1, 3))
    coarse = coarse.repeat(40, axis=0)[:height].repeat(40, axis=1)[:, :width]
    return (coarse + generator.integers(0, 55, (height, width, 3))).astype(np.uint8)
