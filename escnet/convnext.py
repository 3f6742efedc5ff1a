"""A small convolutional image tower, dense from the start, for networks trained from nothing.

ConvNeXt (Liu et al. 2022, arXiv:2201.03545), of timm's blocks; SED (Xie et al. 2024, arXiv:2311.15537) showed that a
ConvNeXt in CLIP's place suits dense prediction. Difference: the last stage keeps a stride of 8, so that small
networks see shapes on a fine grid, and there is no pooling at the end.
"""

from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from escnet.config import ConvNextConfig


class ConvNextTower(nn.Module):
    """Pictures to text-aligned features of every patch.

    Args:
        config: widths, depths and strides of its stages.
        embed_dim: C, of the space shared with the text embeddings.
    """

    def __init__(self, config: ConvNextConfig, embed_dim: int) -> None:
        super().__init__()
        dims, strides = (3, *config.dims), (1, *config.strides)
        self.entries = nn.ModuleList(
            _entry(dims[i], dims[i + 1], strides[i + 1] // strides[i], first=i == 0) for i in range(len(config.dims))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(ConvNeXtBlock(dim, dim, kernel_size=config.kernel_size, ls_init_value=0.1) for _ in range(n))
            for dim, n in zip(config.dims, config.depths, strict=True)
        )
        self.norm = LayerNorm2d(config.dims[-1])
        self.proj = nn.Conv2d(config.dims[-1], embed_dim, kernel_size=1)

    def forward(self, pixels: Tensor, tap_layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, S, S) normalised to (B, C, h, w), and the output (B, width, S / stride, S / stride) of each of the
        blocks `tap_layers`, counted over all stages."""
        x = pixels.contiguous(memory_format=torch.channels_last)  # the blocks' linear layers want channels last
        outputs: list[Tensor] = []
        for entry, blocks in zip(self.entries, self.stages, strict=True):
            x = entry(x)
            for block in blocks:
                x = block(x)
                outputs.append(x)
        return self.proj(self.norm(x)), [outputs[layer] for layer in tap_layers]


def _entry(in_dim: int, out_dim: int, stride: int, *, first: bool) -> nn.Sequential:
    """Down to a stage's resolution and up to its width; the norm stands where ConvNeXt has it."""
    conv = nn.Conv2d(in_dim, out_dim, kernel_size=stride, stride=stride)
    return nn.Sequential(conv, LayerNorm2d(out_dim)) if first else nn.Sequential(LayerNorm2d(in_dim), conv)
