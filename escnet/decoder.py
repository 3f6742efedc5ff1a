"""The decoder: from the hidden features of a class on the patch grid to one logit per pixel, four times finer.

ESC-Net (Lee et al. 2025, arXiv:2411.14723): U-Net like, bilinear x2 and 3x3 convolutions, skips from two earlier CLIP
blocks. Decided here, after CAT-Seg (Cho et al. 2024, arXiv:2303.11797): widths 64 and 32, a transposed convolution
that spreads a tapped patch over its pixels, guidance of 32 and 16 channels, group norm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_config import ModelConfig, norm_groups

_SPREAD = 8  # channels of a spread-out tap, in units of its guidance channels


class Guidance(nn.Module):
    """What a tapped CLIP block adds to a stage. It has no class, so it is computed once per picture."""

    def __init__(self, width: int, guidance_dim: int, stage_dim: int, scale: int) -> None:
        super().__init__()
        spread = _SPREAD * guidance_dim
        self.spread = nn.ConvTranspose2d(width, spread, kernel_size=scale, stride=scale)
        self.project = nn.Conv2d(spread, guidance_dim, kernel_size=3, padding=1)
        self.mix = nn.Conv2d(guidance_dim, stage_dim, kernel_size=3, padding=1, bias=False)

    def forward(self, tap: Tensor) -> Tensor:
        """(B, width, h, w) to (B, stage_dim, scale * h, scale * w)."""
        return self.mix(F.relu(self.project(self.spread(tap))))


class Stage(nn.Module):
    """Twice the size, then two 3x3 convolutions, the first of them over features and guidance.

    A convolution of a concatenation is the sum of two convolutions: `mix` here and `Guidance.mix` are its halves.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1)
        self.norm = nn.GroupNorm(norm_groups(out_dim), out_dim)
        self.refine = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1)
        self.refine_norm = nn.GroupNorm(norm_groups(out_dim), out_dim)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(B*k, in_dim, H, W) features and (B, out_dim, 2H, 2W) guidance to (B*k, out_dim, 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.mix(x)
        x.unflatten(0, (guidance.shape[0], -1)).add_(guidance.unsqueeze(1))  # (B, k, out_dim, 2H, 2W)
        x = F.relu(self.norm(x), inplace=True)
        return F.relu(self.refine_norm(self.refine(x)), inplace=True)


class Decoder(nn.Module):
    """Two stages and a 3x3 convolution to one logit."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        in_dims = (config.hidden_dim, *config.decoder_dims[:-1])
        self.guidance = nn.ModuleList(
            Guidance(width, guidance_dim, stage_dim, scale=2 ** (i + 1) * stride // config.patch_size)
            for i, ((width, stride), guidance_dim, stage_dim) in enumerate(
                zip(config.taps, config.guidance_dims, config.decoder_dims, strict=True)
            )
        )
        self.stages = nn.ModuleList(
            Stage(in_dim, out_dim) for in_dim, out_dim in zip(in_dims, config.decoder_dims, strict=True)
        )
        self.head = nn.Conv2d(config.decoder_dims[-1], 1, kernel_size=3, padding=1)

    def guide(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """The guidance of each stage from the taps (B, width, h, w), coarse stage first, channels last."""
        return [
            guidance(tap).contiguous(memory_format=torch.channels_last)
            for guidance, tap in zip(self.guidance, taps, strict=True)
        ]

    def forward(self, hidden: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        """Logits of k classes.

        Args:
            hidden: (B*k, d, h, w), the classes of an image together.
            guidance: from `guide`, B images.

        Returns:
            (B, k, 4h, 4w) float32, any range.
        """
        for stage, guide in zip(self.stages, guidance, strict=True):
            hidden = stage(hidden, guide)
        with torch.autocast(hidden.device.type, enabled=False):  # bfloat16 logits would tie where classes are near
            logits = self._logits(hidden.float())
        return logits.squeeze(1).unflatten(0, (guidance[0].shape[0], -1))

    def _logits(self, hidden: Tensor) -> Tensor:
        """What `head` gives, as nine products, shifted and summed: a convolution to a single channel is slow."""
        taps = self.head.weight[0].flatten(1).flip(1).T @ hidden.flatten(2)  # (B*k, 9, H * W)
        return F.fold(taps, hidden.shape[2:], kernel_size=3, padding=1) + self.head.bias
