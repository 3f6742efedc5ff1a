"""Which classes of a vocabulary can be in a picture at all, before the blocks run: the others cost nothing then.

Judged from the initial correlation C0, by CLIP's own probabilities (Radford et al. 2021, arXiv:2103.00020): the softmax
over all classes at a patch, with CLIP's learnt scale, averaged over 3 x 3 patches. What a class reaches at best is its
score. A class stays if its score is at least `MIN_SHARE` of the likeliest class's, and at most `limit` stay: where all
scores are near, as of random weights, the margin rules out nothing, and the limit holds. With class fusion `per_class`
the logits of those that stay are not changed by this; with `mean` they would be.
"""

from torch import Tensor
from torch.nn import functional as F

from escnet.losses import LARGEST_SCALE

MIN_SHARE = 0.03  # of the likeliest class's score; docs/model.md has what it was chosen by
_AREA = 3  # patches a side
_AT_LEAST = 2  # a winner and a runner-up


def select_classes(correlation: Tensor, log_scale: Tensor, limit: int) -> list[Tensor]:
    """The classes of each picture that stay.

    Args:
        correlation: (B, V, K, h, w), C0 of all views of each picture; a class is in a picture if it is in one view.
        log_scale: CLIP's learnt inverse temperature, its logarithm.
        limit: most classes, at least 2.

    Returns:
        For each picture (n,) int64 places in the K classes, ascending, 2 to `limit` of them, or all if K is smaller.
        Equal scores go to the first.
    """
    b, _, n_classes = correlation.shape[:3]
    probability = (correlation * log_scale.exp().clamp(max=LARGEST_SCALE)).softmax(dim=2)
    area = F.avg_pool2d(probability.flatten(0, 1), _AREA, stride=1, padding=_AREA // 2)
    scores = area.amax(dim=(2, 3)).view(b, -1, n_classes).amax(dim=1)  # (B, K)
    ranked, order = scores.sort(dim=1, descending=True, stable=True)
    n_near = (ranked >= MIN_SHARE * ranked[:, :1]).sum(dim=1).clamp(min=_AT_LEAST, max=limit)
    return [places[:n].sort().values for places, n in zip(order, n_near.tolist(), strict=True)]
