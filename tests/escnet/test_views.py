import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from escnet.config import preset_config
from escnet.views import merge_views, prepare, view_batch, window_stride
from tests.escnet.tiny import tiny_config


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("grid", "stride"), [(24, 16), (21, 14), (8, 5), (2, 1), (1, 1)])
def test_windows_overlap_by_a_third_in_whole_patches(grid, stride):
    assert window_stride(grid) == stride


@pytest.mark.parametrize(("preset", "canvas"), [("escnet-b16", 640), ("escnet-l14", 560), ("escnet-nano", 320)])
def test_windows_are_cut_from_one_canvas_and_cover_it(preset, canvas):
    config = preset_config(preset)
    side, step = config.image_size, canvas - config.image_size
    shown = picture(70, 90)
    whole = np.asarray(Image.fromarray(shown).resize((canvas, canvas), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    views = prepare(shown, config, "sliding").pixels
    assert views.shape == (5, 3, side, side)
    rebuilt = np.zeros_like(whole)
    for view, (y, x) in zip(views[:4], [(0, 0), (0, step), (step, 0), (step, step)], strict=True):
        rebuilt[:, y : y + side, x : x + side] = view
    np.testing.assert_array_equal(rebuilt, whole)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (49, 500), (641, 479)])
@pytest.mark.parametrize(("views", "n_views"), [("single", 1), ("sliding", 5)])
def test_pictures_of_any_size_become_views_of_one_size(height, width, views, n_views):
    prepared = prepare(picture(height, width), tiny_config(), views)
    assert prepared.pixels.shape == (n_views, 3, 64, 64)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.size_hw == (height, width)


def test_the_last_sliding_view_shows_the_whole_picture():
    shown = np.asarray(Image.fromarray(picture(4, 4)).resize((500, 300), Image.Resampling.BILINEAR))
    last = prepare(shown, tiny_config(), "sliding").pixels[-1].astype(int)
    single = prepare(shown, tiny_config(), "single").pixels[0].astype(int)
    assert np.abs(last - single).max() <= 12  # once and twice resampled


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_rgb_picture_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected a picture \(H, W, 3\) of uint8"):
        prepare(wrong, tiny_config(), "single")


def test_a_batch_is_normalised_picture_by_picture():
    config = tiny_config()
    prepared = [prepare(picture(50, 40, seed), config, "sliding") for seed in (1, 2)]
    found = view_batch(prepared, config, torch.device("cpu"))
    assert found.shape == (10, 3, 64, 64)
    raw = torch.from_numpy(prepared[1].pixels[2]).double() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.image_mean, config.image_std))
    torch.testing.assert_close(found[7].double(), (raw - mean) / std, rtol=0, atol=1e-5)


def merged_by_hand(logits, step):
    """Half the whole view, half the mean of the windows that cover a canvas logit, one by one."""
    side = logits.shape[-1]
    size_hw = (side + step, side + step)
    whole = F.interpolate(logits[4:], size_hw, mode="bilinear", align_corners=False)[0]
    total, count = torch.zeros_like(whole), torch.zeros(size_hw)
    for view, (y, x) in enumerate([(0, 0), (0, step), (step, 0), (step, step)]):
        for i in range(side):
            for j in range(side):
                total[:, y + i, x + j] += logits[view, :, i, j]
                count[y + i, x + j] += 1
    return whole / 2 + total / count / 2


def test_the_whole_view_counts_as_much_as_the_windows_together():
    logits = torch.randn(5, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merge_views(logits), merged_by_hand(logits, step=20), rtol=0, atol=1e-6)


def test_views_of_one_smooth_field_merge_to_that_field():
    side, step = 96, 64
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    field = torch.stack([torch.full_like(x, 2.5), 3 * x - 2 * y])
    windows = [field[:, a : a + side, b : b + side] for a in (0, step) for b in (0, step)]
    centres = (torch.arange(side) + 0.5) * 160 / side - 0.5
    yy, xx = torch.meshgrid(centres, centres, indexing="ij")
    whole = torch.stack([torch.full_like(xx, 2.5), 3 * xx - 2 * yy])
    merged = merge_views(torch.stack([*windows, whole]))
    assert merged.shape == (2, 160, 160)
    inner = slice(1, -1)  # at the border the whole view has no neighbour to be extrapolated from
    torch.testing.assert_close(merged[:, inner, inner], field[:, inner, inner], rtol=0, atol=1e-3)
    torch.testing.assert_close(merged[0], field[0])


def test_classes_merged_in_parts_have_the_same_bytes():
    logits = torch.randn(5, 7, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = torch.cat([merge_views(part) for part in logits.split(3, dim=1)])
    assert torch.equal(parts, merge_views(logits))


def test_a_single_view_is_its_own_canvas():
    logits = torch.randn(1, 3, 32, 32)
    assert torch.equal(merge_views(logits), logits[0])
