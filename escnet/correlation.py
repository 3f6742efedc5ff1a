"""Patch-to-class correlation, from which the prompts for the SAM blocks are made.

The similarity is CLIP's (Radford et al. 2021, arXiv:2103.00020, Fig. 3), per patch instead of
per image; ESC-Net (Lee et al. 2025, arXiv:2411.14723) is the model that uses it this way.
Difference: no temperature, so values stay in [-1, 1] and thresholds stay comparable between weights.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def correlate(patches: Tensor, classes: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Cosine similarity of every image patch with every class name.

    Args:
        patches: (B, h*w, C) CLIP patch features in row-major order, any norm.
        classes: (K, C) one text embedding per class, any norm.
        grid_hw: patch grid as (h, w).

    Returns:
        (B, K, h, w) in [-1, 1], same dtype and device as `patches`.
    """
    patches = F.normalize(patches, dim=-1)
    classes = F.normalize(classes, dim=-1)
    return torch.einsum("bnc,kc->bkn", patches, classes).unflatten(-1, grid_hw)  # (B, K, h*w) -> (B, K, h, w)
