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

from escnet.config import EscNetConfig
from escnet.prompts import make_prompts
from escnet.sam import SamBlock, dense_basis, dense_position, encode_prompts
from escnet.vlf import LanguageSummary, VisionLanguageFusion
from escnet.windows import Windows


class EscBlock(nn.Module):
    """One block. `is_last`: its hidden features feed the decoder, so it has no way back to a correlation."""

    def __init__(self, config: EscNetConfig, *, is_last: bool) -> None:
        super().__init__()
        self.config = config
        self.sam = SamBlock(config)
        self.fuse = nn.Linear(config.sam.embed_dim, config.sam.embed_dim)  # a 1x1 convolution, channels last
        self.vlf = VisionLanguageFusion(config)
        if not is_last:
            self.to_correlation = nn.Linear(config.hidden_dim, 1)
            nn.init.zeros_(self.to_correlation.weight)
            nn.init.zeros_(self.to_correlation.bias)

    @property
    def windows(self) -> Windows:
        """The order of the patches within a block."""
        return self.vlf.vision.windows

    def project(self, patches: Tensor) -> Tensor:
        """CLIP's patches (B, C, h, w) in SAM's channels and the order of `windows`, (B, n, E)."""
        return self.windows.to_tokens(self.sam.project(patches)).transpose(1, 2).contiguous()

    def segment(self, correlation: Tensor, image: Tensor, prompt_encoder: PromptEncoder) -> Tensor:
        """SAM's view of the image for each of k classes.

        Args:
            correlation: (B, k, h, w).
            image: (B, n, E) from `project`.

        Returns:
            (B, k, n, E).
        """
        prompts = make_prompts(
            correlation.flatten(0, 1),
            stride_px=self.config.patch_size,
            n_objects=self.config.n_objects,
            threshold=self.config.prompt_threshold,
            iterations=self.config.kmeans_iterations,
        )
        sparse, dense = encode_prompts(prompt_encoder, prompts)
        position, dense = (self.windows.to_tokens(each).mT for each in (dense_position(prompt_encoder), dense))
        features = self.sam(image, position, sparse, dense, dense_basis(prompt_encoder))  # (B*k, n, E)
        return features.unflatten(0, correlation.shape[:2])

    def refine(self, correlation: Tensor, features: Tensor, summary: LanguageSummary) -> Tensor:
        """Hidden features of k classes.

        Args:
            correlation: (B, k, h, w).
            features: (B, k, n, E) from `segment`, or their mean over all classes, (B, 1, n, E).
            summary: of the whole vocabulary.

        Returns:
            (B, k, n, d).
        """
        return self.vlf(self.windows.to_tokens(correlation), self.fuse(features), summary)

    def next_correlation(self, correlation: Tensor, hidden: Tensor) -> Tensor:
        """The correlation that leaves the block, (B, k, h, w), in the precision it came in."""
        change = self.to_correlation(hidden).squeeze(-1).to(correlation.dtype)  # (B, k, n)
        return correlation + self.windows.to_grid(change)


def mean_over_classes(parts: Iterable[Tensor], n_classes: int) -> Tensor:
    """Class fusion `mean`: one (B, 1, n, E) from the features (B, k, n, E) of all parts.

    The shared convolution is linear, so `EscBlock.refine` may apply it after the mean.
    """
    return sum(part.sum(dim=1, keepdim=True, dtype=torch.float32) for part in parts) / n_classes
