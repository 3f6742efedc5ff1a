"""CLIP's two towers, with one text-aligned feature for every image patch.

CLIP is Radford et al. 2021 (arXiv:2103.00020), built by open_clip. CLIP itself gives one feature an image; dense
features come from letting the last attention block pass its values only, without mixing positions (MaskCLIP, Zhou
et al. 2022, arXiv:2112.01071). ESC-Net's paper does not say how it gets its dense features; this is our choice, and
`dense_attention="full"` keeps the block as it was. CAT-Seg (Cho et al. 2024, arXiv:2303.11797) passes values only as
well, but its code adds them to the class token instead of to the patch they come from, and its weights were trained so:
`value_on_class_token`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_config import ModelConfig
from escnet.pyramid import PyramidTower
from escnet.tokens import TokenTable

_NO_TOWER = {"layers": 1, "width": 64, "patch_size": 32}  # open_clip cannot be told to build none; it is replaced


def build_clip(config: ModelConfig) -> CLIP:
    """open_clip's module with random weights, its image tower built for `config.image_size`."""
    clip = dict(config.clip)
    vision = {**clip.pop("vision_cfg", _NO_TOWER), "image_size": config.image_size}
    text = dict(clip.pop("text_cfg"))
    table = None
    if config.trained_tokens is not None:
        whole = CLIPTextCfg(**text)  # with open_clip's defaults
        table = TokenTable(config.trained_tokens, whole.vocab_size, whole.width)
        text["vocab_size"] = table.num_embeddings
    built = CLIP(vision_cfg=CLIPVisionCfg(**vision), text_cfg=CLIPTextCfg(**text), output_dict=False, **clip)
    if config.pyramid is not None:
        built.visual = PyramidTower(config.pyramid, clip["embed_dim"])
    if table is not None:
        built.token_embedding = table
    return built


def build_tokenizer(config: ModelConfig) -> SimpleTokenizer:
    """CLIP's BPE tokeniser; called with N texts it gives (N, context_length) token ids."""
    return SimpleTokenizer(context_length=config.clip["text_cfg"].get("context_length", 77))


def encode_text(clip: CLIP, tokens: Tensor) -> Tensor:
    """Text embeddings as open_clip's own `encode_text`, without the padding: most prompts are a dozen tokens of 77.

    A causal text tower never looks ahead, so what stands after the last end of text changes nothing. Towers that are
    not CLIP's own in mask, pooling or projection go open_clip's way.

    Args:
        tokens: (N, context) token ids.

    Returns:
        (N, C), any norm.
    """
    is_clips_own = clip.text_pool_type == "argmax" and isinstance(clip.text_projection, nn.Parameter)
    if clip.attn_mask is None or not is_clips_own:
        return clip.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1  # the end of text has the highest id
    tokens = tokens[:, :length]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    return text_global_pool(x, tokens, "argmax") @ clip.text_projection


def dense_features(clip: CLIP, pixels: Tensor, config: ModelConfig) -> tuple[Tensor, list[Tensor]]:
    """Features of every patch.

    Args:
        clip: a network from `build_clip`.
        pixels: (B, 3, S, S) normalised with the configuration's mean and std.

    Returns:
        The patches (B, C, h, w) in the space of the text embeddings, any norm, and for each of `tap_layers` the
        output of that block, (B, width, S / stride, S / stride) with the width and stride of `config.taps`.
    """
    visual, grid_hw = clip.visual, config.grid_hw
    if config.pyramid is not None:
        patches, taps = visual(pixels, config.tap_layers)
        return patches, taps
    last = len(visual.transformer.resblocks) - 1
    source = last if config.dense_attention == "full" else last - 1
    wanted = sorted({*config.tap_layers, source})
    with _fused_attention():
        found = visual.forward_intermediates(
            pixels, indices=wanted, stop_early=True, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
        )
    outputs = dict(zip(wanted, found["image_intermediates"], strict=True))  # (B, h*w, width), without the class token
    tokens = outputs[source]
    if config.dense_attention == "value_only":
        tokens = _pass_values(visual.transformer.resblocks[last], tokens, onto=tokens)
    elif config.dense_attention == "value_on_class_token":
        class_token = found["image_intermediates_prefix"][wanted.index(source)]  # (B, 1, width)
        tokens = _pass_values(visual.transformer.resblocks[last], tokens, onto=class_token)
    taps = [_as_grid(outputs[layer], grid_hw) for layer in config.tap_layers]
    return _as_grid(_project(visual, tokens), grid_hw), taps


@contextmanager
def _fused_attention() -> Iterator[None]:
    """torch's attention without its "fast path", which is slower: that writes down the weights of all pairs."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def _pass_values(block: ResidualAttentionBlock, tokens: Tensor, onto: Tensor) -> Tensor:
    """The block with every position attending to itself alone, its value added to `onto`: (B, N, width), like it."""
    attention, width = block.attn, tokens.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]  # q and k stand before v
    values = attention.out_proj(F.linear(block.ln_1(tokens), weight, bias))
    tokens = onto + block.ls_1(values)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _project(visual: VisionTransformer, tokens: Tensor) -> Tensor:
    return visual.ln_post(tokens) @ visual.proj  # (B, N, width) -> (B, N, C)


def _as_grid(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(-1, grid_hw)  # (B, h*w, C) -> (B, C, h, w), a view
