import pytest
import torch
from torch.nn import functional as F

from escnet.clip import build_clip, dense_features
from escnet.config import ConvNextConfig, ModelConfig
from escnet.convnext import ConvNextTower
from escnet.network import EscNet
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config

THREE_STAGES = ConvNextConfig(dims=(8, 12, 16), depths=(1, 2, 1), strides=(2, 4, 8), kernel_size=3)


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return ConvNextTower(THREE_STAGES, embed_dim=32).eval()


def pixels(side=32, n=2):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def own_clip(**changes) -> ModelConfig:
    """The tiny configuration with a convolutional image tower."""
    clip = {key: value for key, value in tiny_config().clip.items() if key != "vision_cfg"}
    return tiny_config(**{"clip": clip, "convnext": THREE_STAGES, "tap_layers": (3, 0), **changes})


@torch.no_grad()
def test_patches_lie_on_the_last_stages_grid_and_taps_on_their_own(tower):
    patches, taps = tower(pixels(), (3, 2, 1, 0))
    assert patches.shape == (2, 32, 4, 4)
    assert [tuple(tap.shape) for tap in taps] == [(2, 16, 4, 4), (2, 12, 8, 8), (2, 12, 8, 8), (2, 8, 16, 16)]


@torch.no_grad()
def test_taps_are_the_outputs_of_the_blocks_over_all_stages(tower):
    blocks = [block for stage in tower.stages for block in stage]
    outputs = [None] * len(blocks)
    hooks = [
        block.register_forward_hook(lambda _, __, output, i=i: outputs.__setitem__(i, output))
        for i, block in enumerate(blocks)
    ]
    _, taps = tower(pixels(), (2, 0, 3))
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(tap, outputs[layer]) for tap, layer in zip(taps, (2, 0, 3), strict=True))


def layer_norm(x, norm):
    """Over the channels of (B, C, h, w)."""
    x = x - x.mean(dim=1, keepdim=True)
    x = x / (x.pow(2).mean(dim=1, keepdim=True) + norm.eps).sqrt()
    return x * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def plain_block(x, block):
    """The paper's Fig. 4: depthwise convolution, norm, two 1x1 convolutions with GELU between, scaled residual."""
    inner = F.conv2d(x, block.conv_dw.weight, block.conv_dw.bias, padding="same", groups=x.shape[1])
    inner = layer_norm(inner, block.norm)
    inner = F.gelu(F.conv2d(inner, block.mlp.fc1.weight[:, :, None, None], block.mlp.fc1.bias))
    inner = F.conv2d(inner, block.mlp.fc2.weight[:, :, None, None], block.mlp.fc2.bias)
    return x + inner * block.gamma.view(1, -1, 1, 1)


@torch.no_grad()
def test_a_tower_is_convnext_stages_a_norm_and_a_projection(tower):
    """Against plain convolutions on contiguous tensors, so the order of channels in memory plays no part either."""
    x = pixels()
    for i, (entry, blocks) in enumerate(zip(tower.entries, tower.stages, strict=True)):
        (conv,) = (layer for layer in entry if isinstance(layer, torch.nn.Conv2d))
        (norm,) = (layer for layer in entry if not isinstance(layer, torch.nn.Conv2d))
        x = x if i == 0 else layer_norm(x, norm)
        x = F.conv2d(x, conv.weight, conv.bias, stride=2)
        x = layer_norm(x, norm) if i == 0 else x
        for block in blocks:
            x = plain_block(x, block)
        x = x.contiguous()
    expected = F.conv2d(layer_norm(x, tower.norm), tower.proj.weight, tower.proj.bias)
    torch.testing.assert_close(tower(pixels(), (0, 1))[0], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_order_of_channels_in_memory_does_not_matter(tower):
    shown = pixels()
    found, (tap,) = tower(shown.contiguous(memory_format=torch.channels_last), (0,))
    expected, (expected_tap,) = tower(shown, (0,))
    assert torch.equal(found, expected)
    assert torch.equal(tap, expected_tap)


def test_a_network_has_the_tower_in_place_of_clips():
    torch.manual_seed(0)
    config = own_clip()
    clip = build_clip(config)
    assert isinstance(clip.visual, ConvNextTower)
    shown = pixels(config.image_size)
    patches, taps = dense_features(clip, shown, config)
    expected, expected_taps = clip.visual(shown, config.tap_layers)
    assert torch.equal(patches, expected)
    assert all(map(torch.equal, taps, expected_taps))
    assert [(tap.shape[1], config.image_size // tap.shape[2]) for tap in taps] == list(config.taps)
    assert config.grid_hw == tuple(patches.shape[-2:]) == (8, 8)


def test_taps_of_a_vision_transformer_have_its_width_and_patch():
    assert tiny_config().taps == ((48, 8), (48, 8))


@pytest.mark.parametrize("tap_layers", [(3, 3), (3, 1), (2, 1), (1, 0), (3, 0)])
def test_the_decoder_takes_taps_of_any_stride_that_is_not_finer_than_its_stage(tap_layers):
    torch.manual_seed(0)
    network = EscNet(own_clip(tap_layers=tap_layers))
    with torch.no_grad():
        logits = network(pixels(64, n=1), torch.randn(3, 32))
    assert logits.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"dims": (8, 12)}, "dims (8, 12), depths (1, 2, 1) and strides (2, 4, 8) must be equally many"),
        ({"depths": (1,)}, "dims (8, 12, 16), depths (1,) and strides (2, 4, 8) must be equally many"),
        ({"strides": (2, 4, 6)}, "strides (2, 4, 6) must each be a multiple of the one before"),
        ({"kernel_size": 4}, "kernel_size 4 must be odd"),
        ({"dims": ()}, "dims: Tuple should have at least 1 item after validation, not 0, found ()"),
        ({"depths": (1, 0, 1)}, "depths.1: Input should be greater than or equal to 1, found 0"),
        ({"stem": 4}, "stem: Extra inputs are not permitted, found 4"),
    ],
)
def test_stages_that_do_not_belong_together_are_refused_in_one_line(stages, message):
    with pytest.raises(ModelError) as caught:
        ConvNextConfig(**{**THREE_STAGES.model_dump(), **stages})
    assert str(caught.value).replace("convnext: ", "convnext.") == f"convnext.{message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tap_layers": (0, 0)}, r"strides \(2, 2\), expected multiples of 4 and 2, those of the decoder's stages"),
        ({"tap_layers": (3, 4)}, r"tap_layers \(3, 4\) must lie in 0..3"),
        ({"image_size": 60}, "image_size 60 is not a multiple of CLIP's patch_size 8"),
        ({"clip": tiny_config().clip}, "found both vision_cfg and convnext"),
    ],
)
def test_a_tower_that_does_not_fit_the_network_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        own_clip(**changes)
