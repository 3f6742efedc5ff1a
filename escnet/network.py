"""ESC-Net: a picture and words in, one logit per class and pixel out.

"Effective SAM Combination for Open-Vocabulary Semantic Segmentation", Lee et al. 2025, arXiv:2411.14723, Fig. 2. What
the paper leaves open is decided in the module where it arises; docs/model.md lists it all. Three things are apart
that the figure draws together: what depends on the picture alone (`encode_image`), on the vocabulary alone
(`prepare_text`), and on both (`logits`), so that each is computed as rarely as it can be.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.block import EscBlock, mean_over_classes
from escnet.clip import build_clip, dense_features, encode_text
from escnet.config import ModelConfig
from escnet.correlation import correlate
from escnet.decoder import Decoder
from escnet.sam import build_prompt_encoder
from escnet.vlf import LanguageSummary


@dataclass(frozen=True)
class ImageFeatures:
    """All that depends on the pictures alone.

    patches: (B, C, h, w) float32, CLIP's dense features F_v, any norm.
    sam_inputs: for each block (B, h*w, E), the patches in SAM's channels, in the order of `windows.py`.
    guidance: for each decoder stage (B, stage width, 2h, 2w) and (B, stage width, 4h, 4w).
    """

    patches: Tensor
    sam_inputs: list[Tensor]
    guidance: list[Tensor]


@dataclass(frozen=True)
class TextFeatures:
    """All that depends on the vocabulary alone.

    embeddings: (K, C) float32, unit norm.
    summaries: for each block, what its language attention needs.
    """

    embeddings: Tensor
    summaries: list[LanguageSummary]


class EscNet(nn.Module):
    """The network, randomly initialised; `torch.manual_seed` decides how."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = build_clip(config)
        self.prompt_encoder = build_prompt_encoder(config)
        n = config.n_blocks
        self.blocks = nn.ModuleList(EscBlock(config, is_last=i == n - 1) for i in range(n))
        self.decoder = Decoder(config)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, S, S) float, already normalised with the configuration's mean and std."""
        patches, taps = dense_features(self.clip, pixels, self.config)
        sam_inputs = [block.project(patches) for block in self.blocks]
        return ImageFeatures(patches.float(), sam_inputs, self.decoder.guide(taps))

    def encode_patches(self, pixels: Tensor) -> Tensor:
        """The patches alone, (B, C, h, w): what `encode_image` begins with."""
        return dense_features(self.clip, pixels, self.config)[0].float()

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """(N, context) token ids to (N, C) text embeddings, any norm."""
        return encode_text(self.clip, tokens)

    def prepare_text(self, embeddings: Tensor) -> TextFeatures:
        """(K, C) text embeddings, any norm, one for each class of the whole vocabulary."""
        embeddings = F.normalize(embeddings.float(), dim=-1)
        return TextFeatures(embeddings, [block.vlf.language.summarise(embeddings) for block in self.blocks])

    def logits(self, image: ImageFeatures, text: TextFeatures, class_chunk: int | None = None) -> Tensor:
        """One logit per class and pixel.

        Args:
            class_chunk: classes at a time, all if None; bounds the memory and changes nothing but rounding.

        Returns:
            (B, K, 4h, 4w) float32, not yet divided by the configuration's temperature.
        """
        return torch.cat(list(self.logits_in_parts(image, text, class_chunk)), dim=1)

    def logits_in_parts(
        self, image: ImageFeatures, text: TextFeatures, class_chunk: int | None = None
    ) -> Iterator[Tensor]:
        """The logits, `class_chunk` classes at a time in their order, (B, k, 4h, 4w); none is kept here."""
        correlation = self.correlate(image, text)
        parts: Sequence[Tensor] = correlation.split(class_chunk or correlation.shape[1], dim=1)
        return self.refine(image, parts, text.summaries)

    def correlate(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """The correlation C0 of every patch with every class, (B, K, h, w)."""
        patches = image.patches.flatten(2).transpose(1, 2)  # (B, h*w, C)
        with torch.autocast(patches.device.type, enabled=False):  # the prompts hang on its third decimal
            return correlate(patches, text.embeddings, self.config.grid_hw)

    def refine(
        self, image: ImageFeatures, parts: Sequence[Tensor], summaries: Sequence[LanguageSummary]
    ) -> Iterator[Tensor]:
        """Logits (B, k, 4h, 4w) for each part (B, k, h, w) of a correlation, through all blocks and the decoder.

        The classes of a part may be others in each picture: all that a block knows of a class is its correlation.
        """
        for block, sam_input, summary in zip(self.blocks, image.sam_inputs, summaries, strict=True):
            hidden = self._run_block(block, parts, sam_input, summary)
            if block is self.blocks[-1]:
                yield from map(partial(self._decode, image.guidance), hidden)
            else:
                parts = list(map(block.next_correlation, parts, hidden))

    def forward(self, pixels: Tensor, embeddings: Tensor) -> Tensor:
        """(B, 3, S, S) pixels and (K, C) text embeddings to (B, K, 4h, 4w) logits."""
        return self.logits(self.encode_image(pixels), self.prepare_text(embeddings))

    def _run_block(
        self, block: EscBlock, parts: Sequence[Tensor], sam_input: Tensor, summary: LanguageSummary
    ) -> Iterator[Tensor]:
        """Hidden features (B, k, h*w, d) for each part of a correlation, computed when it is asked for."""
        features: Iterator[Tensor] = (block.segment(part, sam_input, self.prompt_encoder) for part in parts)
        if self.config.fusion == "mean":
            features = repeat(mean_over_classes(features, sum(part.shape[1] for part in parts)))
        return map(partial(block.refine, summary=summary), parts, features)

    def _decode(self, guidance: Sequence[Tensor], hidden: Tensor) -> Tensor:
        """(B, k, h*w, d) to logits (B, k, 4h, 4w)."""
        hidden = self.blocks[-1].windows.to_grid(hidden.flatten(0, 1), dim=1)  # (B*k, h, w, d)
        return self.decoder(hidden.permute(0, 3, 1, 2), guidance)


_PARTS: dict[str, Callable[[str], bool]] = {
    "clip text": lambda name: name.startswith("clip.") and not name.startswith("clip.visual."),
    "clip image": lambda name: name.startswith("clip.visual."),
    "sam prompt encoder": lambda name: name.startswith("prompt_encoder."),
    "sam image projections": lambda name: ".sam.image_projection." in name,
    "sam transformers": lambda name: ".sam." in name and ".image_projection." not in name,
    "class fusion": lambda name: ".fuse." in name,
    "vision-language fusion": lambda name: ".vlf." in name or ".to_correlation." in name,
    "decoder": lambda name: name.startswith("decoder."),
}


def count_parameters(network: EscNet) -> dict[str, int]:
    """Parameters of each part of the network, frozen ones too; their sum is all of them."""
    counts = dict.fromkeys(_PARTS, 0)
    for name, parameter in network.named_parameters():
        (part,) = (part for part, holds in _PARTS.items() if holds(name))
        counts[part] += parameter.numel()
    return counts
