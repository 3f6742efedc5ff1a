"""A small convolutional image tower for networks trained from nothing: a residual network with a feature pyramid.

Residual blocks are those of ResNet (He et al. 2016, arXiv:1512.03385), torchvision's own; the way back from coarse to
fine grids is FPN's (Lin et al. 2017, arXiv:1612.03144). In short
trials it learnt patterns far sooner than ConvNeXt blocks with layer norm did (docs/escnet-nano.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock  # type: ignore[import-untyped]

from escnet.base_config import PyramidConfig


class PyramidTower(nn.Module):
    """Pictures to text-aligned features of every patch.

    Args:
        config: widths and depths of its stages.
        embed_dim: C, of the space shared with the text embeddings.
    """

    def __init__(self, config: PyramidConfig, embed_dim: int) -> None:
        super().__init__()
        self.output_stage = config.output_stage
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.stem, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(),
        )
        widths = (config.stem, *config.dims)
        self.stages = nn.ModuleList(
            _stage(widths[i], widths[i + 1], depth) for i, depth in enumerate(config.depths)
        )  # each halves the grid
        finer, coarser = config.dims[config.output_stage : -1], config.dims[config.output_stage + 1 :]
        self.laterals = nn.ModuleList(nn.Conv2d(c, f, kernel_size=1) for f, c in zip(finer, coarser, strict=True))
        self.merges = nn.ModuleList(BasicBlock(dim, dim) for dim in finer)
        self.proj = nn.Conv2d(config.dims[config.output_stage], embed_dim, kernel_size=1)

    def forward(self, pixels: Tensor, tap_layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, S, S) normalised to (B, C, h, w), and the outputs (B, width, S / stride, S / stride) of the stages
        `tap_layers`."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))  # a third of the time on CPUs
        outputs: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        for i in range(len(self.stages) - 2, self.output_stage - 1, -1):
            lateral, merge = self.laterals[i - self.output_stage], self.merges[i - self.output_stage]
            x = F.interpolate(lateral(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = merge(outputs[i] + x)
        return self.proj(x), [outputs[layer] for layer in tap_layers]


def _stage(in_dim: int, dim: int, depth: int) -> nn.Sequential:
    """`depth` residual blocks, the first of which halves the grid."""
    shortcut = nn.Sequential(nn.Conv2d(in_dim, dim, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(dim))
    blocks = [BasicBlock(in_dim, dim, stride=2, downsample=shortcut), *(BasicBlock(dim, dim) for _ in range(depth - 1))]
    for block in blocks:
        nn.init.zeros_(block.bn2.weight)  # a block begins as its shortcut
    return nn.Sequential(*blocks)
