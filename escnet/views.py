"""The views of a picture that the network sees, and how their logits become one canvas.

`single` shows the whole picture once. `sliding` is CAT-Seg's protocol (Cho et al. 2024, arXiv:2303.11797),
which ESC-Net follows: the picture is resized to a square canvas, four overlapping windows of it and the whole
picture go through the network. The windows are averaged among themselves where they overlap, and then with the
whole view, half and half everywhere. They step by two thirds of the patch grid, rounded to whole patches (16 of
24: a 640 px canvas for 384 px windows), so that window logits lie exactly on canvas logits and nothing but the
whole view is resampled. Difference: logits are averaged, where CAT-Seg averages probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from escnet.base_config import ModelConfig, window_stride
from schemas.job import Views


@dataclass(frozen=True)
class Prepared:
    """A picture resized for the network: pixels (V, 3, h, w) uint8 RGB, and the picture's own (H, W) in pixels."""

    pixels: np.ndarray
    size_hw: tuple[int, int]


def prepare(picture: np.ndarray, config: ModelConfig, views: Views) -> Prepared:
    """Resize a picture to its views; Pillow alone, so threads can do it side by side.

    Args:
        picture: (H, W, 3) uint8 RGB of any size from 1 x 1.

    Raises:
        ValueError: the array is not such a picture.
    """
    check_picture(picture)
    side = config.image_size
    image = Image.fromarray(picture)
    if views == "single":
        shown = [resize(image, (side, side))]
    else:
        step = window_stride(config.grid_hw[0]) * config.patch_size
        canvas = resize(image, (side + step, side + step))
        corners = [(x, y) for y in (0, step) for x in (0, step)]
        shown = [canvas.crop((x, y, x + side, y + side)) for x, y in corners] + [resize(canvas, (side, side))]
    pixels = np.stack([np.asarray(view).transpose(2, 0, 1) for view in shown])
    return Prepared(np.ascontiguousarray(pixels), (picture.shape[0], picture.shape[1]))


def check_picture(picture: np.ndarray) -> None:
    """Raise ValueError unless the array is (H, W, 3) of uint8, of at least one pixel."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"expected a picture (H, W, 3) of uint8, found {picture.shape} of {picture.dtype}")


def resize(image: Image.Image, size_hw: tuple[int, int]) -> Image.Image:
    """Bilinearly, and antialiased where it shrinks."""
    return image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR)


def view_batch(batch: Sequence[Prepared], config: ModelConfig, device: torch.device) -> Tensor:
    """All views of all pictures, picture by picture: (B*V, 3, S, S) float32, normalised, on `device`."""
    pixels = torch.from_numpy(np.concatenate([prepared.pixels for prepared in batch]))
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return normalise(pixels.to(device, non_blocking=True).float(), config)


def normalise(pixels: Tensor, config: ModelConfig) -> Tensor:
    """(..., 3, H, W) float32 of 0..255, in place, to what the network was trained with."""
    mean = torch.tensor(config.image_mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(config.image_std, device=pixels.device).view(3, 1, 1)
    return pixels.div_(255).sub_(mean).div_(std)


def canvas_side(config: ModelConfig, views: Views) -> int:
    """Side in logits of the square that the views of a picture merge to."""
    grid = config.grid_hw[0]
    return 4 * (grid if views == "single" else grid + window_stride(grid))


def merge_views(logits: Tensor) -> Tensor:
    """Average the views of one picture, each class for itself, so chunks of classes may be merged one by one.

    The whole view counts for a half, and so do the windows, averaged among themselves.

    Args:
        logits: (V, K, 4h, 4w) of the views of `prepare`, in its order; one or five.

    Returns:
        (K, 4h, 4w) for one view; (K, 4h + 4s, 4w + 4s) float32 for five, s the stride in patches.
    """
    if len(logits) == 1:
        return logits[0].float()
    side = logits.shape[-1]
    step = 4 * window_stride(side // 4)
    size_hw = (side + step, side + step)
    windows = logits.new_zeros(logits.shape[1], *size_hw, dtype=torch.float32)
    n_windows = logits.new_zeros(size_hw, dtype=torch.float32)
    corners = [(y, x) for y in (0, step) for x in (0, step)]
    for window, (y, x) in zip(logits[:-1], corners, strict=True):
        windows[:, y : y + side, x : x + side] += window
        n_windows[y : y + side, x : x + side] += 1
    whole = F.interpolate(logits[-1:].float(), size_hw, mode="bilinear", align_corners=False)[0]
    return windows.div_(n_windows).add_(whole).div_(2)
