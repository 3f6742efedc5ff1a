"""The network's logits the plain way, module by module as their libraries and the paper have them; for comparison.

Nothing is shared between the classes of a picture, nothing is reassociated or put into another order.
"""

import torch
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor
from torch.nn import functional as F

from escnet.clip import dense_features
from escnet.network import EscNet
from escnet.prompts import make_prompts


def plain_logits(network: EscNet, pixels: Tensor, embeddings: Tensor) -> Tensor:
    """(B, 3, S, S) and (K, C) to (B, K, 4h, 4w)."""
    patches, taps = dense_features(network.clip, pixels, network.config)
    embeddings = F.normalize(embeddings, dim=-1)
    correlation = torch.einsum("bchw,kc->bkhw", F.normalize(patches, dim=1), embeddings)
    for block in network.blocks:
        seen = torch.stack([plain_sam(network, block, *each) for each in zip(patches, correlation, strict=True)])
        seen = block.fuse(seen)  # (B, K, h, w, E)
        if network.config.fusion == "mean":
            seen = seen.mean(dim=1, keepdim=True).expand_as(seen)
        attended = plain_vision(block.vlf.vision, correlation.unsqueeze(-1), seen)
        hidden = plain_language(block.vlf.language, attended, embeddings)
        if block is not network.blocks[-1]:
            correlation = correlation + block.to_correlation(hidden).squeeze(-1)
    return torch.stack(
        [plain_decoder(network.decoder, *each) for each in zip(hidden, zip(*taps, strict=True), strict=True)]
    )


def plain_sam(network, block, patches: Tensor, correlation: Tensor) -> Tensor:
    """(C, h, w) and (K, h, w) to (K, h, w, E): segment-anything's encoder and transformer, called as they are."""
    config, encoder, sam = network.config, network.prompt_encoder, block.sam
    prompts = make_prompts(
        correlation,
        stride_px=config.patch_size,
        n_objects=config.n_objects,
        threshold=config.prompt_threshold,
        iterations=config.kmeans_iterations,
    )
    sparse, dense = encoder(points=(prompts.points, prompts.labels), boxes=None, masks=prompts.masks)
    no_mask = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    dense = torch.where(prompts.is_empty.view(-1, 1, 1, 1), no_mask, dense)
    tokens = torch.cat([sam.iou_token.weight, sam.mask_tokens.weight]).expand(len(sparse), -1, -1)
    image = sam.image_projection(patches.unsqueeze(0)) + dense
    _, image = sam.transformer(image, encoder.get_dense_pe(), torch.cat([tokens, sparse], dim=1))
    return image.unflatten(1, correlation.shape[1:])


def plain_vision(vision, correlation: Tensor, features: Tensor) -> Tensor:
    """(B, K, h, w, 1) and (B, K, h, w, E) to (B, K, h, w, d): windows cut with timm's own functions."""
    x = vision.norm(torch.cat([vision.embed(correlation), features], dim=-1)).flatten(0, 1)
    (wh, ww), (h, w) = vision.windows.window_hw, x.shape[1:3]
    padding = (0, 0, 0, -w % ww, 0, -h % wh)
    windows = window_partition(F.pad(x, padding), (wh, ww)).flatten(1, 2)
    is_padding = window_partition(F.pad(torch.zeros(1, h, w, 1), padding, value=1.0), (wh, ww)).flatten(1)
    mask = torch.zeros(len(is_padding), wh * ww, wh * ww).masked_fill(is_padding.unsqueeze(1) > 0, -torch.inf)
    attended = vision.attention(windows, mask=mask).unflatten(1, (wh, ww))
    attended = window_reverse(attended, (wh, ww), h + padding[5], w + padding[3])[:, :h, :w]
    return vision.ffn(x + attended).view(*correlation.shape[:-1], -1)


def plain_language(language, x: Tensor, embeddings: Tensor) -> Tensor:
    """(B, K, h, w, d) to the same: the quadratic form of linear attention."""
    x, text = language.norm(x), language.text_norm(embeddings)
    heads = (language.n_heads, -1)
    queries, keys, values = (
        linear(each).unflatten(-1, heads)
        for linear, each in ((language.query, x), (language.key, text), (language.value, text))
    )
    weights = torch.einsum("...hc,nhc->...hn", F.elu(queries) + 1, F.elu(keys) + 1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    x = x + language.project(torch.einsum("...hn,nhc->...hc", weights, values).flatten(-2))
    return x + language.ffn(x)


def plain_decoder(decoder, hidden: Tensor, taps: tuple[Tensor, ...]) -> Tensor:
    """(K, h, w, d) and taps (width, h, w) to (K, 4h, 4w): features and skip concatenated, then convolved."""
    x = hidden.permute(0, 3, 1, 2)
    for stage, guidance, tap in zip(decoder.stages, decoder.guidance, taps, strict=True):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        skip = guidance.project(guidance.spread(tap.unsqueeze(0))).relu().expand(len(x), -1, -1, -1)
        weight = torch.cat([stage.mix.weight, guidance.mix.weight], dim=1)
        x = F.conv2d(torch.cat([x, skip], dim=1), weight, stage.mix.bias, padding=1)
        x = stage.refine_norm(stage.refine(stage.norm(x).relu())).relu()
    return decoder.head(x).squeeze(1)
