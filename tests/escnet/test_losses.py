import math

import pytest
import torch
from torch.nn import functional as F

from escnet.losses import IGNORED, alignment_loss, patch_target, segmentation_loss

KINDS = ["cross_entropy", "binary_cross_entropy"]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def targets(*shape, n_classes, seed=1):
    """Places in the classes, about a third of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-n_classes // 2, n_classes, shape, generator=generator).clamp(min=IGNORED)


def cross_entropy_of(scores, place):
    return math.log(sum(math.exp(score) for score in scores)) - scores[place]


def binary_cross_entropy_of(scores, place):
    signs = [1 if k == place else -1 for k in range(len(scores))]
    return sum(math.log(1 + math.exp(-s * score)) for s, score in zip(signs, scores, strict=True)) / len(scores)


def mean_over_labelled(scores, target, loss_of):
    """Scores (B, K, H, W) and target (B, H, W), pixel by pixel."""
    rows = scores.double().movedim(1, -1).flatten(0, 2).tolist()
    losses = [loss_of(row, place) for row, place in zip(rows, target.flatten().tolist(), strict=True) if place >= 0]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("kind", "loss_of"), [*zip(KINDS, (cross_entropy_of, binary_cross_entropy_of), strict=True)])
def test_segmentation_is_the_mean_over_labelled_pixels_of_the_resized_logits(kind, loss_of):
    logits, target = 3 * randn(2, 4, 3, 3), targets(2, 12, 12, n_classes=4)
    resized = F.interpolate(logits, (12, 12), mode="bilinear", align_corners=False)
    expected = mean_over_labelled(resized, target, loss_of)
    assert segmentation_loss(logits, target, kind).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ignored_pixel_has_no_gradient_and_a_labelled_one_has(kind):
    logits = randn(1, 3, 4, 4).requires_grad_()
    target = torch.full((1, 4, 4), IGNORED)
    target[0, 1, 2] = 2
    segmentation_loss(logits, target, kind).backward()
    assert logits.grad.abs().sum(dim=1).nonzero().tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_labelled_pixel_the_loss_and_its_gradient_are_zero(kind):
    logits = randn(2, 3, 4, 4).requires_grad_()
    loss = segmentation_loss(logits, torch.full((2, 16, 16), IGNORED), kind)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_cross_entropy_sees_leads_alone_and_binary_cross_entropy_the_height_too():
    logits, target = randn(1, 3, 8, 8), targets(1, 8, 8, n_classes=3)
    for kind, is_same in zip(KINDS, (True, False), strict=True):
        raised = segmentation_loss(logits + 5, target, kind).item()
        assert (raised == pytest.approx(segmentation_loss(logits, target, kind).item(), rel=1e-4)) == is_same


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_logits_are_judged_in_full_precision(kind):
    logits, target = (8 * randn(1, 3, 4, 4)).bfloat16(), targets(1, 16, 16, n_classes=3)
    found = segmentation_loss(logits, target, kind)
    assert found.dtype == torch.float32
    assert torch.equal(found, segmentation_loss(logits.float(), target, kind))


def test_alignment_is_cross_entropy_of_scaled_cosines_of_labelled_patches():
    patches, words = randn(2, 6, 3, 3), F.normalize(randn(4, 6, seed=2), dim=-1)
    target, log_scale = targets(2, 3, 3, n_classes=4), torch.tensor(2.5)
    norms = patches.pow(2).sum(dim=1, keepdim=True).sqrt()
    scores = math.exp(2.5) * torch.einsum("bchw,kc->bkhw", patches / norms, words)
    expected = mean_over_labelled(scores, target, cross_entropy_of)
    assert alignment_loss(patches, words, target, log_scale).item() == pytest.approx(expected, rel=1e-5)


def test_alignment_is_computed_in_full_precision_under_autocast():
    patches, words, target = randn(1, 6, 3, 3), F.normalize(randn(4, 6), dim=-1), targets(1, 3, 3, n_classes=4)
    expected = alignment_loss(patches, words, target, torch.tensor(4.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alignment_loss(patches, words, target, torch.tensor(4.0)), expected)


def test_length_of_the_patches_does_not_matter_to_alignment():
    patches, words, target = randn(1, 6, 3, 3), F.normalize(randn(4, 6), dim=-1), targets(1, 3, 3, n_classes=4)
    found, expected = (alignment_loss(each, words, target, torch.tensor(1.0)) for each in (patches * 9, patches))
    torch.testing.assert_close(found, expected)


def test_the_scale_of_alignment_stops_at_a_hundred():
    patches, words, target = randn(1, 6, 3, 3), F.normalize(randn(4, 6), dim=-1), targets(1, 3, 3, n_classes=4)
    at_bound, above = (
        alignment_loss(patches, words, target, torch.tensor(x)) for x in (math.log(100.0), math.log(1000.0))
    )
    torch.testing.assert_close(at_bound, above)


def test_without_a_labelled_patch_alignment_and_its_gradients_are_zero():
    patches, words = randn(1, 6, 3, 3).requires_grad_(), F.normalize(randn(4, 6), dim=-1).requires_grad_()
    loss = alignment_loss(patches, words, torch.full((1, 3, 3), IGNORED), torch.tensor(2.0))
    loss.backward()
    assert loss.item() == 0.0
    assert patches.grad.abs().max() == words.grad.abs().max() == 0.0


def test_a_patch_has_the_class_of_seven_tenths_of_its_pixels():
    target = torch.tensor([
        [3, 3, 3, 3, 3,  2, 2, 2, 2, 2],
        [3, 3, 3, 3, 3,  2, 2, 2, 2, 2],
        [1, 1, 1, 1, 1,  2, 2, 2, 2, 2],
        [3, 3, 3, 3, 3,  2, 2, 0, 0, 0],
        [3, 3, 3, 1, 1,  0, 0, 0, 0, 0],

        [IGNORED] * 5 + [1, 1, 1, 1, 1],
        [IGNORED] * 5 + [1, 1, 1, 1, 1],
        [IGNORED] * 5 + [1, 1, 1, 1, 1],
        [IGNORED] * 5 + [1, 1, 1, IGNORED, IGNORED],
        [0] * 5 +       [IGNORED] * 5,
    ])  # fmt: skip
    # 18 of 25, 17 of 25, most of it ignored, 18 of 25 beside ignored pixels
    assert patch_target(target[None], 5).tolist() == [[[3, IGNORED], [IGNORED, 1]]]


def test_patches_of_several_pictures_keep_their_places():
    target = torch.arange(2 * 3 * 4).view(2, 3, 4)
    whole = target.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    assert torch.equal(patch_target(whole, 8), target)
