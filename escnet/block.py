"""The ESC-Block: prompts from the correlation, SAM on the image, and a refined correlation out of both.

ESC-Net (Lee et al. 2025, arXiv:2411.14723), Fig. 2: PPG, SAM block, class fusion, VLF. Only the correlation leaves a
block; each block starts again from CLIP's patches. Decided here: between blocks the d channels become one by a linear
layer that starts at zero and adds to the incoming correlation, and class fusion comes in two kinds:
- `per_class`: a 1x1 convolution shared by the classes, no merge. A class is then independent of the others up to the
  summary of the vocabulary, so classes can be processed in parts of any size.
- `mean`: the same convolution, then the mean over the classes, one F_v' for all. Nearer to the paper's wording.
"""

from collections.abc import Iterable

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

from escnet.config import ModelConfig
from escnet.prompts import make_prompts
from escnet.sam import SamBlock, encode_prompts
from escnet.vlf import LanguageSummary, VisionLanguageFusion


class EscBlock(nn.Module):
    """One block. `is_last`: its hidden features feed the decoder, so it has no way back to a correlation."""

    def __init__(self, config: ModelConfig, *, is_last: bool) -> None:
        super().__init__()
        self.config = config
        self.sam = SamBlock(config)
        self.fuse = nn.Linear(config.sam.embed_dim, config.sam.embed_dim)  # a 1x1 convolution, channels last
        self.vlf = VisionLanguageFusion(config)
        if not is_last:
            self.to_correlation = nn.Linear(config.hidden_dim, 1)
            nn.init.zeros_(self.to_correlation.weight)
            nn.init.zeros_(self.to_correlation.bias)

    def segment(self, correlation: Tensor, image: Tensor, position: Tensor, prompt_encoder: PromptEncoder) -> Tensor:
        """SAM's view of the image for each of k classes.

        Args:
            correlation: (B, k, h, w).
            image: (B, E, h, w), the patches in SAM's channels.
            position: (1, E, h, w), SAM's positional encoding.

        Returns:
            (B, k, h, w, E).
        """
        prompts = make_prompts(
            correlation.flatten(0, 1),
            stride_px=self.config.patch_size,
            n_objects=self.config.n_objects,
            threshold=self.config.prompt_threshold,
            iterations=self.config.kmeans_iterations,
        )
        sparse, dense = encode_prompts(prompt_encoder, prompts)
        features = self.sam(image, position, sparse, dense)  # (B*k, E, h, w)
        return features.permute(0, 2, 3, 1).unflatten(0, correlation.shape[:2])

    def refine(self, correlation: Tensor, features: Tensor, summary: LanguageSummary) -> Tensor:
        """Hidden features of k classes.

        Args:
            correlation: (B, k, h, w).
            features: (B, k, h, w, E) from `segment`, or their mean over all classes, (B, 1, h, w, E).
            summary: of the whole vocabulary.

        Returns:
            (B, k, h, w, d).
        """
        return self.vlf(correlation, self.fuse(features), summary)

    def next_correlation(self, correlation: Tensor, hidden: Tensor) -> Tensor:
        """The correlation that leaves the block, (B, k, h, w), in the precision it came in."""
        return correlation + self.to_correlation(hidden).squeeze(-1).to(correlation.dtype)


def mean_over_classes(parts: Iterable[Tensor], n_classes: int) -> Tensor:
    """Class fusion `mean`: one (B, 1, h, w, E) from the features (B, k, h, w, E) of all parts.

    The shared convolution is linear, so `EscBlock.refine` may apply it after the mean.
    """
    return sum(part.sum(dim=1, keepdim=True, dtype=torch.float32) for part in parts) / n_classes
