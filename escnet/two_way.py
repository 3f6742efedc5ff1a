"""SAM's two-way attention for a handful of prompts and hundreds of patches: the same result for less work.

Segment Anything (Kirillov et al. 2023, arXiv:2304.02643), whose `TwoWayAttentionBlock` projects every patch to keys,
queries and values, for every class. A product of matrices can be taken in any order, though, so here the few prompts
carry the projections: with keys W k and a query q, q . (W k) = (W^T q) . k, and a sum of projected values is the
projected sum. A bias of the keys adds the same to all scores of a query, which a softmax does not see. The parameters
are those of segment-anything's own modules; training goes this way too.
"""

from functools import cached_property

import torch
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor
from torch.nn import functional as F


class OwnPatches:
    """Patches as a layer leaves them: every class has its own.

    Args:
        patches: (M, n, E).
        position: (n, E), added to the patches where they ask or are asked.
    """

    def __init__(self, patches: Tensor, position: Tensor) -> None:
        self.patches, self.position = patches, position

    @cached_property
    def placed(self) -> Tensor:
        """Patches at their places, (M, E, n)."""
        return (self.patches + self.position).transpose(1, 2)

    def score(self, probes: Tensor, offsets: Tensor) -> Tensor:
        """(M, N, E) to their products with every patch, (M, N, n), plus (M, N, 1)."""
        return torch.baddbmm(offsets, probes, self.placed)

    def gather(self, weights: Tensor) -> Tensor:
        """(M, N, n) to sums of patches, (M, N, E)."""
        return weights @ self.patches

    def add(self, weights: Tensor, answers: Tensor) -> Tensor:
        """The patches and, for each of (M, N, n) weights, as much of its answer, (M, N, E)."""
        return self.patches + weights.mT @ answers

    def whole(self) -> Tensor:
        """(M, n, E)."""
        return self.patches


class SharedPatches:
    """The same before the first layer: patches of a picture, shared by its k classes, and the mask of each class.

    Products with the picture are taken for all classes at once, and those with a mask in its few coordinates.

    Args:
        picture: (B, n, E).
        position: (n, E).
        dense: (B*k, n, R) coordinates of what is added to the picture.
        basis: (R, E).
    """

    def __init__(self, picture: Tensor, position: Tensor, dense: Tensor, basis: Tensor) -> None:
        self.picture, self.dense, self.basis = picture, dense, basis
        self.placed = (picture + position).transpose(1, 2)  # (B, E, n)

    def score(self, probes: Tensor, offsets: Tensor) -> Tensor:
        """As `OwnPatches.score`."""
        b = len(self.picture)
        of_picture = torch.baddbmm(_batched(offsets, b), _batched(probes, b), self.placed)  # (B, k * N, n)
        return torch.baddbmm(of_picture.view(*probes.shape[:2], -1), probes @ self.basis.T, self.dense.mT)

    def gather(self, weights: Tensor) -> Tensor:
        """As `OwnPatches.gather`."""
        of_picture = _batched(weights, len(self.picture)) @ self.picture  # (B, k * N, E)
        return of_picture.view(len(weights), -1, of_picture.shape[-1]) + (weights @ self.dense) @ self.basis

    def add(self, weights: Tensor, answers: Tensor) -> Tensor:
        """As `OwnPatches.add`."""
        return self.whole().add_(weights.mT @ answers)

    def whole(self) -> Tensor:
        """(B*k, n, E), for each class a copy."""
        n_classes = len(self.dense) // len(self.picture)
        pictures = self.picture.float().unsqueeze(1).expand(-1, n_classes, -1, -1).flatten(0, 1)
        with torch.autocast(pictures.device.type, enabled=False):
            return torch.baddbmm(pictures, self.dense, self.basis.expand(len(self.dense), -1, -1))


