import pytest
import torch
from torch.nn import functional as F

from escnet.clip import build_tokenizer
from escnet.losses import IGNORED, alignment_loss, patch_target, segmentation_loss
from escnet.text import compile_vocabulary
from escnet.training import (
    LossWeights,
    TrainingBatch,
    TrainingModel,
    Words,
    class_embeddings,
    hardest_classes,
    parameter_groups,
)
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_network

NAMES = ("cat", "dog", "sky", "wall", "zebra")
SIDE = 64


def make_batch(network, target, names=NAMES):
    pixels = torch.randn(len(target), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    tokens = build_tokenizer(network.config)([f"a photo of a {name}" for name in names])
    return TrainingBatch(pixels, (Words(target, tokens, torch.arange(len(names))),))


def stripes(*places):
    """(1, SIDE, SIDE): these places side by side, in stripes of one width."""
    return torch.tensor(places).repeat_interleave(SIDE // len(places)).expand(1, SIDE, -1)


def losses(network, batch, **weights):
    return TrainingModel(network)(batch, LossWeights(**weights))


def learn(network, trainable="paper"):
    return parameter_groups(network, trainable, learning_rate=2e-4, clip_sam_learning_rate=2e-6, weight_decay=1e-4)


def logits_of(network, batch):
    (embeddings,) = class_embeddings(network, batch.words)
    return network(batch.pixels, embeddings)


@torch.no_grad()
def test_a_class_of_several_texts_is_their_average_as_in_a_compiled_vocabulary():
    network = tiny_network()
    prompts = {"sofa": ("sofa", "couch"), "cat": ("cat",), "dog": ("dog", "puppy", "hound")}
    templates = ("A photo of a {} in the scene", "the {}")
    words = [{"name": name, "prompts": each, "id": i} for i, (name, each) in enumerate(prompts.items())]
    compiled = compile_vocabulary(network, Vocabulary(name="words", classes=words, templates=templates))
    texts = [(i, t.replace("{}", p)) for i, each in enumerate(prompts.values()) for p in each for t in templates]
    texts = texts[::-1]  # the texts of a class need not stand together or in order
    owners = torch.tensor([owner for owner, _ in texts])
    tokens = build_tokenizer(network.config)([text for _, text in texts])
    one = build_tokenizer(network.config)(["zebra"])
    others, found = class_embeddings(
        network, [Words(torch.empty(0), one, torch.tensor([0])), Words(torch.empty(0), tokens, owners)]
    )
    torch.testing.assert_close(found[compiled.codes], compiled.text.embeddings, rtol=0, atol=1e-6)
    torch.testing.assert_close(others, F.normalize(network.encode_tokens(one), dim=-1), rtol=0, atol=1e-6)


def correlation_with_peaks(*peaks):
    """(1, K, 4, 4): each class is highest at one patch, by a value of its own."""
    correlation = torch.full((1, len(peaks), 4, 4), -1.0)
    for k, peak in enumerate(peaks):
        correlation[0, k, k % 4, 3 - k // 4] = peak
    return correlation


@pytest.mark.parametrize(("n_classes", "expected"), [(1, [0, 4]), (2, [0, 4]), (3, [0, 2, 4]), (4, [0, 2, 3, 4])])
def test_classes_in_the_picture_are_chosen_and_of_the_others_the_most_like_it(n_classes, expected):
    correlation = correlation_with_peaks(0.1, 0.2, 0.8, 0.5, 0.0)
    assert hardest_classes(correlation, stripes(IGNORED, 4, 0, 4), n_classes).tolist() == [expected]


def test_no_more_classes_are_chosen_than_there_are():
    assert hardest_classes(correlation_with_peaks(0.1, 0.2, 0.3), stripes(1), 9).tolist() == [[0, 1, 2]]


def test_each_picture_of_a_batch_has_classes_of_its_own():
    correlation = torch.cat([correlation_with_peaks(0.9, 0.1, 0.2, 0.3), correlation_with_peaks(0.1, 0.2, 0.3, 0.9)])
    target = torch.cat([stripes(1, 1), stripes(1, 2)])
    assert hardest_classes(correlation, target, 2).tolist() == [[0, 1], [1, 2]]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["cross_entropy", "binary_cross_entropy"])
def test_the_loss_is_that_of_the_networks_logits_by_its_kind_and_temperature(kind):
    network = tiny_network(loss=kind, temperature=0.5)
    batch = make_batch(network, torch.cat([stripes(0, 1, IGNORED, 4), stripes(2, 4)]))
    expected = segmentation_loss(logits_of(network, batch) / 0.5, batch.words[0].target, kind)
    found = losses(network, batch)
    assert found.keys() == {"segmentation"}
    torch.testing.assert_close(found["segmentation"], expected)


@torch.no_grad()
@pytest.mark.parametrize("n_classes", [1, 3, 4, 5, 99])
def test_with_all_classes_in_every_picture_choosing_changes_nothing(n_classes):
    """Some of the numbers choose by the picture, the others take all of the batch."""
    network = tiny_network()
    target = stripes(0, 1, 2, 3)
    batch = make_batch(network, torch.cat([target, target.flip(-1)]), names=NAMES[:4])
    torch.testing.assert_close(losses(network, batch, classes_per_picture=n_classes), losses(network, batch))


@torch.no_grad()
def test_the_chosen_classes_of_a_picture_compete_with_each_other_alone():
    network = tiny_network()
    batch = make_batch(network, stripes(4, IGNORED, 1, 4))
    logits = logits_of(network, batch)
    (embeddings,) = class_embeddings(network, batch.words)
    image, text = network.encode_image(batch.pixels), network.prepare_text(embeddings)
    cosines = torch.einsum("bchw,kc->bkhw", F.normalize(image.patches, dim=1), text.embeddings)
    by_likeness = cosines.amax(dim=(2, 3))[0].argsort(descending=True).tolist()
    (third,) = [k for k in by_likeness if k not in (1, 4)][:1]
    chosen = sorted((1, 4, third))
    whole = batch.words[0].target
    target = torch.full_like(whole, IGNORED)
    for place, k in enumerate(chosen):
        target[whole == k] = place
    expected = segmentation_loss(logits[:, chosen], target, "cross_entropy")
    found = losses(network, batch, classes_per_picture=3)["segmentation"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_alignment_is_the_mean_over_all_words_and_segmentation_is_by_the_first():
    network = tiny_network()
    full = make_batch(network, torch.cat([stripes(0, 1, IGNORED, 4), stripes(2, 4)]))
    short = make_batch(network, torch.cat([stripes(1, 0), stripes(IGNORED, 1)]), names=("animal", "thing"))
    both = TrainingBatch(full.pixels, full.words + short.words)
    patches = network.encode_image(full.pixels).patches
    expected = [
        alignment_loss(patches, embeddings, patch_target(words.target, 8), network.clip.logit_scale)
        for words, embeddings in zip(both.words, class_embeddings(network, both.words), strict=True)
    ]
    alone = losses(network, full, alignment=0.5)
    torch.testing.assert_close(alone["alignment"], expected[0])
    found = losses(network, both, alignment=0.5)
    torch.testing.assert_close(found, {"segmentation": alone["segmentation"], "alignment": sum(expected) / 2})
    without = losses(network, both, segmentation=0.0, alignment=0.5)
    torch.testing.assert_close(without, {"alignment": found["alignment"]})


def test_without_a_labelled_pixel_no_gradient_is_lost_or_broken():
    network = tiny_network()
    found = losses(network, make_batch(network, stripes(IGNORED)), alignment=1.0, classes_per_picture=2)
    sum(found.values()).backward()
    assert [loss.item() for loss in found.values()] == [0.0, 0.0]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


@pytest.mark.parametrize(
    ("trainable", "frozen_parts"), [("all", {"prompt_encoder"}), ("blocks", {"clip", "prompt_encoder"})]
)
def test_everything_learns_that_has_an_effect_or_all_of_it_but_clip(trainable, frozen_parts):
    network = tiny_network().train()
    groups = learn(network, trainable)
    found = losses(network, make_batch(network, torch.cat([stripes(0, 1, 3, 4), stripes(2, 4)])), alignment=1.0)
    sum(found.values()).backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert moved == learning
    unused = ("final_attn_token_to_image", "norm_final_attn", "image_to_token.k_proj.bias", "to_image.k_proj.bias")
    frozen = {name for name, _ in network.named_parameters()} - learning
    assert {name.split(".")[0] for name in frozen if not any(part in name for part in unused)} == frozen_parts
    assert sum(len(group["params"]) for group in groups) == len(learning)


@pytest.mark.parametrize("trainable", ["all", "blocks", "paper"])
def test_matrices_of_new_parts_but_the_text_tower_decay_and_nothing_else(trainable):
    network = tiny_network()
    groups = learn(network, trainable)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups)
    named = dict(network.named_parameters())
    assert rates.keys() == {id(p) for p in named.values() if p.requires_grad}
    new = (2e-4, 1e-4)
    assert rates[id(named["decoder.head.weight"])] == new
    assert rates[id(named["decoder.head.bias"])] == (2e-4, 0.0)
    text = named["clip.transformer.resblocks.0.attn.in_proj_weight"]
    image = named["clip.visual.positional_embedding"]
    sam = [named["blocks.3.sam.transformer.layers.1.cross_attn_image_to_token.q_proj.weight"]]
    of_clip = {"all": [(2e-4, 0.0), new], "blocks": [None, None], "paper": [(2e-6, 0.0)] * 2}[trainable]
    assert [rates.get(id(p)) for p in (text, image)] == of_clip
    assert [rates[id(p)] for p in sam] == [(2e-6, 0.0) if trainable == "paper" else new]


def test_a_text_tower_that_is_trained_whole_is_a_group_of_its_own():
    network = tiny_network()
    assert [
        group for trainable in ("paper", "blocks") for group in learn(network, trainable) if "is_text" in group
    ] == []
    (text,) = (group for group in learn(network, "all") if group.get("is_text"))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    expected = {n for n in names.values() if n.startswith("clip.") and not n.startswith(("clip.visual.", "clip.logit"))}
    assert {names[id(parameter)] for parameter in text["params"]} == expected
    assert (text["lr"], text["weight_decay"]) == (2e-4, 0.0)


def test_a_batch_goes_to_a_device_whole():
    batch = make_batch(tiny_network(), stripes(0))
    moved = batch.to(torch.device("meta"))
    (words,) = moved.words
    tensors = (moved.pixels, words.target, words.tokens, words.owners)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert words.tokens.shape == batch.words[0].tokens.shape
