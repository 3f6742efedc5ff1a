import pytest
import torch
from torch.nn import functional as F

from escnet.decoder import Decoder
from tests.escnet.tiny import tiny_config


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    decoder = Decoder(tiny_config()).eval()
    for stage in decoder.stages:
        torch.nn.init.normal_(stage.norm.weight, mean=1.0)
    return decoder


def taps():
    return [torch.randn(2, 48, 8, 8), torch.randn(2, 48, 8, 8)]


@torch.no_grad()
def test_stages_convolve_the_concatenation_of_features_and_skip(decoder):
    images, hidden = taps(), torch.randn(6, 8, 8, 8)  # three classes of two images
    found = decoder(hidden, decoder.guide(images))
    x = hidden
    for stage, guidance, tap in zip(decoder.stages, decoder.guidance, images, strict=True):
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        skip = guidance.project(guidance.spread(tap)).relu().repeat_interleave(3, dim=0)
        weight = torch.cat([stage.mix.weight, guidance.mix.weight], dim=1)
        x = F.conv2d(torch.cat([x, skip], dim=1), weight, stage.mix.bias, padding=1)
        x = stage.refine_norm(stage.refine(stage.norm(x).relu())).relu()
    expected = decoder.head(x).view(2, 3, 32, 32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_first_tap_guides_the_coarse_stage(decoder):
    coarse, fine = decoder.guide(taps())
    assert coarse.shape == (2, 8, 16, 16)
    assert fine.shape == (2, 4, 32, 32)


@torch.no_grad()
@pytest.mark.parametrize("changed", [0, 1])
def test_each_tap_reaches_the_logits_of_its_own_image_alone(decoder, changed):
    images, hidden = taps(), torch.randn(6, 8, 8, 8)
    before = decoder(hidden, decoder.guide(images))
    images[changed] = images[changed].clone()
    images[changed][1] += torch.randn(48, 8, 8)
    after = decoder(hidden, decoder.guide(images))
    assert torch.equal(before[0], after[0])
    assert ((before[1] - after[1]).abs().amax(dim=(1, 2)) > 1e-4).all()


@torch.no_grad()
def test_logits_are_float32_under_autocast(decoder):
    hidden, images = torch.randn(2, 8, 8, 8), taps()
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder(hidden, decoder.guide(images)).dtype == torch.float32
