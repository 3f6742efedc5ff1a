"""Class aggregation: what the classes cost at one place, settled among the classes, guided by their words.

CAT-Seg (Cho et al. 2024, arXiv:2303.11797, section 3.3), with linear attention (Katharopoulos et al. 2020,
arXiv:2006.16236, elu + 1) in which every class sees all others of its place. Two things make it exact in parts. The
classes come into it by two sums alone, so these are summed up over all parts before they are applied to any. And a
vocabulary shorter than `max_classes` is filled up with copies of one learnt padding class, which is the same at every
place: its share of the sums is that of one copy, times their number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.catseg.config import CatSegConfig
from escnet.catseg.spatial import FFN_RATIO

_EPSILON = 1e-6


class ClassGuide(NamedTuple):
    """The words' share of queries and keys: each (K, d), or (B, n, d) for other classes in each picture."""

    query: Tensor
    key: Tensor

    def choose(self, classes: Tensor) -> "ClassGuide":
        """Of the places (B, n) in the vocabulary."""
        return ClassGuide(self.query[classes], self.key[classes])

    def split(self, sizes: Sequence[int]) -> "list[ClassGuide]":
        """Parts of so many classes."""
        return [ClassGuide(*part) for part in zip(*(share.split(sizes, dim=-2) for share in self), strict=True)]


class _Sums(NamedTuple):
    """key_values (B, h, w, heads, d/heads, d/heads) and keys (B, h, w, heads, d/heads), over classes."""

    key_values: Tensor
    keys: Tensor


class ClassAggregation(nn.Module):
    """One layer of attention over classes."""

    def __init__(self, config: CatSegConfig) -> None:
        super().__init__()
        d, g = config.hidden_dim, config.text_guidance_dim
        self.n_heads, self.max_classes = config.attention_heads, config.max_classes
        self.training_pooling = config.training_pooling
        self.norm = nn.LayerNorm(d)
        self.query = nn.Linear(d + g, d)
        self.key = nn.Linear(d + g, d)
        self.value = nn.Linear(d, d)
        self.ffn_norm = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, FFN_RATIO * d), nn.ReLU(), nn.Linear(FFN_RATIO * d, d))
        self.padding = nn.Parameter(torch.zeros(d))
        self.padding_guidance = nn.Parameter(torch.zeros(g))

    def guide(self, guidance: Tensor) -> ClassGuide:
        """Of text guidance (K, g)."""
        d = self.value.in_features
        return ClassGuide(F.linear(guidance, self.query.weight[:, d:]), F.linear(guidance, self.key.weight[:, d:]))

    def forward(self, parts: list[Tensor], guide: ClassGuide) -> list[Tensor]:
        """All classes in parts, each (B, k, h, w, d), to the same; `parts` is emptied on the way to spare memory."""
        guides = guide.split([part.shape[1] for part in parts])
        sums = self._sum(parts, guides)
        return [self._attend(parts.pop(0), each.query, sums) for each in guides]

    def _sum(self, parts: Sequence[Tensor], guides: Sequence[ClassGuide]) -> _Sums:
        """Over all classes, the padding too, divided by how many they are: half precision may not hold the sums."""
        n_classes = sum(part.shape[1] for part in parts)
        n_all = max(n_classes, self.max_classes)
        guide = F.linear(self.padding_guidance, self.key.weight[:, self.value.in_features :])
        padding = self.padding.clone().view(1, 1, 1, 1, -1)  # PyTorch's counters choke on a view of a parameter
        sums = self._sum_part(padding, guide, scale=(n_all - n_classes) / n_all)
        for part, each in zip(parts, guides, strict=True):
            of_part = self._sum_part(self._pool(part), each.key, scale=1 / n_all)
            sums = _Sums(sums.key_values + of_part.key_values, sums.keys + of_part.keys)
        return sums

    def _sum_part(self, x: Tensor, guide: Tensor, scale: float) -> _Sums:
        """Of classes (B, k, h, w, d) and their share of the keys, (k, d) or (B, k, d)."""
        x = self.norm(x)
        keys = self._heads(self._linear(self.key, x) + guide[..., None, None, :])
        values = self._heads(self.value(x))
        with torch.autocast(x.device.type, enabled=False):
            keys = (F.elu(keys.float()) + 1) * scale
            return _Sums(torch.einsum("bkyxhi,bkyxhj->byxhij", keys, values.float()), keys.sum(dim=1))

    def _attend(self, hidden: Tensor, guide: Tensor, sums: _Sums) -> Tensor:
        """(B, k, h, w, d) and the words' share of the queries to (B, k, h, w, d)."""
        x = self._pool(hidden)
        queries = self._heads(self._linear(self.query, self.norm(x)) + guide[..., None, None, :])
        with torch.autocast(x.device.type, enabled=False):
            queries = F.elu(queries.float()) + 1
            total = torch.einsum("bkyxhi,byxhi->bkyxh", queries, sums.keys) + _EPSILON
            attended = torch.einsum("bkyxhi,byxhij->bkyxhj", queries, sums.key_values) / total.unsqueeze(-1)
        x = x + attended.flatten(-2)
        x = x + self.ffn(self.ffn_norm(x))
        return hidden + self._spread(x, hidden.shape[2:4])

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """The layer without the words' share of its input."""
        return F.linear(x, layer.weight[:, : x.shape[-1]], layer.bias)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1))

    def _pool(self, x: Tensor) -> Tensor:
        """In training, places of a square share one class attention: (B, k, h, w, d) to (B, k, h / p, w / p, d)."""
        if not self.training or self.training_pooling == 1:
            return x
        pooled = F.avg_pool2d(x.flatten(0, 1).movedim(-1, 1), self.training_pooling)
        return pooled.movedim(1, -1).unflatten(0, x.shape[:2])

    def _spread(self, x: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Back from `_pool`, bilinearly."""
        if x.shape[2:4] == size_hw:
            return x
        spread = F.interpolate(x.flatten(0, 1).movedim(-1, 1), size_hw, mode="bilinear", align_corners=True)
        return spread.movedim(1, -1).unflatten(0, x.shape[:2])
