"""How the parts of the network are joined: what one pass hands from each to the next, and in which precision."""

import pytest
import torch

from escnet import block as block_module
from escnet.correlation import correlate
from escnet.sam import dense_position
from tests.escnet.tiny import tiny_network


def inputs(n_classes=7, side=64):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(1, 3, side, side, generator=generator), torch.randn(n_classes, 32, generator=generator)


def prompts_of_one_pass(monkeypatch, network, pixels, embeddings):
    """What `make_prompts` was told by name, and what it made, each time it was called."""
    told, made = [], []

    def spy(correlation, **settings):
        told.append(settings)
        made.append(make_prompts(correlation, **settings))
        return made[-1]

    make_prompts = block_module.make_prompts
    monkeypatch.setattr(block_module, "make_prompts", spy)
    network(pixels, embeddings)
    return told, made


@torch.no_grad()
def test_points_are_the_centres_of_patches_all_over_the_picture(monkeypatch):
    network, side = tiny_network(image_size=96), 96  # 12 patches of 8 pixels
    told, made = prompts_of_one_pass(monkeypatch, network, *inputs(side=side))
    config = network.config
    assert (
        told
        == [
            {
                "stride_px": 8,
                "n_objects": config.n_objects,
                "threshold": config.prompt_threshold,
                "iterations": config.kmeans_iterations,
            }
        ]
        * 4
    )
    for prompts in made:
        points = prompts.points[prompts.labels == 1]
        assert ((points > 0) & (points < side)).all()
        assert (points % 8 == 4).all()  # odd multiples of half a patch
        assert (points.amax(dim=0) > side / 2).all()


@torch.no_grad()
def test_iterations_of_the_configuration_move_the_points(monkeypatch):
    found = {
        n: prompts_of_one_pass(monkeypatch, tiny_network(kmeans_iterations=n), *inputs())[1][0].points for n in (0, 10)
    }
    assert not torch.equal(found[0], found[10])


@torch.no_grad()
def test_every_sam_block_is_given_sams_own_positions():
    network, seen = tiny_network(), []
    for block in network.blocks:
        block.sam.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    network(*inputs())
    expected = network.blocks[0].windows.to_tokens(dense_position(network.prompt_encoder)).mT
    assert expected.abs().max() > 0.1
    assert [torch.equal(position, expected) for position in seen] == [True] * 4


@torch.no_grad()
def test_half_precision_leaves_the_first_correlation_exact(monkeypatch):
    network, seen = tiny_network(), []
    segment = network.blocks[0].segment

    def spy(correlation, *others):
        seen.append(correlation)
        return segment(correlation, *others)

    monkeypatch.setattr(network.blocks[0], "segment", spy)
    with torch.autocast("cpu", torch.bfloat16):
        pixels, embeddings = inputs()
        image, text = network.encode_image(pixels), network.prepare_text(embeddings)
        network.logits(image, text)
    expected = correlate(image.patches.flatten(2).transpose(1, 2), text.embeddings, (8, 8))
    assert seen[0].dtype == expected.dtype == torch.float32
    assert torch.equal(seen[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 56])  # windows of 4 patches fill the grid, or are padded
@pytest.mark.parametrize("fusion", ["per_class", "mean"])
def test_half_precision_gives_float32_logits_near_the_exact_ones(fusion, side):
    """Near by what decides: how the classes differ at a pixel, not the level they share."""
    network = tiny_network(fusion=fusion, image_size=side)
    exact = network(*inputs(side=side))
    with torch.autocast("cpu", torch.bfloat16):
        half = network(*inputs(side=side))
    assert half.dtype == torch.float32
    exact, half = (logits - logits.mean(dim=1, keepdim=True) for logits in (exact, half))
    assert (half - exact).norm() < 0.25 * exact.norm()
