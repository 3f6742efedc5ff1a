import pytest
import torch

from escnet.checkpoint import load_checkpoint, save_checkpoint
from escnet.clip import build_clip, build_tokenizer
from escnet.models import build_random
from escnet.tokens import N_FALLBACK_ROWS, TokenTable
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config

TRAINED = (2368, 320, 49406, 49407)  # cat, a, start, end


def table():
    torch.manual_seed(0)
    return TokenTable(TRAINED, vocab_size=49408, width=6)


@torch.no_grad()
def test_each_trained_token_has_a_row_of_its_own():
    tokens = table()
    assert torch.equal(tokens(torch.tensor(TRAINED)), tokens.weight[: len(TRAINED)])
    assert tokens.weight.shape == (len(TRAINED) + N_FALLBACK_ROWS, 6)


@torch.no_grad()
def test_every_other_token_of_the_bpe_falls_back_always_the_same_way():
    others = torch.tensor([i for i in range(49408) if i not in TRAINED])
    tokens, again = table(), table()
    found = tokens(others)
    assert torch.equal(found, again(others))
    fallback = tokens.weight[len(TRAINED) :]
    used = (found.unsqueeze(1) == fallback).all(dim=-1)  # (tokens, fallback rows)
    assert used.sum(dim=1).tolist() == [1] * len(others)
    assert used.any(dim=0).all()


@torch.no_grad()
def test_tokens_of_any_shape_are_looked_up():
    tokens = table()
    ids = torch.tensor([[2368, 5], [49407, 320]])
    assert torch.equal(tokens(ids)[1, 1], tokens(torch.tensor(320)))
    assert tokens(ids).shape == (2, 2, 6)


def test_the_text_tower_is_built_with_the_table_and_takes_any_words():
    config = tiny_config(trained_tokens=TRAINED)
    torch.manual_seed(0)
    clip = build_clip(config)
    assert clip.token_embedding.weight.shape == (len(TRAINED) + N_FALLBACK_ROWS, 32)
    tokens = build_tokenizer(config)(["a cat", "a zebra", "ünïcode 7 ☃"])
    assert torch.isfinite(clip.encode_text(tokens)).all()


def test_a_text_tower_of_open_clips_default_size_is_built_with_the_table():
    clip = tiny_config().clip
    del clip["text_cfg"]["vocab_size"]
    built = build_clip(tiny_config(clip=clip, trained_tokens=TRAINED))
    assert len(built.token_embedding.rows) == 49408


def test_a_loaded_table_finds_its_rows(tmp_path):
    """Which row a token has is not stored with the weights; it follows from the configuration."""
    network = build_random(tiny_config(trained_tokens=TRAINED))
    save_checkpoint(network, tmp_path / "tokens.safetensors", {})
    tokens = build_tokenizer(network.config)(["a cat and a dog"])
    with torch.no_grad():
        found = load_checkpoint(tmp_path / "tokens.safetensors").encode_tokens(tokens)
        assert torch.equal(found, network.encode_tokens(tokens))


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ((), "0, 0 of them distinct, the highest none"),
        ((5, 7, 5), "3, 2 of them distinct, the highest 7"),
        ((49408,), "1, 1 of them distinct, the highest 49408"),
    ],
)
def test_tokens_that_are_not_ids_of_the_bpe_are_refused_in_one_line(tokens, found):
    with pytest.raises(ModelError) as caught:
        tiny_config(trained_tokens=tokens)
    assert str(caught.value) == (
        f"trained_tokens must be distinct ids below 49408, the vocab_size of text_cfg, and at least one; found {found}"
    )
