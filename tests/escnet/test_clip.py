import subprocess
import sys

import open_clip
import pytest
import torch
from torch import nn

from escnet.clip import build_clip, build_tokenizer, dense_features, encode_text
from escnet.config import PRESET_NAMES, EscNetConfig, preset_config
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def build(**changes):
    torch.manual_seed(0)
    config = tiny_config(**changes)
    return build_clip(config).eval(), config


@torch.no_grad()
def test_full_attention_gives_open_clips_own_tokens(pixels):
    clip, config = build(dense_attention="full")
    clip.visual.output_tokens = True
    _, tokens = clip.visual(pixels)
    patches, _ = dense_features(clip, pixels, config)
    torch.testing.assert_close(patches.flatten(2).transpose(1, 2), tokens @ clip.visual.proj, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dense_attention", ["full", "value_only"])
def test_taps_are_the_outputs_of_open_clips_blocks(pixels, dense_attention):
    clip, config = build(dense_attention=dense_attention, tap_layers=(2, 0))
    _, taps = dense_features(clip, pixels, config)
    expected = clip.forward_intermediates(pixels, intermediates_only=True)["image_intermediates"]
    for tap, layer in zip(taps, config.tap_layers, strict=True):
        torch.testing.assert_close(tap, expected[layer], rtol=0, atol=1e-6)


@torch.no_grad()
def test_value_only_is_the_last_block_with_each_patch_seeing_itself_alone(pixels):
    clip, config = build()
    patches, _ = dense_features(clip, pixels, config)
    before_last = clip.forward_intermediates(pixels, intermediates_only=True)["image_intermediates"][-2]
    alone = before_last.permute(0, 2, 3, 1).reshape(-1, 1, before_last.shape[1])  # sequences of one token
    expected = clip.visual.ln_post(clip.visual.transformer.resblocks[-1](alone)) @ clip.visual.proj
    torch.testing.assert_close(patches.permute(0, 2, 3, 1).reshape(-1, 1, 32), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_value_only_and_full_attention_differ(pixels):
    whole, config = build(dense_attention="full")
    full, _ = dense_features(whole, pixels, config)
    value_only, _ = dense_features(whole, pixels, tiny_config())
    assert (full - value_only).abs().max() > 1e-3


def test_image_tower_is_built_for_the_networks_own_size():
    clip, _ = build(image_size=96)
    assert clip.visual.positional_embedding.shape == (1 + 12 * 12, 48)


@pytest.mark.parametrize(("quick_gelu", "activation"), [(True, open_clip.transformer.QuickGELU), (False, nn.GELU)])
def test_quick_gelu_is_respected_in_both_towers(quick_gelu, activation):
    clip, _ = build(clip=tiny_config().clip | {"quick_gelu": quick_gelu})
    towers = (clip.visual.transformer, clip.transformer)
    assert {type(block.mlp.gelu) for tower in towers for block in tower.resblocks} == {activation}


def test_tokenizer_gives_the_context_the_text_tower_expects():
    tokens = build_tokenizer(tiny_config())(["A photo of a dog in the scene", "cat"])
    assert tokens.shape == (2, 77)
    assert tokens[1].tolist()[:4] == [49406, 2368, 49407, 0]


PROMPTS = ["A photo of a dog in the scene", "cat", "a very big red triangle beside a small striped wall"]


def text_tower(name):
    """The text tower of a preset with random weights, beside an image tower that costs nothing."""
    config = preset_config(name)
    if config.pyramid is None:
        vision = {"layers": 2, "width": 64, "patch_size": config.patch_size}
        config = config.model_copy(update={"clip": {**config.clip, "vision_cfg": vision}})
    torch.manual_seed(0)
    return build_clip(config).eval(), config


@torch.no_grad()
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_text_without_padding_is_encoded_as_open_clip_does_with_it(name):
    clip, config = text_tower(name)
    tokens = build_tokenizer(config)(PROMPTS)
    lengths = []
    clip.transformer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    found = encode_text(clip, tokens)
    torch.testing.assert_close(found, clip.encode_text(tokens), rtol=1e-4, atol=1e-5)
    assert lengths == [12, config.clip["text_cfg"]["context_length"]]  # ten words, start and end


@torch.no_grad()
def test_a_text_is_the_same_whatever_stands_in_its_batch():
    clip, config = text_tower("escnet-nano")
    tokens = build_tokenizer(config)(PROMPTS)
    one_by_one = torch.cat([encode_text(clip, each[None]) for each in tokens])
    torch.testing.assert_close(encode_text(clip, tokens), one_by_one, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "other",
    [
        {"pool_type": "first"},
        {"pool_type": "last"},
        {"pool_type": "eos", "eos_id": 49407},
        {"no_causal_mask": True},
        {"proj_bias": True},
        {"proj_type": "none"},
    ],
    ids=lambda other: " ".join(map(str, other.values())),
)
def test_text_towers_of_another_kind_are_left_to_open_clip(other):
    whole = tiny_config().clip
    clip, config = build(clip=whole | {"text_cfg": whole["text_cfg"] | other})
    tokens = build_tokenizer(config)(PROMPTS)
    assert torch.equal(encode_text(clip, tokens), clip.encode_text(tokens))


@pytest.mark.parametrize("name", ["escnet-b16", "escnet-l14"])
def test_presets_hold_open_clips_own_configurations(name):
    config = preset_config(name)
    assert config.clip == open_clip.get_model_config(config.clip_arch)


def test_the_papers_presets_have_its_grid_and_its_four_blocks():
    configs = {name: preset_config(name) for name in PRESET_NAMES}
    assert {name for name, config in configs.items() if config.grid_hw != (24, 24)} == {"escnet-small"}
    blocks = {name: config.n_blocks for name, config in configs.items() if isinstance(config, EscNetConfig)}
    assert blocks == {"escnet-b16": 4, "escnet-l14": 4, "escnet-small": 3, "escnet-nano": 2}


def test_unknown_preset_names_those_that_exist():
    with pytest.raises(ModelError, match=r"escnet-huge.*escnet-b16, escnet-l14, escnet-small, escnet-nano"):
        preset_config("escnet-huge")


@pytest.mark.parametrize("arch", ["RN50", "ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32", "convnext_base"])
def test_other_towers_are_refused_by_name(arch):
    with pytest.raises(ModelError, match=f"{arch}: found .* expected open_clip's own VisionTransformer"):
        EscNetConfig(clip_arch=arch, clip=open_clip.get_model_config(arch), image_size=224, tap_layers=(0, 1))


@pytest.mark.parametrize(("changes", "message"), [
    ({"image_size": 100}, "image_size 100 is not a multiple of CLIP's patch_size 8; use 96"),
    ({"tap_layers": (1, 4)}, r"tap_layers \(1, 4\) must lie in 0..3"),
])  # fmt: skip
def test_geometry_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        tiny_config(**changes)


def test_presets_are_known_without_loading_torch():
    code = "import sys, escnet.config as c; c.preset_config('escnet-b16'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
