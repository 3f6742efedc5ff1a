"""What is computed in another order, or once instead of for every class, is what the plain way gives."""

import pytest
import torch

from tests.escnet.plain import plain_logits
from tests.escnet.tiny import tiny_network

# Three classes a part, both kinds of fusion, a grid that the windows do not divide, maps without a prompt.
NETWORKS = {
    "default": {},
    "mean": {"fusion": "mean"},
    "padded": {"image_size": 56},
    "one window": {"window_size": 12},
    "empty": {"prompt_threshold": 64.0},
}


def network_and_inputs(**changes):
    network, generator = tiny_network(**changes), torch.Generator().manual_seed(5)
    for name, parameter in network.named_parameters():
        if "norm" in name or name.endswith("bias"):  # of random networks these are ones and zeros
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    side = network.config.image_size
    pixels = torch.randn(2, 3, side, side, generator=generator)
    return network, pixels, torch.randn(7, 32, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_logits_are_those_of_the_plain_way(changes):
    network, pixels, embeddings = network_and_inputs(**changes)
    found = network.logits(network.encode_image(pixels), network.prepare_text(embeddings), class_chunk=3)
    torch.testing.assert_close(found, plain_logits(network, pixels, embeddings), rtol=0, atol=5e-6)


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_of_the_plain_way(changes):
    network, pixels, embeddings = network_and_inputs(**changes)
    weights = torch.randn(2, 7, *(2 * (4 * network.config.grid_hw[0],)), generator=torch.Generator().manual_seed(6))
    gradients = []
    for logits in (network.train()(pixels, embeddings), plain_logits(network, pixels, embeddings)):
        network.zero_grad()
        (logits * weights).sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    found, expected = gradients
    unseen = expected.keys() - found.keys()
    assert all("cross_attn_" in name and name.endswith("k_proj.bias") for name in unseen)  # lost in the softmax
    assert all(expected[name].abs().max() < 1e-5 for name in unseen)
    largest = {name: expected[name].abs().max() for name in found}
    distance = {name: (found[name] - expected[name]).abs().max() / (largest[name] + 0.01) for name in found}
    assert max(distance.values()) < 1e-4, max(distance, key=distance.get)
