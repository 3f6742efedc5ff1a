import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from escnet import scoring
from escnet.scoring import per_pixel, score, score_pictures
from schemas.errors import PictureError
from tests.escnet.tiny import tiny_config

SIZES = [(1, 1), (1, 500), (49, 500), (641, 479), (8, 3), (40, 31)]


def random_canvas(n_entries, side=32, spread=3.0, seed=0):
    return torch.randn(n_entries, side, side, generator=torch.Generator().manual_seed(seed)) * spread


def some_codes(n_entries):
    return np.arange(n_entries, dtype=np.int32) * 7 - 10


def reference(canvas, size_hw, config):
    """The plain way: everything of the size K x H x W, in double precision. All per pixel, as entry indices."""
    logits = F.interpolate(canvas[None].double(), size_hw, mode="bilinear", align_corners=False)[0]
    sorted_logits, order = logits.sort(dim=0, descending=True, stable=True)
    logits = logits / config.temperature
    softmax = logits.softmax(0)
    probability = logits.sigmoid() if config.loss == "binary_cross_entropy" else softmax
    ranked = probability.sort(dim=0, descending=True).values
    second = ranked[1] if len(ranked) > 1 else torch.zeros(size_hw, dtype=torch.float64)
    entropy = torch.special.entr(softmax).sum(0).mean().item()
    gap = sorted_logits[:-1] - sorted_logits[1:]
    return order.numpy(), gap.numpy(), ranked[0].numpy(), (ranked[0] - second).numpy(), entropy


def mean_of_cells(pixels):
    height, width = pixels.shape
    rows = [[pixels[y : y + 4, x : x + 4].mean() for x in range(0, width, 4)] for y in range(0, height, 4)]
    return np.array(rows)


def assert_equals_reference(found, canvas, size_hw, config):
    codes = some_codes(len(canvas))
    order, gap, confidence, margin, entropy = reference(canvas, size_hw, config)
    clear = gap[0] > 1e-5
    np.testing.assert_array_equal(found.winner[clear], codes[order[0]][clear])
    assert clear.mean() > 0.9
    centres = np.ix_(*(np.minimum(np.arange(2, n + 2, 4)[: math.ceil(n / 4)], n - 1) for n in size_hw))
    clear = (gap[0][centres] > 1e-5) & ((gap[1][centres] > 1e-5) if len(gap) > 1 else True)
    np.testing.assert_array_equal(found.runner_up[clear], codes[order[1]][centres][clear])
    for cells, pixels in ((found.confidence, confidence), (found.margin, margin)):
        assert cells.dtype == np.uint8
        assert np.abs(cells - mean_of_cells(pixels) * 255).max() <= 0.5 + 1e-2
    assert found.entropy_mean == pytest.approx(entropy, abs=1e-5)
    assert found.winner.shape == found.size_hw == size_hw


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("n_entries", [2, 5, 61])
def test_tiles_give_what_the_whole_would(size_hw, n_entries, monkeypatch):
    monkeypatch.setitem(scoring._TILE_SCORES, "cpu", 2**14)  # so that even these pictures are cut
    canvas = random_canvas(n_entries)
    assert_equals_reference(
        score(canvas, some_codes(n_entries), size_hw, tiny_config()), canvas, size_hw, tiny_config()
    )


@pytest.mark.parametrize("changes", [{"temperature": 0.37}, {"loss": "binary_cross_entropy", "temperature": 2.5}])
def test_temperature_and_loss_decide_the_probabilities(changes):
    config, canvas = tiny_config(**changes), random_canvas(9)
    assert_equals_reference(score(canvas, some_codes(9), (90, 70), config), canvas, (90, 70), config)


