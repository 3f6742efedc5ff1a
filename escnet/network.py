"""ESC-Net: a picture and words in, one logit per class and pixel out.

"Effective SAM Combination for Open-Vocabulary Semantic Segmentation", Lee et al. 2025, arXiv:2411.14723, Fig. 2. What
the paper leaves open is decided in the module where it arises; docs/model.md lists it all.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_network import ImageFeatures, Network, TextFeatures
from escnet.block import EscBlock, mean_over_classes
from escnet.clip import dense_features
from escnet.config import EscNetConfig
from escnet.decoder import Decoder
from escnet.sam import build_prompt_encoder
from escnet.vlf import LanguageSummary


@dataclass(frozen=True)
class EscImageFeatures(ImageFeatures):
    """All that depends on the pictures alone.

    sam_inputs: for each block (B, h*w, E), the patches in SAM's channels, in the order of `windows.py`.
    guidance: for each decoder stage (B, stage width, 2h, 2w) and (B, stage width, 4h, 4w).
    """

    sam_inputs: list[Tensor]
    guidance: list[Tensor]


@dataclass(frozen=True)
class EscTextFeatures(TextFeatures):
    """All that depends on the vocabulary alone. summaries: for each block, what its language attention needs."""

    summaries: list[LanguageSummary]


class EscNet(Network):
    """The network, randomly initialised; `torch.manual_seed` decides how."""

    PARTS: ClassVar = {
        "clip text": lambda name: name.startswith("clip.") and not name.startswith("clip.visual."),
        "clip image": lambda name: name.startswith("clip.visual."),
        "sam prompt encoder": lambda name: name.startswith("prompt_encoder."),
        "sam image projections": lambda name: ".sam.image_projection." in name,
        "sam transformers": lambda name: ".sam." in name and ".image_projection." not in name,
        "class fusion": lambda name: ".fuse." in name,
        "vision-language fusion": lambda name: ".vlf." in name or ".to_correlation." in name,
        "decoder": lambda name: name.startswith("decoder."),
    }
    NEW_PARTS = re.compile(r"blocks\.\d+\.(sam\.image_projection|fuse|vlf|to_correlation)\.|decoder\.")
    TUNED_PARTS = re.compile(
        r"clip\.(visual\.)?(transformer\.resblocks\.\d+\.attn\.in_proj_(weight|bias)|positional_embedding)$"
        r"|blocks\.\d+\.sam\.transformer\.layers\.\d+\.\w*attn\w*\."
    )
    # The result of the last attention is not used, and what keys have in common is lost in the softmax.
    UNTRAINABLE = re.compile(r"prompt_encoder\.|.*(final_attn_token_to_image|norm_final|cross_attn_\w+\.k_proj\.bias)")

    config: EscNetConfig

    def __init__(self, config: EscNetConfig) -> None:
        super().__init__(config)
        self.prompt_encoder = build_prompt_encoder(config)
        n = config.n_blocks
        self.blocks = nn.ModuleList(EscBlock(config, is_last=i == n - 1) for i in range(n))
        self.decoder = Decoder(config)

    def encode_image(self, pixels: Tensor) -> EscImageFeatures:
        """(B, 3, S, S) float, already normalised with the configuration's mean and std."""
        patches, taps = dense_features(self.clip, pixels, self.config)
        sam_inputs = [block.project(patches) for block in self.blocks]
        return EscImageFeatures(patches.float(), sam_inputs, self.decoder.guide(taps))

    def prepare_text(self, embeddings: Tensor) -> EscTextFeatures:
        """(K, C) text embeddings, any norm, one for each class of the whole vocabulary."""
        embeddings = F.normalize(embeddings.float(), dim=-1)
        return EscTextFeatures(embeddings, [block.vlf.language.summarise(embeddings) for block in self.blocks])

    def logits_in_parts(
        self,
        image: EscImageFeatures,
        text: EscTextFeatures,
        class_chunk: int | None = None,
        classes: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """The logits, `class_chunk` classes at a time in their order, (B, k, 4h, 4w); none is kept here.

        With class fusion `per_class` some `classes` have the logits that they have among all.
        """
        correlation = self.correlate(image, text)
        if classes is not None:
            correlation = correlation.gather(1, classes[..., None, None].expand(-1, -1, *correlation.shape[2:]))
        parts: Sequence[Tensor] = correlation.split(class_chunk or correlation.shape[1], dim=1)
        return self.refine(image, parts, text.summaries)

    def refine(
        self, image: EscImageFeatures, parts: Sequence[Tensor], summaries: Sequence[LanguageSummary]
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
