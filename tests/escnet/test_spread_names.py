"""A text tower with random weights that tells names apart before anything is learnt."""

import random

import pytest
import torch
from torch.nn import functional as F

from escnet.clip import build_tokenizer
from escnet.config import preset_config
from escnet.models import build_random
from escnet.training import spread_names
from pipeline.demo_world.names import COLOURS, OBJECTS, PATTERNS, SHAPES
from pipeline.training.naming import WorldNamer
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config

TEMPLATE = "A photo of a {} in the scene"
WORDS = (*COLOURS, *PATTERNS, *SHAPES)
# (N, words): which words each object's name has
HAS_WORD = torch.tensor([[float(word in str(each).split()) for word in WORDS] for each in OBJECTS])


def tokens_of(network, names):
    return build_tokenizer(network.config)([TEMPLATE.replace("{}", str(name)) for name in names])


@torch.no_grad()
def embed(network):
    """(N, C) of all objects of the demo world."""
    return network.encode_tokens(tokens_of(network, OBJECTS))


@pytest.fixture(scope="module")
def state_before():
    return build_random(preset_config("escnet-nano")).state_dict()


@pytest.fixture(scope="module")
def network():
    """Spread by the names of one batch that holds everything, as a run of training is; few objects are held out."""
    network = build_random(preset_config("escnet-nano"))
    namer = WorldNamer()
    names = [name for naming in namer.name(random.Random(0), namer.ids) for name in naming.names]
    torch.manual_seed(0)
    spread_names(network, tokens_of(network, names))
    return network


def mean_cosines(embeddings):
    """Of pairs of names by the number of words they have in common, 0 to 2."""
    embeddings = F.normalize(embeddings, dim=-1)
    cosines, n_common = embeddings @ embeddings.T, HAS_WORD @ HAS_WORD.T
    return [cosines[n_common == n].mean().item() for n in range(3)]


def test_names_are_as_alike_as_the_words_they_have_in_common(network):
    none, one, two = mean_cosines(embed(network))
    assert abs(none) < 0.05
    assert 0.2 < one < 0.4
    assert 0.5 < two < 0.75
    assert min(mean_cosines(embed(build_random(preset_config("escnet-nano"))))) > 0.7  # as CLIP initialises it


def test_an_embedding_is_nearly_the_sum_of_its_words(network):
    embeddings = embed(network).double()
    sums = HAS_WORD.double() @ (torch.linalg.pinv(HAS_WORD.double()) @ embeddings)
    assert F.cosine_similarity(sums, embeddings).mean() > 0.85


def test_nothing_but_the_text_tower_changes(network, state_before):
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, state_before[name])}
    assert changed == {
        "clip.token_embedding.weight",
        "clip.transformer.resblocks.0.attn.out_proj.weight",
        "clip.transformer.resblocks.1.attn.out_proj.weight",
        "clip.ln_final.bias",
        "clip.text_projection",
    }
    assert network.clip.text_projection.requires_grad


def test_a_text_tower_of_another_width_than_its_embeddings_is_refused_in_one_line():
    clip = tiny_config().clip
    network = build_random(tiny_config(clip={**clip, "text_cfg": {**clip["text_cfg"], "width": 64}}))
    with pytest.raises(ModelError) as caught:
        spread_names(network, tokens_of(network, OBJECTS))
    assert str(caught.value) == "spread_names: the text tower is 64 wide, expected the 32 of its embeddings"
