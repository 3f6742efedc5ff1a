"""The temperature of a model under which its ground truth is likeliest (Guo et al. 2017, arXiv:1706.04599, 4.2)."""

import numpy as np
import torch
from torch import Tensor

from escnet.config import ModelConfig
from pipeline.evaluation.scores import NO_CLASS
from schemas.errors import InputError

_RATIOS = np.geomspace(1 / 20, 20, 121)  # of the new temperature to the old one; what lies between is interpolated
_MOST_CERTAIN = 1 - 1e-6  # of a winner, so that its being wrong has a finite likelihood
_MOST_SAMPLES = 2048  # logits of a picture


class TemperatureFit:
    """Sums the negative log-likelihood of the ground truth over samples, for every temperature of a row.

    Args:
        config: the model's, with the temperature it has now.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._is_sigmoid = config.loss == "binary_cross_entropy"
        self._temperatures = config.temperature * _RATIOS
        self._sums = np.zeros(len(_RATIOS))
        self._n_samples = 0

    def add(self, logits: Tensor, classes: np.ndarray, truth: np.ndarray) -> None:
        """Add a picture: (K, ch, cw) logits, (K,) the class of each, NO_CLASS for none, and (H, W) class ids."""
        values, is_right = self._samples(logits.cpu(), torch.from_numpy(classes.astype(np.int64)), truth)
        self._n_samples += values.shape[1]
        for k, temperature in enumerate(self._temperatures):
            self._sums[k] += float(self._loss(values / temperature, is_right).sum(dtype=torch.float64))

    def _samples(self, logits: Tensor, classes: Tensor, truth: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits (K, n) where there is ground truth, and whether an entry is right there; evenly spread."""
        rows, columns = ((np.arange(n) + 0.5) / n for n in logits.shape[1:])
        height, width = truth.shape
        true = truth[np.ix_((rows * height).astype(int), (columns * width).astype(int))].ravel()
        is_right = classes[:, None] == torch.from_numpy(true.astype(np.int64))
        usable = np.flatnonzero(true != NO_CLASS)
        chosen = torch.from_numpy(usable[:: max(1, -(-len(usable) // _MOST_SAMPLES))])
        return logits.flatten(1)[:, chosen], is_right[:, chosen]

    def _loss(self, values: Tensor, is_right: Tensor) -> Tensor:
        """(n,): of the softmax, and where no right entry competes, of its winner being wrong; with sigmoids of the
        winner's being right or not.
        """
        if self._is_sigmoid:
            best, winner = values.max(0)
            wins = is_right.gather(0, winner[None])[0].float()
            return torch.nn.functional.binary_cross_entropy_with_logits(best, wins, reduction="none")
        total, best = values.logsumexp(0), values.amax(0)
        right = values.masked_fill(~is_right, -torch.inf).logsumexp(0)
        others = total + torch.log1p(-(best - total).exp().clamp(max=_MOST_CERTAIN))
        return total - torch.where(is_right.any(0), right, others)

    def best(self, truth_name: str) -> float:
        """The temperature with the least loss, between those of the row by a parabola in their logarithms.

        Raises:
            InputError: no sample was of use; names the ground truth.
        """
        if self._n_samples == 0:
            raise InputError(f"{truth_name}: no pixel of its masks can be used to calibrate by")
        best = int(self._sums.argmin())
        if best in (0, len(self._sums) - 1):
            return float(self._temperatures[best])
        left, middle, right = self._sums[best - 1 : best + 2]
        step = 0.5 * (left - right) / (left - 2 * middle + right)
        return float(self._temperatures[best] * (_RATIOS[1] / _RATIOS[0]) ** step)
