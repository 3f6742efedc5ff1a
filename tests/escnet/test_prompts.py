import math

import pytest
import torch

from escnet.prompts import cluster_positions, make_prompts

STRIDE_PX = 16


def prompts_of(correlation, n_objects=5, iterations=10, threshold=1.04):
    return make_prompts(
        correlation, stride_px=STRIDE_PX, n_objects=n_objects, threshold=threshold, iterations=iterations
    )


def peaks(h, w, values):
    """A map that is low but for the given {(y, x): value}."""
    correlation = torch.zeros(1, h, w)
    for (y, x), value in values.items():
        correlation[0, y, x] = value
    return correlation


def squared(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def reference_clusters(inside, probability, n_regions, iterations):
    """k-means as one would write it for one map: a list of lists of (y, x), one for each centre."""
    h, w = inside.shape
    pixels = [(y, x) for y in range(h) for x in range(w) if inside[y, x]]
    centres = []
    while len(centres) < min(n_regions, len(pixels)):
        if not centres:
            centres.append(max(pixels, key=lambda p: float(probability[p])))
        else:
            centres.append(max(pixels, key=lambda p: min(squared(p, c) for c in centres)))
    regions = []
    for _ in range(iterations + 1):
        regions = [[] for _ in centres]
        for pixel in pixels:
            distances = [squared(pixel, centre) for centre in centres]
            regions[distances.index(min(distances))].append(pixel)
        centres = [
            (sum(y for y, _ in region) / len(region), sum(x for _, x in region) / len(region)) if region else centre
            for region, centre in zip(regions, centres, strict=True)
        ]
    return regions


@pytest.mark.parametrize("iterations", [0, 1, 10])
@pytest.mark.parametrize("share_kept", [0.02, 0.3, 0.9])
def test_clusters_are_those_of_a_plain_loop(iterations, share_kept):
    generator = torch.Generator().manual_seed(3)
    probability = torch.rand(20, 9, 12, generator=generator)
    inside = probability > 1 - share_kept
    found = cluster_positions(inside, probability, 5, iterations)
    for m in range(20):
        expected = reference_clusters(inside[m], probability[m], 5, iterations)
        regions = [[tuple(p) for p in region.nonzero().tolist()] for region in found[m]]
        assert regions == expected + [[]] * (5 - len(expected))


def test_points_are_the_maxima_of_the_regions_in_input_pixels():
    correlation = torch.randn(6, 9, 12, generator=torch.Generator().manual_seed(4))
    prompts = prompts_of(correlation)
    probability = correlation.flatten(1).softmax(-1).view_as(correlation)
    for m in range(6):
        regions = reference_clusters(probability[m] > 1.04 / (9 * 12), probability[m], 5, 10)
        best = [max(region, key=lambda p: float(probability[m][p])) for region in regions]
        assert prompts.points[m].tolist() == [[(x + 0.5) * STRIDE_PX, (y + 0.5) * STRIDE_PX] for y, x in best]
    assert prompts.labels.tolist() == [[1] * 5] * 6


def test_mask_is_graded_from_the_threshold_to_the_maximum_and_four_times_finer():
    correlation = peaks(6, 6, {(1, 1): 2.0, (1, 2): 1.5, (4, 4): 0.5})
    prompts = prompts_of(correlation)
    assert prompts.masks.shape == (1, 1, 24, 24)
    total = 33 + math.exp(2.0) + math.exp(1.5) + math.exp(0.5)
    floor = 1.04 / 36
    grade = [(math.exp(v) / total - floor) / (math.exp(2.0) / total - floor) for v in (2.0, 1.5, 0.5)]
    coarse = torch.zeros(1, 1, 6, 6)
    coarse[0, 0, 1, 1], coarse[0, 0, 1, 2], coarse[0, 0, 4, 4] = grade[0], grade[1], max(grade[2], 0.0)
    expected = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bilinear")
    torch.testing.assert_close(prompts.masks, expected, rtol=0, atol=1e-6)
    assert coarse.max() == 1.0
    assert 0.0 < grade[1] < 1.0


def test_fewer_pixels_than_objects_leave_points_that_are_not_points():
    prompts = prompts_of(peaks(8, 8, {(7, 2): 3.0, (0, 0): 2.0, (3, 6): 2.5}))
    assert prompts.labels.tolist() == [[1, 1, 1, -1, -1]]
    # The maximum first, then the farthest from it, then the farthest from both.
    assert prompts.points[0].tolist() == [[40.0, 120.0], [8.0, 8.0], [104.0, 56.0], [0.0, 0.0], [0.0, 0.0]]
    assert prompts.is_empty.tolist() == [False]


def test_class_without_a_pixel_above_the_threshold_is_empty():
    prompts = prompts_of(torch.stack([torch.full((8, 8), 0.3), peaks(8, 8, {(2, 2): 1.0})[0]]))
    assert prompts.is_empty.tolist() == [True, False]
    assert prompts.labels.tolist() == [[-1] * 5, [1, -1, -1, -1, -1]]
    assert prompts.masks[0].max() == 0.0
    assert all(torch.isfinite(tensor).all() for tensor in (prompts.points, prompts.masks))


def test_equal_maxima_go_to_the_first_in_reading_order():
    prompts = prompts_of(peaks(8, 8, {(2, 5): 1.0, (2, 1): 1.0, (6, 3): 1.0}), n_objects=1)
    assert prompts.points[0].tolist() == [[1.5 * STRIDE_PX, 2.5 * STRIDE_PX]]


def test_threshold_is_relative_to_the_uniform_probability():
    correlation = peaks(8, 8, {(2, 5): 1.0, (6, 3): 2.0})  # P * h * w is 2.4 and 6.6
    kept = [int((prompts_of(correlation, threshold=alpha).labels == 1).sum()) for alpha in (1.04, 3.0, 7.0)]
    assert kept == [2, 1, 0]


def test_no_class_changes_the_prompts_of_another():
    correlation = torch.randn(7, 8, 8, generator=torch.Generator().manual_seed(5))
    order = torch.tensor([4, 0, 6])
    whole, some = prompts_of(correlation), prompts_of(correlation[order])
    for name in ("points", "labels", "masks", "is_empty"):
        assert torch.equal(getattr(whole, name)[order], getattr(some, name))


def test_no_gradient_passes_through_prompts():
    correlation = torch.randn(2, 8, 8, requires_grad=True)
    prompts = prompts_of(correlation)
    assert not prompts.masks.requires_grad
    assert not prompts.points.requires_grad
