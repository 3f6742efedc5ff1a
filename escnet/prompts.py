"""PPG, the pseudo prompt generator: points and a mask for every class, out of its correlation map.

ESC-Net (Lee et al. 2025, arXiv:2411.14723): softmax over the grid, threshold, k-means on the positions
of the pixels that are left, and for each region its maximum as a point and its probabilities as a mask.
The paper leaves these open; decided here:
- a pixel is kept if P > alpha / (h*w): relative to uniform, so alpha does not depend on the resolution;
- k-means starts at the maximum, goes on with the farthest pixel, and runs a fixed number of Lloyd iterations;
- the regions of a class make one mask together (they are disjoint), as N_o passes through SAM would cost N_o times;
- the mask runs from 0 at the threshold to 1 at the class's maximum, so that a pixel on the edge of being kept
  changes the mask by nothing: rounding in the last bit must not be seen in the labels.
Ties go to the lowest index. Everything is elementwise per class: no class and no batch can change another's prompts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MASK_SCALE = 4  # SAM's prompt encoder makes masks four times smaller, on each side


@dataclass(frozen=True)
class Prompts:
    """Prompts of M classes; `sam.encode_prompts` turns them into embeddings.

    points: (M, N_o, 2) as (x, y) in pixels of the network's input, centres of patches; zero where missing.
    labels: (M, N_o), 1 a point of the class, -1 not a point (SAM's own values).
    masks: (M, 1, 4h, 4w) in [0, 1].
    is_empty: (M,) bool, no pixel of the grid was kept.
    """

    points: Tensor
    labels: Tensor
    masks: Tensor
    is_empty: Tensor


@torch.no_grad()
def make_prompts(correlation: Tensor, *, stride_px: int, n_objects: int, threshold: float, iterations: int) -> Prompts:
    """Prompts for every map of a correlation; no gradient passes.

    Args:
        correlation: (M, h, w), a map for each class of each image.
        stride_px: side of a patch in pixels of the network's input.
        n_objects: N_o, most regions of a class.
        threshold: alpha, how many times the uniform probability a pixel must exceed.
        iterations: Lloyd iterations.
    """
    h, w = correlation.shape[-2:]
    probability = correlation.float().flatten(1).softmax(dim=-1).unflatten(-1, (h, w))
    floor = threshold / (h * w)
    inside = probability > floor  # (M, h, w)
    regions = cluster_positions(inside, probability, n_objects, iterations)
    has_pixel = regions.flatten(2).any(dim=-1)  # (M, N_o)
    best = (probability.unsqueeze(1) * regions).flatten(2).argmax(dim=-1)  # (M, N_o), row-major index of the maximum
    points = (torch.stack([best % w, best // w], dim=-1) + 0.5) * stride_px
    excess = (probability - floor).clamp(min=0.0)
    masks = excess / excess.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(excess.dtype).tiny)
    masks = F.interpolate(masks.unsqueeze(1), scale_factor=MASK_SCALE, mode="bilinear", align_corners=False)
    return Prompts(
        points=points * has_pixel.unsqueeze(-1),
        labels=has_pixel.int() * 2 - 1,
        masks=masks,
        is_empty=~inside.flatten(1).any(dim=-1),
    )


def cluster_positions(inside: Tensor, probability: Tensor, n_regions: int, iterations: int) -> Tensor:
    """k-means on the positions of the pixels inside, for M maps at once.

    Args:
        inside: (M, h, w) bool, the pixels to be clustered.
        probability: (M, h, w), whose maximum inside is the first centre.
        n_regions: how many centres; a map with fewer pixels leaves regions empty.
        iterations: Lloyd iterations after the farthest-point start.

    Returns:
        (M, n_regions, h, w) bool: disjoint regions that together are `inside`.
    """
    h, w = inside.shape[-2:]
    rows = torch.arange(h, device=inside.device, dtype=torch.float32)
    columns = torch.arange(w, device=inside.device, dtype=torch.float32)
    centres = _farthest_points(inside, probability, n_regions, rows, columns)
    regions = _assign(centres, inside, rows, columns)
    for _ in range(iterations):
        n_pixels = regions.sum(dim=(2, 3))  # (M, N)
        y = (regions.sum(dim=3) * rows).sum(dim=-1) / n_pixels
        x = (regions.sum(dim=2) * columns).sum(dim=-1) / n_pixels
        means = torch.stack([y, x], dim=-1)
        centres = torch.where(n_pixels.unsqueeze(-1) > 0, means, centres)  # a centre that lost its pixels stays
        regions = _assign(centres, inside, rows, columns)
    return regions


def _farthest_points(inside: Tensor, probability: Tensor, n_points: int, rows: Tensor, columns: Tensor) -> Tensor:
    """(M, N, 2) as (y, x): the maximum, then again and again the pixel inside farthest from those before it.

    With fewer pixels than points an earlier pixel comes back, and gets no region, as the first of equals takes all.
    """
    w = columns.shape[0]
    score = probability.masked_fill(~inside, -1.0).flatten(1)  # what the next centre has most of
    nearest = torch.full_like(score, torch.inf)
    centres = []
    for _ in range(n_points):
        index = score.argmax(dim=-1)
        centre = torch.stack([index // w, index % w], dim=-1).float()  # (M, 2)
        centres.append(centre)
        nearest = torch.minimum(nearest, _squared_distances(centre.unsqueeze(1), rows, columns).flatten(1))
        score = nearest.masked_fill(~inside.flatten(1), -1.0)
    return torch.stack(centres, dim=1)


def _assign(centres: Tensor, inside: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Every pixel inside to the nearest centre, the first of equals: (M, N, h, w) bool."""
    distances = _squared_distances(centres, rows, columns)
    is_nearest = distances == distances.amin(dim=1, keepdim=True)  # several where centres are equally near
    regions = []
    for claimed in is_nearest.unbind(dim=1):  # a third of the time that argmin takes over so few centres
        regions.append(claimed & inside)
        inside = inside & ~claimed
    return torch.stack(regions, dim=1)


def _squared_distances(centres: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """From each of (M, N, 2) centres to every pixel of the grid: (M, N, h, w)."""
    dy = (centres[..., :1] - rows).square()  # (M, N, h)
    dx = (centres[..., 1:] - columns).square()  # (M, N, w)
    return dy.unsqueeze(-1) + dx.unsqueeze(-2)
