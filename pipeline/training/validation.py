"""Scores while training: on pictures that take no part in it, with whole names, as `escnet evaluate` counts."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from escnet.base_network import Network
from escnet.losses import IGNORED, patch_target
from escnet.segmenter import Dtype, Segmenter
from escnet.text import CompiledVocabulary
from escnet.views import Prepared
from pipeline.evaluation.scores import NO_CLASS, PixelCounts
from pipeline.picture.decide import sorted_distractors
from pipeline.training.samples import Sample
from pipeline.training.sources import resize_mask
from schemas.vocabulary import Vocabulary


class Validator:
    """Measures a network on fixed pictures of any size, each seen once, whole.

    Args:
        samples: pictures and masks; read anew at every measurement.
        vocabulary: whose ids the masks hold.
        every: steps between two measurements.
        dtype: what the network computes in.
    """

    def __init__(self, samples: Sequence[Sample], vocabulary: Vocabulary, every: int, dtype: Dtype = "float32") -> None:
        self._samples, self._vocabulary, self.every, self._dtype = samples, vocabulary, every, dtype

    def measure(self, network: Network, *, segments: bool) -> dict[str, float]:
        """patch_accuracy of the correlation; with `segments` also miou, miou_seen, miou_heldout, pixel_accuracy.

        The names stand in the vocabulary's own templates, as `escnet annotate` puts them.
        """
        allows_tf32 = torch.backends.cudnn.allow_tf32  # of the whole process: training goes on with what it had
        try:
            return self._measure(network, segments=segments)
        finally:
            torch.backends.cudnn.allow_tf32 = allows_tf32

    def _measure(self, network: Network, *, segments: bool) -> dict[str, float]:
        device = next(network.parameters()).device
        segmenter = Segmenter(network, device=device, dtype=self._dtype, views="single")
        compiled = segmenter.compile(self._vocabulary)
        counts = PixelCounts([each.id for each in self._vocabulary.classes])
        n_right = n_patches = 0
        for sample in self._samples:
            prepared = segmenter.prepare(sample.picture)
            right, patches = _patches(network, prepared, sample.mask, compiled)
            n_right, n_patches = n_right + right, n_patches + patches
            if segments:
                (found,) = segmenter.segment([prepared], compiled)
                counts.update(
                    self._classes(found.winner), np.where(sample.mask < 0, NO_CLASS, sample.mask).astype(np.uint16)
                )
        scores = {"patch_accuracy": n_right / max(1, n_patches)}
        return scores | self._scores(counts) if segments and counts.truth.any() else scores

    def _classes(self, winner: np.ndarray) -> np.ndarray:
        """Codes to ids: a distractor is the class that it becomes, or none."""
        for place, each in enumerate(sorted_distractors(self._vocabulary)):
            winner = np.where(winner == -1 - place, NO_CLASS if each.becomes is None else each.becomes, winner)
        return winner

    def _scores(self, counts: PixelCounts) -> dict[str, float]:
        found = counts.scores()
        by_kind = {
            f"miou_{kind}": found.mean_iou([each.id for each in self._vocabulary.classes if each.heldout == is_heldout])
            for kind, is_heldout in (("seen", False), ("heldout", True))
        }
        scores = {"miou": found.miou, **by_kind, "pixel_accuracy": found.pixel_accuracy}
        return {name: value for name, value in scores.items() if value is not None}


@torch.no_grad()
def _patches(network: Network, prepared: Prepared, mask: np.ndarray, compiled: CompiledVocabulary) -> tuple[int, int]:
    """Patches whose class has the largest cosine, and all that are of one class."""
    device, config = compiled.text.embeddings.device, network.config
    patches = F.normalize(network.encode_patches(network.view_batch([prepared], "single", device)), dim=1)
    cosines = torch.einsum("bchw,kc->bkhw", patches, compiled.text.embeddings)
    small = torch.from_numpy(resize_mask(mask, config.image_size).astype(np.int64))
    truth = patch_target(small.unsqueeze(0), config.patch_size).to(device)
    codes = torch.from_numpy(compiled.codes).to(device)
    is_counted = truth != IGNORED
    return int((codes[cosines.argmax(dim=1)] == truth)[is_counted].sum()), int(is_counted.sum())
