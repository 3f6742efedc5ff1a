import pytest
import torch
from torch.nn import functional as F

from escnet.base_config import PyramidConfig
from escnet.checkpoint import load_checkpoint, save_checkpoint
from escnet.clip import build_clip, dense_features
from escnet.config import EscNetConfig
from escnet.network import EscNet
from escnet.pyramid import PyramidTower
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config

THREE_STAGES = PyramidConfig(stem=6, dims=(8, 12, 16), depths=(1, 2, 1), output_stage=1)


def make_tower(**changes) -> PyramidTower:
    """With statistics and residuals that are not those of a new one: there a block is its shortcut alone."""
    torch.manual_seed(0)
    tower = PyramidTower(PyramidConfig(**{**THREE_STAGES.model_dump(), **changes}), embed_dim=32)
    for name, tensor in tower.state_dict().items():
        if name.endswith(("weight", "running_var")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.2)
    return tower.eval()


@pytest.fixture(scope="module")
def tower():
    return make_tower()


def pixels(side=32, n=2):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def own_clip(**changes) -> EscNetConfig:
    """The tiny configuration with a convolutional image tower."""
    clip = {key: value for key, value in tiny_config().clip.items() if key != "vision_cfg"}
    return tiny_config(**{"clip": clip, "pyramid": THREE_STAGES, "tap_layers": (1, 0), **changes})


@torch.no_grad()
@pytest.mark.parametrize(("output_stage", "side"), [(0, 8), (1, 4), (2, 2)])
def test_patches_lie_on_the_grid_of_the_output_stage_and_taps_on_their_own(output_stage, side):
    patches, taps = make_tower(output_stage=output_stage)(pixels(), (2, 1, 0))
    assert patches.shape == (2, 32, side, side)
    assert [tuple(tap.shape) for tap in taps] == [(2, 16, 2, 2), (2, 12, 4, 4), (2, 8, 8, 8)]


@torch.no_grad()
def test_taps_are_the_outputs_of_the_stages(tower):
    outputs = {}
    hooks = [
        stage.register_forward_hook(lambda _, __, output, i=i: outputs.update({i: output}))
        for i, stage in enumerate(tower.stages)
    ]
    _, taps = tower(pixels(), (1, 0, 2))
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(tap, outputs[stage]) for tap, stage in zip(taps, (1, 0, 2), strict=True))


def batch_norm(x, norm):
    """With the statistics it keeps, over the channels of (B, C, h, w)."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return x * scale.view(1, -1, 1, 1) + (norm.bias - norm.running_mean * scale).view(1, -1, 1, 1)


def plain_block(x, block, stride):
    """ResNet's Fig. 2: two 3x3 convolutions, added to what came in, or to its projection where the grid changes."""
    inner = F.relu(batch_norm(F.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1))
    inner = batch_norm(F.conv2d(inner, block.conv2.weight, padding=1), block.bn2)
    if stride > 1:
        x = batch_norm(F.conv2d(x, block.downsample[0].weight, stride=stride), block.downsample[1])
    return F.relu(x + inner)


@torch.no_grad()
def test_a_tower_is_a_residual_network_and_the_way_back_to_its_output_stage(tower):
    """Against plain convolutions on contiguous tensors, so the order of channels in memory plays no part either."""
    conv, norm = tower.stem[0], tower.stem[1]
    x = F.relu(batch_norm(F.conv2d(pixels(), conv.weight, stride=2, padding=1), norm))
    outputs = []
    for blocks in tower.stages:
        for place, block in enumerate(blocks):
            x = plain_block(x, block, stride=1 if place else 2)
        outputs.append(x)
    (lateral,), (merge,) = tower.laterals, tower.merges
    back = F.interpolate(F.conv2d(x, lateral.weight, lateral.bias), size=(4, 4), mode="bilinear", align_corners=False)
    x = plain_block(outputs[1] + back, merge, stride=1)
    expected = F.conv2d(x, tower.proj.weight, tower.proj.bias)
    torch.testing.assert_close(tower(pixels(), (0, 1))[0], expected, rtol=1e-5, atol=1e-5)


def test_a_new_block_is_its_shortcut():
    torch.manual_seed(0)
    stage = PyramidTower(THREE_STAGES, embed_dim=32).eval().stages[1]
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(stage(x), F.relu(stage[0].downsample(x)))


@torch.no_grad()
def test_the_order_of_channels_in_memory_does_not_matter(tower):
    shown = pixels()
    found, (tap,) = tower(shown.contiguous(memory_format=torch.channels_last), (0,))
    expected, (expected_tap,) = tower(shown, (0,))
    assert torch.equal(found, expected)
    assert torch.equal(tap, expected_tap)


