import pytest
import torch

from escnet.block import EscBlock, mean_over_classes
from escnet.sam import build_prompt_encoder
from tests.escnet.tiny import tiny_config


@pytest.fixture
def block():
    torch.manual_seed(0)
    return EscBlock(tiny_config(), is_last=False).eval()


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return build_prompt_encoder(tiny_config())


def inputs(n_images=2, n_classes=3):
    generator = torch.Generator().manual_seed(2)
    correlation = torch.randn(n_images, n_classes, 8, 8, generator=generator)
    return correlation, torch.randn(n_images, 64, 16, generator=generator)


@torch.no_grad()
def test_new_block_leaves_the_correlation_as_it_came(block):
    correlation, _ = inputs()
    assert torch.equal(block.next_correlation(correlation, torch.randn(2, 3, 64, 8)), correlation)


@torch.no_grad()
def test_trained_block_adds_one_linear_combination_of_its_hidden_features(block):
    correlation, _ = inputs()
    hidden = torch.randn(2, 3, 64, 8)
    block.to_correlation.weight.normal_()
    block.to_correlation.bias.fill_(0.5)
    expected = correlation + 0.5
    expected += block.windows.to_grid((hidden * block.to_correlation.weight[0]).sum(dim=-1))
    torch.testing.assert_close(block.next_correlation(correlation, hidden), expected)


@torch.no_grad()
def test_each_class_of_each_image_is_segmented_with_its_own_prompts(block, encoder):
    correlation, image = inputs()
    together = block.segment(correlation, image, encoder)
    assert together.shape == (2, 3, 64, 16)
    for b in range(2):
        for k in range(3):
            alone = block.segment(correlation[b : b + 1, k : k + 1], image[b : b + 1], encoder)
            torch.testing.assert_close(together[b, k], alone[0, 0], rtol=0, atol=1e-5)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3


@torch.no_grad()
def test_mean_fusion_is_the_mean_of_the_convolved_classes(block, encoder):
    features = block.segment(*inputs(n_classes=5), encoder)
    merged = mean_over_classes(features.split(2, dim=1), 5)
    assert merged.shape == (2, 1, 64, 16)
    torch.testing.assert_close(block.fuse(merged), block.fuse(features).mean(dim=1, keepdim=True))


@torch.no_grad()
def test_hidden_features_depend_on_correlation_image_and_words(block, encoder):
    correlation, image = inputs()
    features = block.segment(correlation, image, encoder)
    words = [block.vlf.language.summarise(torch.randn(4, 32)) for _ in range(2)]
    base = block.refine(correlation, features, words[0])
    assert base.shape == (2, 3, 64, 8)
    for changed in (
        block.refine(correlation + torch.randn_like(correlation), features, words[0]),
        block.refine(correlation, features + torch.randn_like(features), words[0]),
        block.refine(correlation, features, words[1]),
    ):
        assert (base - changed).abs().max() > 1e-3


def test_last_block_has_no_way_back_to_a_correlation():
    assert not any("to_correlation" in name for name, _ in EscBlock(tiny_config(), is_last=True).named_parameters())


def test_patches_in_sams_channels_go_window_after_window(block):
    patches = torch.randn(1, 32, 8, 8)
    found = block.project(patches)
    window = block.sam.project(patches)[:, :, :4, 4:]  # the second of four
    torch.testing.assert_close(found[:, 16:32], window.flatten(2).mT)