def test_where_tiles_are_cut_changes_no_byte(monkeypatch):
    canvas = random_canvas(11, side=40)
    whole = score(canvas, some_codes(11), (150, 211), tiny_config())
    for n_scores in (1, 2**11, 2**14):
        monkeypatch.setitem(scoring._TILE_SCORES, "cpu", n_scores)
        cut = score(canvas, some_codes(11), (150, 211), tiny_config())
        for name in ("winner", "runner_up", "confidence", "margin"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
        assert cut.entropy_mean == pytest.approx(whole.entropy_mean, rel=1e-8)


def several(n_pictures, device="cpu"):
    """Canvases, codes and sizes of pictures, of which no two are alike."""
    canvases = [random_canvas(3 + k, seed=k).to(device) for k in range(n_pictures)]
    return canvases, [some_codes(3 + k) for k in range(n_pictures)], [(60 + 9 * k, 41) for k in range(n_pictures)]


def test_pictures_are_judged_together_as_each_is_alone():
    for found, *each in zip(score_pictures(*several(3), tiny_config()), *several(3), strict=True):
        alone = score(*each, tiny_config())
        for name in ("winner", "runner_up", "confidence", "margin"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
        assert (found.size_hw, found.entropy_mean) == (alone.size_hw, alone.entropy_mean)


@pytest.mark.parametrize("broken", [0, 2])
def test_one_picture_without_finite_scores_fails_all(broken):
    canvases, *rest = several(3)
    canvases[broken][1, 5, 5] = torch.inf
    with pytest.raises(PictureError, match="not finite"):
        score_pictures(canvases, *rest, tiny_config())


def waits(n_pictures):
    """How often the host waits for the GPU."""
    pictures = several(n_pictures, "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            score_pictures(*pictures, tiny_config())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(each.message) for each in caught)


@pytest.mark.gpu
def test_the_host_waits_for_a_gpu_as_often_for_many_pictures_as_for_one():
    assert waits(1) == waits(6) == 2


def test_ties_go_to_the_first_entry():
    canvas = random_canvas(3)[[1, 0, 0, 1, 2]]
    found = score(canvas, np.arange(5, dtype=np.int32), (100, 100), tiny_config())
    assert set(np.unique(found.winner)) == {0, 1, 4}
    centre = found.winner[2::4, 2::4]
    np.testing.assert_array_equal(found.runner_up[centre == 0], 3)
    np.testing.assert_array_equal(found.runner_up[centre == 1], 2)
    assert set(np.unique(found.runner_up[centre == 4])) == {0, 1}


def test_the_smallest_differences_decide():
    canvas = torch.full((4, 8, 8), 5.0)
    canvas[2] = torch.nextafter(canvas[2], torch.tensor(9.0))
    found = score(canvas * 1e-3, np.arange(4, dtype=np.int32), (64, 64), tiny_config())
    assert np.unique(found.winner).tolist() == [2]
    assert np.unique(found.runner_up).tolist() == [0]


def test_one_entry_wins_everything():
    found = score(random_canvas(1), np.array([42], np.int32), (10, 7), tiny_config())
    for cells, value in ((found.winner, 42), (found.runner_up, 42), (found.confidence, 255), (found.margin, 255)):
        assert np.unique(cells).tolist() == [value]
    assert found.entropy_mean == 0


def test_one_entry_under_sigmoid_keeps_its_own_probability():
    config = tiny_config(loss="binary_cross_entropy")
    found = score(torch.full((1, 8, 8), math.log(3)), np.array([42], np.int32), (10, 7), config)
    assert np.unique(found.confidence).tolist() == np.unique(found.margin).tolist() == [191]  # 255 * 3/4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_fail_the_picture(value):
    canvas = random_canvas(3)
    canvas[1, 5, 5] = value
    with pytest.raises(PictureError, match="not finite") as caught:
        score(canvas, some_codes(3), (10, 10), tiny_config())
    assert (caught.value.stage, caught.value.kind) == ("segment", "internal")


def test_pixels_take_the_values_of_their_cell():
    found = score(random_canvas(4), some_codes(4), (9, 6), tiny_config())
    pixels = per_pixel(found)
    for values, cells in zip(pixels, (found.runner_up, found.confidence, found.margin), strict=True):
        assert cells.shape == (3, 2)
        assert values.tolist() == [[cells[y // 4, x // 4] for x in range(6)] for y in range(9)]


MEASURE_GROWTH = """
import resource, sys
import numpy as np, torch
from escnet.config import preset_config
from escnet.scoring import score
torch.set_num_threads(1)
config, n_entries, size_hw = preset_config("escnet-nano"), 847, eval(sys.argv[1])
canvas = torch.randn(n_entries, 160, 160)
score(canvas[:, :20, :20], np.arange(n_entries, dtype=np.int32), (64, 64), config)  # libraries loaded
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = score(canvas, np.arange(n_entries, dtype=np.int32), size_hw, config)
assert found.winner.shape == size_hw
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("size_hw", [(100, 4032), (49, 500)])
def test_memory_does_not_grow_with_classes_times_pixels(size_hw):
    """All scores at once would be 1.3 GiB for the larger picture; 4032 x 3024 differs from it in tiles alone."""
    command = [sys.executable, "-c", MEASURE_GROWTH, repr(size_hw)]
    growth_mib = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert growth_mib < 64 + 8 * math.prod(size_hw) / 2**20  # a bounded working set, and the winners twice