def two_way_layer(
    layer: TwoWayAttentionBlock, tokens: Tensor, patches: OwnPatches | SharedPatches, token_pe: Tensor
) -> tuple[Tensor, Tensor]:
    """What `layer` does to prompts and patches.

    Args:
        tokens: (M, T, E) prompts.
        token_pe: (M, T, E), added to prompts where they ask or are asked.

    Returns:
        Tokens (M, T, E) and patches (M, n, E).
    """
    if layer.skip_first_layer_pe:
        tokens = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    else:
        placed = tokens + token_pe
        tokens = layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))
    tokens = layer.norm2(tokens + _tokens_from_patches(layer.cross_attn_token_to_image, tokens + token_pe, patches))
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    return tokens, layer.norm4(_add_tokens(layer.cross_attn_image_to_token, patches, tokens + token_pe, tokens))


def _tokens_from_patches(attention: Attention, queries: Tensor, patches: OwnPatches | SharedPatches) -> Tensor:
    """Attention of (M, T, E) prompts to patches: (M, T, E)."""
    m, n_heads = len(queries), attention.num_heads
    probes = _through_heads(attention.q_proj(queries), attention.k_proj.weight, n_heads)  # (M, heads * T, E)
    weights = patches.score(_scaled(probes, attention), probes.new_zeros(m, probes.shape[1], 1)).softmax(
        dim=-1
    )  # (M, heads * T, n)
    sums = patches.gather(weights).unflatten(1, (n_heads, -1)).transpose(0, 1).flatten(1, 2)  # (heads, M * T, E)
    value_weights = attention.v_proj.weight.unflatten(0, (n_heads, -1)).transpose(1, 2)  # (heads, E, c)
    heads = torch.bmm(sums, value_weights).transpose(0, 1).flatten(1) + attention.v_proj.bias  # (M * T, heads * c)
    return attention.out_proj(heads).unflatten(0, (m, -1))


def _add_tokens(attention: Attention, patches: OwnPatches | SharedPatches, keys: Tensor, values: Tensor) -> Tensor:
    """Patches and what attention to (M, T, E) prompts gives them: (M, n, E)."""
    n_heads = attention.num_heads
    keys = F.linear(keys, attention.k_proj.weight)  # (M, T, heads * c)
    probes = _through_heads(keys, attention.q_proj.weight, n_heads)  # (M, heads * T, E)
    offsets = (keys * attention.q_proj.bias).unflatten(-1, (n_heads, -1)).sum(dim=-1)  # (M, T, heads)
    offsets = offsets.transpose(1, 2).flatten(1).unsqueeze(-1)  # (M, heads * T, 1)
    scores = patches.score(_scaled(probes, attention), _scaled(offsets, attention))
    # Prompts before patches: a softmax along so short a last axis would take twenty times as long on a CPU.
    weights = scores.unflatten(1, (n_heads, -1)).softmax(dim=2).flatten(1, 2)  # (M, heads * T, n)
    answers = _through_heads(attention.v_proj(values), attention.out_proj.weight.T, n_heads)  # (M, heads * T, E)
    answers = answers + attention.out_proj.bias / n_heads  # the weights of each head add up to one
    return patches.add(weights, answers)


def _batched(rows: Tensor, n_pictures: int) -> Tensor:
    """(B*k, N, C), the classes of a picture together, to (B, k * N, C)."""
    return rows.reshape(n_pictures, -1, rows.shape[-1])


def _through_heads(projected: Tensor, weight: Tensor, n_heads: int) -> Tensor:
    """Each head's share of (M, T, heads * c) through its rows of (heads * c, E): (M, heads * T, E)."""
    m = len(projected)
    heads = projected.flatten(0, 1).unflatten(-1, (n_heads, -1)).transpose(0, 1)  # (heads, M * T, c)
    out = torch.bmm(heads, weight.unflatten(0, (n_heads, -1)))  # (heads, M * T, E)
    return out.unflatten(1, (m, -1)).transpose(0, 1).flatten(1, 2)


def _scaled(scores: Tensor, attention: Attention) -> Tensor:
    return scores * (attention.internal_dim // attention.num_heads) ** -0.5
