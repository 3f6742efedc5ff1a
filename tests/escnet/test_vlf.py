import pytest
import torch
from torch.nn import functional as F

from escnet.vlf import LanguageAttention, VisionAttention, VisionLanguageFusion
from tests.escnet.tiny import tiny_config

E, D = 16, 8  # SAM's and the hidden width of the tiny network


def grid_config(side, window):
    return tiny_config(image_size=side * 8, window_size=window)


def build(kind, config, seed=0):
    torch.manual_seed(seed)
    return kind(config).eval()


def reference_window_attention(attention, x, window):
    """Plain attention of every pixel of x (h, w, C) to the real pixels of its window."""
    h, w, _ = x.shape
    queries, keys, values = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)  # (h, w, heads, c)
    side = 2 * window - 1
    bias = attention.relative_position_bias_table.view(side, side, -1)
    rows = []
    for y in range(h):
        for x_ in range(w):
            top, left = y - y % window, x_ - x_ % window
            seen = [(i, j) for i in range(top, min(top + window, h)) for j in range(left, min(left + window, w))]
            k, v = (torch.stack([tensor[p] for p in seen]) for tensor in (keys, values))  # (n, heads, c)
            relative = torch.stack([bias[y - i + window - 1, x_ - j + window - 1] for i, j in seen])  # (n, heads)
            weights = ((queries[y, x_] * attention.scale * k).sum(-1) + relative).softmax(dim=0)
            rows.append((weights.unsqueeze(-1) * v).sum(dim=0).flatten())
    return attention.proj(torch.stack(rows)).unflatten(0, (h, w))


@torch.no_grad()
@pytest.mark.parametrize(("side", "largest", "window"), [(8, 4, 4), (7, 4, 4), (5, 3, 3), (4, 3, 2), (3, 12, 3)])
def test_vision_attention_stays_in_its_window_and_never_sees_padding(side, largest, window):
    vision = build(VisionAttention, grid_config(side, largest))
    torch.nn.init.normal_(vision.attention.relative_position_bias_table)
    correlation, features = torch.randn(1, 2, side, side), torch.randn(1, 2, E, side, side)
    found = vision(vision.windows.to_tokens(correlation), vision.windows.to_tokens(features).mT)
    found = vision.windows.to_grid(found, dim=2)
    for k in range(2):
        embedded = vision.embed(correlation[0, k].unsqueeze(-1))
        x = vision.norm(torch.cat([embedded, features[0, k].movedim(0, -1)], dim=-1))
        expected = vision.ffn(x + reference_window_attention(vision.attention, x, window))
        torch.testing.assert_close(found[0, k], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("side", "window_hw"), [(24, (12, 12)), (21, (11, 11)), (6, (6, 6)), (25, (9, 9))])
def test_windows_are_as_even_as_the_grid_allows(side, window_hw):
    assert VisionAttention(grid_config(side, 12)).windows.window_hw == window_hw


@torch.no_grad()
def test_one_image_feature_for_all_classes_is_the_same_as_repeating_it():
    vision = build(VisionAttention, tiny_config())
    correlation, features = torch.randn(2, 3, 64), torch.randn(2, 1, 64, E)
    torch.testing.assert_close(vision(correlation, features), vision(correlation, features.repeat(1, 3, 1, 1)))


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 7])  # windows of 4 fill it, or are padded
def test_half_precision_leaves_small_cosines_exact_beside_a_large_bias(side):
    vision, seen = build(VisionAttention, grid_config(side, 4)), []
    vision.embed.bias.fill_(1.0)
    vision.norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][..., :D]))
    correlation, features = 1e-3 * torch.randn(1, 2, side**2), torch.randn(1, 2, side**2, E)
    expected = vision(correlation, features)
    with torch.autocast("cpu", torch.bfloat16):
        found = vision(correlation, features.bfloat16())
    assert torch.equal(seen[1], vision.embed(correlation.unsqueeze(-1)))
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05 * float(expected.std()))


@torch.no_grad()
def test_language_attention_weighs_the_values_of_all_classes():
    language = build(LanguageAttention, tiny_config())
    x, embeddings = torch.randn(1, 2, 9, D), F.normalize(torch.randn(5, 32), dim=-1)
    found = language(x, language.summarise(embeddings))
    normed, text = language.norm(x), language.text_norm(embeddings)
    query, key, value = (
        tensor.unflatten(-1, (2, D // 2))
        for tensor in (language.query(normed), language.key(text), language.value(text))
    )
    similarity = torch.einsum("bkthc,nhc->bkthn", F.elu(query) + 1, F.elu(key) + 1)  # the quadratic form
    weights = similarity / similarity.sum(dim=-1, keepdim=True)
    attended = normed + language.project(torch.einsum("bkthn,nhc->bkthc", weights, value).flatten(-2))
    torch.testing.assert_close(found, attended + language.ffn(attended), rtol=0, atol=1e-5)


@torch.no_grad()
def test_summary_does_not_grow_with_the_vocabulary():
    language = build(LanguageAttention, tiny_config())
    embeddings = torch.randn(5, 32)
    once, often = language.summarise(embeddings), language.summarise(embeddings.repeat(200, 1))
    torch.testing.assert_close(once.key_values, often.key_values)
    torch.testing.assert_close(once.keys, often.keys)
    assert once.key_values.shape == (2, 4, 4)


@torch.no_grad()
def test_summary_of_many_classes_fits_half_precision():
    language = build(LanguageAttention, tiny_config())
    language.key.bias.fill_(10.0)
    language.value.bias.fill_(10.0)
    embeddings = torch.randn(2000, 32)  # products of 100, of which half precision can add up 655
    expected = language.summarise(embeddings)
    with torch.autocast("cpu", torch.float16):
        found = language.summarise(embeddings)
    for half, exact in ((found.key_values, expected.key_values), (found.keys, expected.keys)):
        torch.testing.assert_close(half.float(), exact, rtol=0.01, atol=0)


@torch.no_grad()
def test_words_change_the_hidden_features():
    fusion = build(VisionLanguageFusion, tiny_config())
    correlation, features = torch.randn(1, 2, 64), torch.randn(1, 2, 64, E)
    results = [
        fusion(correlation, features, fusion.language.summarise(torch.randn(4, 32))) for _ in range(2)
    ]  # two vocabularies
    assert results[0].shape == (1, 2, 64, D)
    assert (results[0] - results[1]).abs().max() > 1e-3
