"""Small networks, and weight files of other projects in their official layouts with random values."""

import json
from pathlib import Path

import open_clip
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

from escnet.config import EscNetConfig, SamConfig

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


def tiny_config(**changes) -> EscNetConfig:
    fields = {
        "clip_arch": None,
        "clip": TINY_CLIP,
        "image_size": 32,
        "tap_layers": (0, 1),
        "sam": SamConfig(embed_dim=16, mask_in_chans=8, num_heads=2, mlp_dim=16),
        "hidden_dim": 16,
        "decoder_dims": (8, 4),
        "guidance_dims": (4, 4),
    }
    return EscNetConfig(**{**fields, **changes})


def register_tiny_clips(folder: Path) -> None:
    """Make `tiny-clip` and `tiny-clip-quickgelu` known to open_clip."""
    for name, config in (("tiny-clip", TINY_CLIP), ("tiny-clip-quickgelu", {**TINY_CLIP, "quick_gelu": True})):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)


def unregister_tiny_clips() -> None:
    factory = open_clip.factory
    factory._MODEL_CONFIG_PATHS[:] = [p for p in factory._MODEL_CONFIG_PATHS if not p.name.startswith("tiny-clip")]
    for name in ("tiny-clip", "tiny-clip-quickgelu"):
        factory._MODEL_CONFIGS.pop(name, None)


def clip_weights(arch: str) -> dict[str, torch.Tensor]:
    return open_clip.create_model(arch).state_dict()


def sam_weights() -> dict[str, torch.Tensor]:
    """As in sam_vit_b_01ec64.pth, but for an image encoder cut down to one tensor."""
    prompts = PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    weights = {"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}
    weights |= {f"prompt_encoder.{name}": tensor for name, tensor in prompts.state_dict().items()}
    return weights | {f"mask_decoder.{name}": tensor for name, tensor in decoder.state_dict().items()}
