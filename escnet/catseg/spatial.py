"""Spatial aggregation: what a class costs at a place, settled among the places around, guided by what CLIP sees there.

CAT-Seg (Cho et al. 2024, arXiv:2303.11797, section 3.3): two Swin blocks (Liu et al. 2021, arXiv:2103.14030), the
second of them shifted by half a window, each over the correlation of one class. Queries and keys see CLIP's image
features beside it, values do not; there is no position bias. A linear layer over two things side by side is the sum of
two, so the image's share of queries and keys is computed once a picture, not once a class.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.catseg.config import CatSegConfig

FFN_RATIO = 4  # hidden width of a feed-forward network, in units of its input's


class SpatialAggregation(nn.Module):
    """Both blocks of a layer."""

    def __init__(self, config: CatSegConfig) -> None:
        super().__init__()
        shifts = (0, 0 if config.grid_hw[0] <= config.window_size else config.window_size // 2)
        self.guidance_norm = nn.LayerNorm(config.image_guidance_dim)
        self.blocks = nn.ModuleList(SwinBlock(config, shift) for shift in shifts)

    def guide(self, guidance: Tensor) -> list[Tensor]:
        """The image's share of queries and keys in each block, (B, h, w, 2d), of guidance (B, h, w, g)."""
        guidance = self.guidance_norm(guidance)
        return [block.guide(guidance) for block in self.blocks]

    def forward(self, hidden: Tensor, guides: list[Tensor]) -> Tensor:
        """(B, k, h, w, d) to the same, no class influencing another."""
        for block, guide in zip(self.blocks, guides, strict=True):
            hidden = block(hidden, guide)
        return hidden


class SwinBlock(nn.Module):
    """Attention within windows that begin `shift` patches down and right, and a feed-forward network."""

    def __init__(self, config: CatSegConfig, shift: int) -> None:
        super().__init__()
        d = config.hidden_dim
        self.shift, self.n_heads = shift, config.attention_heads
        self.window = min(config.grid_hw[0], config.window_size)
        self.norm = nn.LayerNorm(d)
        self.query = nn.Linear(d + config.image_guidance_dim, d)
        self.key = nn.Linear(d + config.image_guidance_dim, d)
        self.value = nn.Linear(d, d)
        self.project = nn.Linear(d, d)
        self.ffn_norm = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, FFN_RATIO * d), nn.GELU(), nn.Linear(FFN_RATIO * d, d))
        mask = seam_mask(config.grid_hw[0], self.window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def guide(self, guidance: Tensor) -> Tensor:
        """(B, h, w, g), normalised, to (B, h, w, 2d)."""
        d = self.value.in_features
        return F.linear(guidance, torch.cat([self.query.weight[:, d:], self.key.weight[:, d:]]))

    def forward(self, hidden: Tensor, guide: Tensor) -> Tensor:
        """(B, k, h, w, d) and the `guide` of the B pictures to (B, k, h, w, d)."""
        hidden = hidden + self.project(self._attend(self._queries_keys_values(self.norm(hidden), guide)))
        return hidden + self.ffn(self.ffn_norm(hidden))

    def _queries_keys_values(self, x: Tensor, guide: Tensor) -> Tensor:
        """(B, k, h, w, 3d)."""
        d = x.shape[-1]
        weight = torch.cat([self.query.weight[:, :d], self.key.weight[:, :d], self.value.weight])
        bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
        return F.linear(x, weight, bias) + F.pad(guide, (0, d)).unsqueeze(1)

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, k, h, w, 3d) to (B, k, h, w, d)."""
        (b, k, h, w, _), size = qkv.shape, self.window
        if self.shift:
            qkv = qkv.roll((-self.shift, -self.shift), dims=(2, 3))
        cut = qkv.view(b * k, h // size, size, w // size, size, 3, self.n_heads, -1)
        cut = cut.permute(5, 0, 6, 1, 3, 2, 4, 7)  # (3, B*k, heads, rows, columns, size, size, d / heads)
        cut = cut.reshape(3, b * k * self.n_heads, -1, size * size, cut.shape[-1])
        mixed = F.scaled_dot_product_attention(*cut.unbind(), attn_mask=self.mask)  # (B*k*heads, windows, area, ...)
        mixed = mixed.view(b * k, self.n_heads, h // size, w // size, size, size, -1)
        mixed = mixed.permute(0, 2, 4, 3, 5, 1, 6).reshape(b, k, h, w, -1)
        return mixed.roll((self.shift, self.shift), dims=(2, 3)) if self.shift else mixed


def seam_mask(side: int, window: int, shift: int) -> Tensor:
    """Which pairs of places in a window of the rolled grid were neighbours before: (windows, area, area) bool."""
    band = (torch.arange(side) >= side - window).long() + (torch.arange(side) >= side - shift).long()
    region = band[:, None] * 3 + band  # places with equal numbers are on the same side of the seams
    cut = region.view(side // window, window, side // window, window).transpose(1, 2).reshape(-1, window * window)
    return cut[:, :, None] == cut[:, None, :]
