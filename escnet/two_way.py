"""SAM's two-way attention for a handful of prompts and hundreds of patches: the same result for less work.

Segment Anything (Kirillov et al. 2023, arXiv:2304.02643), whose `TwoWayAttentionBlock` projects every patch to keys,
queries and values, for every class. A product of matrices can be taken in any order, though, so here the few prompts
carry the projections: with keys W k and a query q, q . (W k) = (W^T q) . k, and a sum of projected values is the
projected sum. A bias of the keys adds the same to all scores of a query, which a softmax does not see. The parameters
are those of segment-anything's own modules; training goes this way too.
"""

import torch
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor
from torch.nn import functional as F


def two_way_layer(
    layer: TwoWayAttentionBlock, tokens: Tensor, image: Tensor, token_pe: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """What `layer` does to prompts and image.

    Args:
        tokens: (M, T, E) prompts.
        image: (M, n, E) patches.
        token_pe: (M, T, E), added to prompts where they ask or are asked.
        position: (n, E), likewise for the patches.

    Returns:
        Tokens (M, T, E) and image (M, n, E).
    """
    if layer.skip_first_layer_pe:
        tokens = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    else:
        placed = tokens + token_pe
        tokens = layer.norm1(tokens + layer.self_attn(q=placed, k=placed, v=tokens))
    image_placed = image + position
    gathered = _tokens_from_image(layer.cross_attn_token_to_image, tokens + token_pe, image_placed, image)
    tokens = layer.norm2(tokens + gathered)
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    spread = _image_from_tokens(layer.cross_attn_image_to_token, image_placed, tokens + token_pe, tokens)
    return tokens, layer.norm4(image + spread)


def _tokens_from_image(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of (M, T, E) prompts to (M, n, E) patches: (M, T, E)."""
    m, n_heads = len(queries), attention.num_heads
    probes = _through_heads(attention.q_proj(queries), attention.k_proj.weight, n_heads)  # (M, heads * T, E)
    weights = (_scaled(probes, attention) @ keys.transpose(1, 2)).softmax(dim=-1)  # (M, heads * T, n)
    sums = (weights @ values).unflatten(1, (n_heads, -1)).transpose(0, 1).flatten(1, 2)  # (heads, M * T, E)
    value_weights = attention.v_proj.weight.unflatten(0, (n_heads, -1)).transpose(1, 2)  # (heads, E, c)
    heads = torch.bmm(sums, value_weights).transpose(0, 1).flatten(1) + attention.v_proj.bias  # (M * T, heads * c)
    return attention.out_proj(heads).unflatten(0, (m, -1))


def _image_from_tokens(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of (M, n, E) patches to (M, T, E) prompts: (M, n, E)."""
    n_heads = attention.num_heads
    keys = F.linear(keys, attention.k_proj.weight)  # (M, T, heads * c)
    probes = _through_heads(keys, attention.q_proj.weight, n_heads)  # (M, heads * T, E)
    offsets = (keys * attention.q_proj.bias).unflatten(-1, (n_heads, -1)).sum(dim=-1)  # (M, T, heads)
    offsets = offsets.transpose(1, 2).flatten(1).unsqueeze(-1)  # (M, heads * T, 1)
    scores = torch.baddbmm(_scaled(offsets, attention), _scaled(probes, attention), queries.transpose(1, 2))
    # Prompts before patches: a softmax along so short a last axis would take twenty times as long on a CPU.
    weights = scores.unflatten(1, (n_heads, -1)).softmax(dim=2).flatten(1, 2)  # (M, heads * T, n)
    answers = _through_heads(attention.v_proj(values), attention.out_proj.weight.T, n_heads)  # (M, heads * T, E)
    answers = answers + attention.out_proj.bias / n_heads  # the weights of each head add up to one
    return weights.transpose(1, 2) @ answers


def _through_heads(projected: Tensor, weight: Tensor, n_heads: int) -> Tensor:
    """Each head's share of (M, T, heads * c) through its rows of (heads * c, E): (M, heads * T, E)."""
    m = len(projected)
    heads = projected.flatten(0, 1).unflatten(-1, (n_heads, -1)).transpose(0, 1)  # (heads, M * T, c)
    out = torch.bmm(heads, weight.unflatten(0, (n_heads, -1)))  # (heads, M * T, E)
    return out.unflatten(1, (m, -1)).transpose(0, 1).flatten(1, 2)


def _scaled(scores: Tensor, attention: Attention) -> Tensor:
    return scores * (attention.internal_dim // attention.num_heads) ** -0.5