@torch.no_grad()
def test_in_training_a_picture_is_normalised_by_its_batch_and_else_by_itself(tower):
    first, both = pixels()[:1], pixels()
    assert torch.allclose(tower(both, ())[0][:1], tower(first, ())[0], atol=1e-5)
    learning = make_tower().train()
    assert not torch.allclose(learning(both, ())[0][:1], learning(first, ())[0], atol=1e-2)


@torch.no_grad()
def test_only_training_moves_the_statistics():
    tower = make_tower()
    before = {name: tensor.clone() for name, tensor in tower.named_buffers()}
    tower(pixels(), ())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.named_buffers())
    tower.train()(pixels(), ())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in tower.named_buffers())


def test_a_checkpoint_keeps_the_statistics(tmp_path):
    torch.manual_seed(0)
    network = EscNet(own_clip(n_blocks=1))
    with torch.no_grad():
        network.train().encode_image(pixels(64))
    save_checkpoint(network, tmp_path / "pyramid.safetensors", {})
    loaded = load_checkpoint(tmp_path / "pyramid.safetensors")
    assert loaded.config == network.config
    statistics = {name: tensor for name, tensor in network.state_dict().items() if "running" in name}
    assert len(statistics) == 2 * (1 + 4 * 2 + 3 + 2)  # of the stem, four blocks, three shortcuts and the merge
    found = loaded.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in statistics.items())
    with torch.no_grad():
        assert torch.equal(loaded.encode_patches(pixels(64)), network.eval().encode_patches(pixels(64)))


def test_a_network_has_the_tower_in_place_of_clips():
    torch.manual_seed(0)
    config = own_clip()
    clip = build_clip(config).eval()
    assert isinstance(clip.visual, PyramidTower)
    shown = pixels(config.image_size)
    patches, taps = dense_features(clip, shown, config)
    expected, expected_taps = clip.visual(shown, config.tap_layers)
    assert torch.equal(patches, expected)
    assert all(map(torch.equal, taps, expected_taps))
    assert [(tap.shape[1], config.image_size // tap.shape[2]) for tap in taps] == list(config.taps)
    assert config.grid_hw == tuple(patches.shape[-2:]) == (8, 8)


def test_taps_of_a_vision_transformer_have_its_width_and_patch():
    assert tiny_config().taps == ((48, 8), (48, 8))


@pytest.mark.parametrize("tap_layers", [(1, 1), (2, 2), (2, 0), (1, 0), (0, 0)])
def test_the_decoder_takes_taps_of_any_stride_that_is_not_finer_than_its_stage(tap_layers):
    torch.manual_seed(0)
    network = EscNet(own_clip(tap_layers=tap_layers)).eval()
    with torch.no_grad():
        logits = network(pixels(64, n=1), torch.randn(3, 32))
    assert logits.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"dims": (8, 12)}, "pyramid: dims (8, 12) and depths (1, 2, 1) must be equally many"),
        ({"depths": (1,)}, "pyramid: dims (8, 12, 16) and depths (1,) must be equally many"),
        ({"output_stage": 3}, "pyramid.output_stage 3 must lie in 0..2"),
        (
            {"output_stage": -1},
            "pyramid.output_stage: Input should be greater than or equal to 0, found -1",
        ),
        ({"dims": ()}, "pyramid.dims: Tuple should have at least 1 item after validation, not 0, found ()"),
        ({"depths": (1, 0, 1)}, "pyramid.depths.1: Input should be greater than or equal to 1, found 0"),
        ({"stem": 0}, "pyramid.stem: Input should be greater than or equal to 1, found 0"),
        ({"strides": 4}, "pyramid.strides: Extra inputs are not permitted, found 4"),
    ],
)
def test_stages_that_do_not_belong_together_are_refused_in_one_line(stages, message):
    with pytest.raises(ModelError) as caught:
        PyramidConfig(**{**THREE_STAGES.model_dump(), **stages})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pyramid": {**THREE_STAGES.model_dump(), "output_stage": 2}, "tap_layers": (0, 0)},
            r"tap_layers \(0, 0\) have strides \(4, 4\), expected multiples of 8 and 4, those of the decoder's stages",
        ),
        ({"tap_layers": (3, 0)}, r"tap_layers \(3, 0\) must lie in 0..2"),
        ({"image_size": 60}, "image_size 60 is not a multiple of CLIP's patch_size 8"),
        ({"clip": tiny_config().clip}, "found both vision_cfg and pyramid"),
    ],
)
def test_a_tower_that_does_not_fit_the_network_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        own_clip(**changes)
