"""From the logits of a picture to labels: the winner of every pixel and how sure the model is of it.

Logits are brought to the picture's size bilinearly and judged there, tile by tile, with all classes of a tile at
once: nothing of the size classes x height x width ever exists. Confidence, margin and runner-up are kept on
cells of 4 x 4 pixels, as 8-bit values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from escnet.base_config import CanvasValues, ModelConfig
from schemas.errors import PictureError

CELL = 4  # pixels a side
# Scores a tile holds (classes x pixels); a tile costs about five times its 4 bytes a score while it is judged.
_TILE_SCORES = {"cpu": 2**19, "cuda": 2**24}  # one stays in a CPU cache, the other fills a GPU
_SAMPLINGS_KEPT = 64  # of an axis of pictures of one size, a megabyte or so at most
_TILE_STEP = 8  # tile sides are multiples of it: whole cells, and rows that fill vector registers
# Of a picture whose copy the host does not wait for: it goes to memory that torch keeps for ever.
_PINNED_PIXELS = 2**21
_LEAST_PROBABILITY = 1e-30  # so that logarithms are finite
_OUT_OF_REACH = -1e30  # finite, so that differences of two stay numbers
_LOG2_E = math.log2(math.e)
_LN_2 = math.log(2)


@dataclass(frozen=True)
class Segmentation:
    """What the model says of one picture, before any threshold.

    A code is a class id, or negative for a distractor. A cell is 4 x 4 pixels, fewer at the right and lower edge.

    Args:
        size_hw: height H and width W of the picture in pixels.
        winner: (H, W) int32 code of every pixel's best entry.
        runner_up: (ceil(H/4), ceil(W/4)) int32 code of the second best at pixel (4i + 2, 4j + 2) of cell (i, j), or
            at the last row or column where the cell is cut; the winner's own code in a vocabulary of one entry.
        confidence: (ceil(H/4), ceil(W/4)) uint8, the winner's probability, mean of the cell's pixels, 255 = 1.0.
        margin: (ceil(H/4), ceil(W/4)) uint8, the winner's probability less the runner-up's, likewise.
        entropy_mean: nats, of the softmax over all entries, mean over all pixels.
    """

    size_hw: tuple[int, int]
    winner: np.ndarray
    runner_up: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray
    entropy_mean: float


class PixelValues(NamedTuple):
    """The cell values of a segmentation, each (H, W): runner_up int32, confidence and margin uint8."""

    runner_up: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray


def per_pixel(segmentation: Segmentation) -> PixelValues:
    """Give every pixel the values of its cell."""
    height, width = segmentation.size_hw
    cells = (segmentation.runner_up, segmentation.confidence, segmentation.margin)
    return PixelValues(*(c.repeat(CELL, axis=0)[:height].repeat(CELL, axis=1)[:, :width] for c in cells))


def score(canvas: Tensor, codes: np.ndarray, size_hw: tuple[int, int], config: ModelConfig) -> Segmentation:
    """Judge every pixel of a picture. Not to be called under autocast.

    Args:
        canvas: (K, ch, cw) float32 of the picture, what `config.canvas_holds` says; entries in canonical order, which
            breaks ties.
        codes: (K,) int32 code of each entry.
        size_hw: height and width of the picture in pixels.

    Raises:
        PictureError: a logit is NaN or infinite, as broken weights or an overflow in half precision give.
    """
    (segmentation,) = score_pictures([canvas], [codes], [size_hw], config)
    return segmentation


def score_pictures(
    canvases: Sequence[Tensor], codes: Sequence[np.ndarray], sizes_hw: Sequence[tuple[int, int]], config: ModelConfig
) -> list[Segmentation]:
    """`score` for pictures on one device, for which the host waits twice, however many there are."""
    if not torch.stack([canvas.sum() for canvas in canvases]).isfinite().all():
        raise PictureError("segment", "internal", "the model gave scores that are not finite")
    judged = [_judge_picture(*each, config) for each in zip(canvases, codes, sizes_hw, strict=True)]
    entropy_sums = torch.stack([entropy_sum for _, entropy_sum in judged]).tolist()  # comes after all other copies
    return [
        Segmentation(
            size_hw, *(array.numpy() for array in arrays), entropy_mean=entropy_sum / (size_hw[0] * size_hw[1])
        )
        for (arrays, _), size_hw, entropy_sum in zip(judged, sizes_hw, entropy_sums, strict=True)
    ]


def _judge_picture(
    canvas: Tensor, codes: np.ndarray, size_hw: tuple[int, int], config: ModelConfig
) -> tuple[list[Tensor], Tensor]:
    """The arrays of a segmentation, on their way to the host; and on the device the sum of the pixels' entropies."""
    device = canvas.device
    cells_hw = tuple(-(-side // CELL) for side in size_hw)
    winner = torch.empty(size_hw, dtype=torch.int32, device=device)
    runner_up = torch.empty(cells_hw, dtype=torch.int32, device=device)
    confidence, margin = (torch.empty(cells_hw, dtype=torch.uint8, device=device) for _ in range(2))
    entropy_sum = torch.zeros((), dtype=torch.float64, device=device)
    code_of = torch.from_numpy(codes).to(device, non_blocking=True)
    is_probable = config.canvas_holds == "probabilities"
    for y, x, values in _upsample(canvas, size_hw, 1.0 if is_probable else _LOG2_E / config.temperature):
        bits = values.clamp_(min=_LEAST_PROBABILITY).log2_() if is_probable else values
        tile = _judge(bits, config.canvas_holds)
        cells = (slice(y.start // CELL, -(-y.stop // CELL)), slice(x.start // CELL, -(-x.stop // CELL)))
        winner[y, x] = code_of.take(tile.winner)
        runner_up[cells] = code_of.take(tile.runner_up)
        confidence[cells] = _quantise(tile.confidence)
        margin[cells] = _quantise(tile.margin)
        entropy_sum += tile.entropy.sum(dtype=torch.float64)
    goes_on = winner.numel() <= _PINNED_PIXELS
    arrays = [array.to("cpu", non_blocking=goes_on) for array in (winner, runner_up, confidence, margin)]
    return arrays, entropy_sum


class _Axis(NamedTuple):
    """Bilinear sampling along one axis: output i is (1 - weight[i]) * input[lower[i]] + weight[i] * input[upper[i]]."""

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray


def _axis(n_out: int, n_in: int) -> _Axis:
    """Sampling positions of torch's bilinear interpolation with align_corners=False."""
    position = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    lower = np.floor(position).astype(np.int64)
    return _Axis(lower, np.minimum(lower + 1, n_in - 1), (position - lower).astype(np.float32))


def _parts(axis: _Axis, length: int) -> Iterator[tuple[slice, slice, _Axis]]:
    """Cut an axis: outputs, the inputs they need, and the sampling with inputs counted from the first of these."""
    for start in range(0, len(axis.lower), length):
        lower, upper, weight = (table[start : start + length] for table in axis)
        first = int(lower[0])
        inputs = slice(first, int(upper[-1]) + 1)
        yield slice(start, start + len(lower)), inputs, _Axis(lower - first, upper - first, weight)


def _upsample(canvas: Tensor, size_hw: tuple[int, int], scale: float) -> Iterator[tuple[slice, slice, Tensor]]:
    """The upsampled canvas times `scale`, in tiles of whole cells: rows, columns and (K, R, C).

    A value is the same whatever tile it lies in: the product only adds exact zeros to its two neighbours. Across, a
    product is several times as fast as picking neighbours; down, whole rows are picked, which is faster still.
    """
    n_entries, canvas_height, canvas_width = canvas.shape
    n_pixels = _TILE_SCORES[canvas.device.type] // n_entries
    tile_height = max(_TILE_STEP, math.isqrt(n_pixels // 2) // _TILE_STEP * _TILE_STEP)
    tile_width = max(_TILE_STEP, n_pixels // tile_height // _TILE_STEP * _TILE_STEP)
    height, width = size_hw
    across = _mixings(width, canvas_width, tile_width, canvas.device)
    for y, inputs_y, lower, upper, weight in _pickings(height, canvas_height, tile_height, canvas.device):
        band = canvas[:, inputs_y] * scale  # brings together what the tiles beside each other need
        for x, inputs_x, mixing in across:
            tile = band[:, :, inputs_x] @ mixing
            yield y, x, torch.lerp(tile.index_select(1, lower), tile.index_select(1, upper), weight)


@lru_cache(_SAMPLINGS_KEPT)
def _pickings(
    n_out: int, n_in: int, length: int, device: torch.device
) -> list[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """The parts of an axis for picking: outputs, inputs, and of every output its two inputs and the second's weight."""
    parts = []
    for outputs, inputs, part in _parts(_axis(n_out, n_in), length):
        lower, upper, weight = (_sent(table, device) for table in part)
        parts.append((outputs, inputs, lower, upper, weight[:, None]))
    return parts


@lru_cache(_SAMPLINGS_KEPT)
def _mixings(n_out: int, n_in: int, length: int, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """The parts of an axis for products: outputs, inputs, and the sampling as a matrix (inputs, outputs)."""
    return [
        (outputs, inputs, _sent(_mixing(part), device)) for outputs, inputs, part in _parts(_axis(n_out, n_in), length)
    ]


def _mixing(part: _Axis) -> np.ndarray:
    outputs = np.arange(len(part.lower))
    mixing = np.zeros((part.upper[-1] + 1, len(outputs)), np.float32)
    np.add.at(mixing, (part.lower, outputs), 1 - part.weight)
    np.add.at(mixing, (part.upper, outputs), part.weight)  # the same element at the border
    return mixing


def _sent(table: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(table).to(device, non_blocking=True)


class _Tile(NamedTuple):
    """winner (R, C) and runner_up (cells) are entry indices; entropy (R, C) is in nats; the others are cell means."""

    winner: Tensor
    runner_up: Tensor
    confidence: Tensor
    margin: Tensor
    entropy: Tensor


def _judge(bits: Tensor, holds: CanvasValues) -> _Tile:
    """Find winner, runner-up, probabilities and entropy of a tile in a handful of passes over it.

    Args:
        bits: (K, R, C) logits divided by ln 2, since powers of two are three times as fast as powers of e on a
            CPU, or logarithms of probabilities to the base 2; overwritten.
        holds: what they come from.
    """
    best = bits.amax(0)
    below = bits.sub_(best)  # <= 0, and 0 for the winner
    winner = _first_zero(below)
    powers = torch.exp2(below)
    total = powers.sum(0)
    entropy = total.log() - powers.mul_(below).sum(0) * _LN_2 / total
    below.scatter_(0, winner[None], _OUT_OF_REACH)
    second = below.amax(0)
    if holds == "probabilities":
        confidence, other = torch.exp2(best), torch.exp2(best + second)
    elif holds == "sigmoid logits":
        confidence, other = torch.sigmoid(best * _LN_2), torch.sigmoid((best + second) * _LN_2)
    else:
        confidence, other = 1 / total, torch.exp2(second) / total
    y, x = (_cell_centres(n_pixels, bits.device) for n_pixels in best.shape)
    at_centres = below.index_select(1, y).index_select(2, x)
    runner_up = _first_zero(at_centres.sub_(second.index_select(0, y).index_select(1, x)))
    return _Tile(winner, runner_up, _cell_means(confidence), _cell_means(confidence - other), entropy)


def _first_zero(below: Tensor) -> Tensor:
    """Index of the first zero along the first of the axes; (K, R, C) <= 0 with a zero in every column -> (R, C).

    The same as an arg-max, several times as fast on a CPU, where only the plain maximum is vectorised: non-zeros are
    pushed out of reach of a ramp that falls from K to 1.
    """
    n_entries = len(below)
    ramp = torch.arange(n_entries, 0, -1, dtype=below.dtype, device=below.device).view(-1, 1, 1)
    return n_entries - torch.add(ramp, below, alpha=1e30).amax(0).round_().long()


def _cell_centres(n_pixels: int, device: torch.device) -> Tensor:
    first = CELL // 2
    n_cells = -(-n_pixels // CELL)
    return torch.arange(first, first + CELL * n_cells, CELL, device=device).clamp_(max=n_pixels - 1)


def _cell_means(pixels: Tensor) -> Tensor:
    """(R, C) -> (ceil(R/4), ceil(C/4)); a cell that the edge cuts is the mean of the pixels it has."""
    return F.avg_pool2d(pixels[None, None], CELL, ceil_mode=True, count_include_pad=False)[0, 0]


def _quantise(fraction: Tensor) -> Tensor:
    return (fraction * 255).round().clamp(0, 255).to(torch.uint8)
