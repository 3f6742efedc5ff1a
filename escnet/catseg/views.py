"""CAT-Seg's own views of a picture, and how it merges what it makes of them.

Its public code (cvlab-kaist/CAT-Seg, `cat_seg_model.py`) makes a canvas of 640 x 640 pixels from the picture, whose
shorter side was first brought to 640, and shows four windows of 384 of it and the whole picture. Every view's logits
are brought to 384 x 384 and made probabilities; these are averaged: windows among themselves, and half and half with
the whole view. Only the first step is antialiased. `single` is the whole picture, antialiased; there the code pads a
picture to multiples of 384 and does not cut the padding off its output again, which is not followed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from escnet.catseg.config import CatSegConfig
from escnet.views import Prepared, check_picture, normalise, resize
from schemas.job import Views

_LONGEST = 4  # canvases: the longer side of a picture, before it is made square


def prepare(picture: np.ndarray, config: CatSegConfig, kind: Views) -> Prepared:
    """What all views are made from: pixels (1, 3, h, w), for `sliding` of the picture's own proportions.

    Raises:
        ValueError: the array is no picture (H, W, 3) of uint8.
    """
    check_picture(picture)
    size_hw = picture.shape[:2]
    if kind == "single":
        target_hw = (config.window_px, config.window_px)
    else:
        scale = min(config.canvas_px / min(size_hw), _LONGEST * config.canvas_px / max(size_hw))
        target_hw = tuple(max(1, int(side * scale + 0.5)) for side in size_hw)
    resized = np.asarray(resize(Image.fromarray(picture), target_hw)).transpose(2, 0, 1)
    return Prepared(np.ascontiguousarray(resized)[np.newaxis], size_hw)


def view_batch(batch: Sequence[Prepared], config: CatSegConfig, kind: Views, device: torch.device) -> Tensor:
    """All views of all pictures, picture by picture: (B*V, 3, S, S) float32, normalised, on `device`."""
    shown = [torch.from_numpy(prepared.pixels).to(device).float() for prepared in batch]
    pixels = torch.cat([each if kind == "single" else _cut(each, config) for each in shown])
    return normalise(_resample(pixels, config.image_size), config)


def _cut(picture: Tensor, config: CatSegConfig) -> Tensor:
    """(1, 3, h, w) to four windows and the whole picture, (5, 3, window, window)."""
    canvas, side = _resample(picture, config.canvas_px), config.window_px
    windows = [canvas[:, :, y : y + side, x : x + side] for y, x in _corners(config)]
    return torch.cat([*windows, _resample(picture, side)])


def canvas_side(config: CatSegConfig, kind: Views) -> int:
    """Side of the square that the views of a picture merge to."""
    return 4 * config.grid_hw[0] if kind == "single" else config.canvas_px


def merge_views(logits: Tensor, config: CatSegConfig) -> Tensor:
    """Average the views of one picture as probabilities, each class for itself.

    Args:
        logits: (V, k, 4h, 4w), one view or five.

    Returns:
        (k, side, side) float32 in 0..1, of the side `canvas_side` gives.
    """
    logits = logits.float() / config.temperature
    if len(logits) == 1:
        return logits[0].sigmoid()
    side, canvas = config.window_px, config.canvas_px
    views = _resample(logits, side).sigmoid_()
    windows = views.new_zeros(logits.shape[1], canvas, canvas)
    n_windows = views.new_zeros(canvas, canvas)
    for window, (y, x) in zip(views[:-1], _corners(config), strict=True):
        windows[:, y : y + side, x : x + side] += window
        n_windows[y : y + side, x : x + side] += 1
    return windows.div_(n_windows).add_(_resample(views[-1:], canvas)[0]).div_(2)


def _corners(config: CatSegConfig) -> list[tuple[int, int]]:
    step = config.canvas_px - config.window_px
    return [(y, x) for y in (0, step) for x in (0, step)]


def _resample(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) to (N, C, side, side), bilinearly and not antialiased."""
    return x if x.shape[2:] == (side, side) else F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
