"""What every network is to the rest of this software: CLIP's two towers, and what a subclass makes of them.

`Segmenter`, `text`, `checkpoint` and `training` know a network by this class alone. Three things are apart, so that
each is computed as rarely as it can be: what depends on the picture alone (`encode_image`), on the vocabulary alone
(`prepare_text`), and on both (`logits_in_parts`).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from escnet import views
from escnet.base_config import ModelConfig
from escnet.clip import build_clip, dense_features, encode_text
from escnet.correlation import correlate
from schemas.job import Views


@dataclass(frozen=True)
class ImageFeatures:
    """All that depends on the pictures alone; each network adds its own.

    patches: (B, C, h, w) float32, CLIP's dense features, any norm.
    """

    patches: Tensor


@dataclass(frozen=True)
class TextFeatures:
    """All that depends on the vocabulary alone; each network adds its own.

    embeddings: (K, C) float32, unit norm.
    """

    embeddings: Tensor


class Network(nn.Module):
    """A network with random weights; `torch.manual_seed` decides which."""

    PARTS: ClassVar[dict[str, Callable[[str], bool]]]  # each parameter's name belongs to exactly one of them
    NEW_PARTS: ClassVar[re.Pattern[str]]  # names of what no other network's weights begin, and all of which learns
    TUNED_PARTS: ClassVar[re.Pattern[str]]  # names of what others trained, and the network's paper trains further
    UNTRAINABLE: ClassVar[re.Pattern[str]]  # names of what is frozen whatever is trained, or has no effect

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = build_clip(config)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, S, S) float, already normalised with the configuration's mean and std."""
        raise NotImplementedError

    def prepare_text(self, embeddings: Tensor) -> TextFeatures:
        """(K, C) text embeddings, any norm, one for each class of the whole vocabulary."""
        raise NotImplementedError

    def logits_in_parts(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        class_chunk: int | None = None,
        classes: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """The logits, `class_chunk` classes at a time in their order, (B, k, 4h, 4w), as `logits` has them.

        Args:
            classes: (B, n) places in the vocabulary, in each picture others: only these. None for all classes.
        """
        raise NotImplementedError

    def encode_patches(self, pixels: Tensor) -> Tensor:
        """The patches alone, (B, C, h, w): what `encode_image` begins with."""
        return dense_features(self.clip, pixels, self.config)[0].float()

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """(N, context) token ids to (N, C) text embeddings, any norm."""
        return encode_text(self.clip, tokens)

    def correlate(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """The cosine of every patch with every class, (B, K, h, w)."""
        patches = image.patches.flatten(2).transpose(1, 2)  # (B, h*w, C)
        with torch.autocast(patches.device.type, enabled=False):  # what follows hangs on its third decimal
            return correlate(patches, text.embeddings, self.config.grid_hw)

    def logits(
        self,
        image: ImageFeatures,
        text: TextFeatures,
        class_chunk: int | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """One logit per class and pixel.

        Args:
            class_chunk: classes at a time, all if None; bounds the memory and changes nothing but rounding.
            classes: as in `logits_in_parts`.

        Returns:
            (B, K, 4h, 4w) float32, not yet divided by the configuration's temperature.
        """
        return torch.cat(list(self.logits_in_parts(image, text, class_chunk, classes)), dim=1)

    def forward(self, pixels: Tensor, embeddings: Tensor) -> Tensor:
        """(B, 3, S, S) pixels and (K, C) text embeddings to (B, K, 4h, 4w) logits."""
        return self.logits(self.encode_image(pixels), self.prepare_text(embeddings))

    def prepare_views(self, picture: np.ndarray, kind: Views) -> views.Prepared:
        """A picture (H, W, 3) uint8 RGB resized for the network; safe in threads."""
        return views.prepare(picture, self.config, kind)

    def view_batch(self, batch: Sequence[views.Prepared], kind: Views, device: torch.device) -> Tensor:
        """All views of all pictures, picture by picture: (B*V, 3, S, S) float32, normalised, on `device`.

        Args:
            kind: with which they were prepared.
        """
        del kind  # already cut
        return views.view_batch(batch, self.config, device)

    def canvas_side(self, kind: Views) -> int:
        """Side of the square that the views of a picture merge to."""
        return views.canvas_side(self.config, kind)

    def merge_views(self, logits: Tensor) -> Tensor:
        """(V, k, 4h, 4w) logits of the views of one picture to their canvas (k, side, side), each class for itself."""
        return views.merge_views(logits)


def count_parameters(network: Network) -> dict[str, int]:
    """Parameters of each part of the network, frozen ones too; their sum is all of them."""
    counts = dict.fromkeys(network.PARTS, 0)
    for name, parameter in network.named_parameters():
        (part,) = (part for part, holds in network.PARTS.items() if holds(name))
        counts[part] += parameter.numel()
    return counts
