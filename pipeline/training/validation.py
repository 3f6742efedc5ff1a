"""Scores while training: on pictures that take no part in it, with whole names, as `escnet evaluate` counts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from escnet.losses import IGNORED, patch_target
from escnet.network import EscNet
from escnet.segmenter import Segmenter
from escnet.text import CompiledVocabulary
from pipeline.scores import NO_CLASS, PixelCounts
from pipeline.training.samples import Sample
from schemas.vocabulary import Vocabulary


class Validator:
    """Measures a network on fixed pictures.

    Args:
        samples: pictures and masks, at the network's input size.
        vocabulary: whose ids the masks hold.
        every: steps between two measurements.
    """

    def __init__(self, samples: Sequence[Sample], vocabulary: Vocabulary, every: int) -> None:
        self._samples, self._vocabulary, self.every = samples, vocabulary, every

    def measure(self, network: EscNet, *, segments: bool) -> dict[str, float]:
        """patch_accuracy of the correlation; with `segments` also miou, miou_seen, miou_heldout, pixel_accuracy."""
        segmenter = Segmenter(network, device=next(network.parameters()).device, views="single")
        compiled = segmenter.compile(self._vocabulary)
        scores = {"patch_accuracy": self._patch_accuracy(network, compiled)}
        if segments:
            scores |= self._segment(segmenter, compiled)
        return scores

    def _segment(self, segmenter: Segmenter, compiled: CompiledVocabulary) -> dict[str, float]:
        counts = PixelCounts([each.id for each in self._vocabulary.classes])
        for sample in self._samples:
            winner = segmenter(sample.picture, compiled).winner
            truth = np.where(sample.mask < 0, NO_CLASS, sample.mask).astype(np.uint16)
            counts.update(winner, truth)
        found = counts.scores()
        by_kind = {
            f"miou_{kind}": found.mean_iou([each.id for each in self._vocabulary.classes if each.heldout == is_heldout])
            for kind, is_heldout in (("seen", False), ("heldout", True))
        }
        scores = {"miou": found.miou, **by_kind, "pixel_accuracy": found.pixel_accuracy}
        return {name: value for name, value in scores.items() if value is not None}

    @torch.no_grad()
    def _patch_accuracy(self, network: EscNet, compiled: CompiledVocabulary) -> float:
        """How often the class with the largest cosine is that of the patch."""
        device, config = compiled.text.embeddings.device, network.config
        mean, std = torch.tensor(config.image_mean), torch.tensor(config.image_std)
        n_right = n_patches = 0
        codes = torch.from_numpy(compiled.codes).to(device)
        for sample in self._samples:
            pixels = ((torch.from_numpy(sample.picture) / 255 - mean) / std).movedim(-1, 0).unsqueeze(0)
            patches = F.normalize(network.encode_patches(pixels.to(device)), dim=1)
            cosines = torch.einsum("bchw,kc->bkhw", patches, compiled.text.embeddings)
            truth = patch_target(torch.from_numpy(sample.mask.astype(np.int64)).unsqueeze(0), config.patch_size)
            truth = truth.to(device)
            is_counted = truth != IGNORED
            n_right += int((codes[cosines.argmax(dim=1)] == truth)[is_counted].sum())
            n_patches += int(is_counted.sum())
        return n_right / max(1, n_patches)
