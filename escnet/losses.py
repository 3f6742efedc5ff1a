"""Training losses: per pixel over the classes of a vocabulary, and per patch between picture and words.

ESC-Net (Lee et al. 2025, arXiv:2411.14723) trains with per-pixel cross-entropy; CAT-Seg (Cho et al. 2024,
arXiv:2303.11797), whose recipe it follows, with binary cross-entropy. The alignment loss is ours, for networks trained
from nothing: CLIP's contrast (Radford et al. 2021, arXiv:2103.00020) of every patch with the names in the batch.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -1  # in a target: no class of the batch, takes no part in any loss
_PURE = 0.7  # of a patch's pixels must be of one class for the patch to count as that class
LARGEST_SCALE = 100.0  # CLIP's own bound on its inverse temperature

LossKind = Literal["cross_entropy", "binary_cross_entropy"]


def segmentation_loss(logits: Tensor, target: Tensor, kind: LossKind) -> Tensor:
    """Mean loss of all labelled pixels; 0 if there is none.

    Args:
        logits: (B, K, h, w), resized bilinearly to the target, as inference does.
        target: (B, H, W) int64, places in the K classes or `IGNORED`.
        kind: cross-entropy over the classes, or the mean over them of binary cross-entropies.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    is_labelled = target != IGNORED
    n_labelled = is_labelled.sum().clamp(min=1)
    if kind == "cross_entropy":
        return F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum") / n_labelled
    one_hot = F.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").mean(dim=1)
    return (losses * is_labelled).sum() / n_labelled


def alignment_loss(patches: Tensor, embeddings: Tensor, target: Tensor, log_scale: Tensor) -> Tensor:
    """Cross-entropy of every patch's cosines with the classes; 0 if no patch has a class.

    Args:
        patches: (B, C, h, w), any norm.
        embeddings: (K, C) unit norm.
        target: (B, h, w) int64 from `patch_target`.
        log_scale: CLIP's learnt inverse temperature, its logarithm.
    """
    patches = F.normalize(patches.float(), dim=1).movedim(1, -1).flatten(0, 2)  # (B*h*w, C)
    with torch.autocast(patches.device.type, enabled=False):  # bfloat16 would make near names one
        logits = log_scale.exp().clamp(max=LARGEST_SCALE) * patches @ embeddings.float().T
    n_labelled = (target != IGNORED).sum().clamp(min=1)
    return F.cross_entropy(logits, target.flatten(), ignore_index=IGNORED, reduction="sum") / n_labelled


def patch_target(target: Tensor, patch_size: int) -> Tensor:
    """The class of each patch, (B, H, W) to (B, H / patch_size, W / patch_size); mixed patches are `IGNORED`."""
    tiles = target.unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size).flatten(-2)  # (B, h, w, p * p)
    commonest = tiles.mode(dim=-1).values
    share = (tiles == commonest.unsqueeze(-1)).float().mean(dim=-1)
    return torch.where(share >= _PURE, commonest, IGNORED)
