"""A network of real modules, small enough that a forward pass takes milliseconds."""

from typing import Any

import torch
from torch import nn

from escnet.config import EscNetConfig, SamConfig
from escnet.network import EscNet


def tiny_config(**changes: Any) -> EscNetConfig:
    """64 px, an 8 x 8 grid, CLIP width 48 and C = 32."""
    clip = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 48, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    values: dict[str, Any] = {
        "clip_arch": None,
        "clip": clip,
        "image_size": 64,
        "tap_layers": (0, 2),
        "sam": SamConfig(embed_dim=16, mask_in_chans=4, num_heads=2, mlp_dim=32),
        "hidden_dim": 8,
        "attention_heads": 2,
        "window_size": 4,
        "decoder_dims": (8, 4),
        "guidance_dims": (4, 4),
    }
    return EscNetConfig(**(values | changes))


def tiny_network(seed: int = 0, **changes: Any) -> EscNet:
    """A tiny network whose blocks already change the correlation, which they do not when new."""
    torch.manual_seed(seed)
    network = EscNet(tiny_config(**changes)).eval()
    for block in network.blocks[:-1]:
        nn.init.normal_(block.to_correlation.weight, std=0.05)
    return network
