"""CAT-Seg: CLIP's correlation of places and words, aggregated over places and over classes, then enlarged.

"CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation", Cho et al. 2024, arXiv:2303.11797, Fig. 3, with
what its public code (cvlab-kaist/CAT-Seg) adds to the paper: a vocabulary below `max_classes` is padded to it, and of a
longer one each view keeps the `max_classes` likeliest. Their logits depend on which others were kept; those of
the rest are `UNLIKELY`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_network import ImageFeatures, Network, TextFeatures
from escnet.catseg import views
from escnet.catseg.classes import ClassAggregation, ClassGuide
from escnet.catseg.config import CatSegConfig
from escnet.catseg.decoder import CatSegDecoder
from escnet.catseg.spatial import SpatialAggregation
from escnet.clip import dense_features
from escnet.views import Prepared
from schemas.job import Views

UNLIKELY = -100.0  # the logit of a class that a view left out


@dataclass(frozen=True)
class CatSegImageFeatures(ImageFeatures):
    """layer_guides: for each layer and each of its two blocks (B, h, w, 2d). guidance: of the decoder's stages."""

    layer_guides: list[list[Tensor]]
    guidance: list[Tensor]


@dataclass(frozen=True)
class CatSegTextFeatures(TextFeatures):
    """class_guides: for each layer the words' share of its class attention."""

    class_guides: list[ClassGuide]


class Layer(nn.Module):
    """Over places, then over classes."""

    def __init__(self, config: CatSegConfig) -> None:
        super().__init__()
        self.spatial = SpatialAggregation(config)
        self.classes = ClassAggregation(config)

    def forward(self, parts: list[Tensor], image_guides: list[Tensor], class_guide: ClassGuide) -> list[Tensor]:
        """All classes in parts (B, k, h, w, d), in place."""
        for i, part in enumerate(parts):
            parts[i] = self.spatial(part, image_guides)
        return self.classes(parts, class_guide)


class CatSeg(Network):
    """The network, randomly initialised; `torch.manual_seed` decides how."""

    PARTS: ClassVar = {
        "clip text": lambda name: name.startswith("clip.") and not name.startswith("clip.visual."),
        "clip image": lambda name: name.startswith("clip.visual."),
        "guidance": lambda name: name.startswith(("image_guidance.", "text_guidance.")),
        "spatial aggregation": lambda name: ".spatial." in name,
        "class aggregation": lambda name: ".classes." in name,
        "correlation embedding": lambda name: name.startswith("embed."),
        "decoder": lambda name: name.startswith("decoder."),
    }
    NEW_PARTS = re.compile(r"(embed|image_guidance|text_guidance|layers|decoder)\.")
    TUNED_PARTS = re.compile(r"clip\.(visual\.)?transformer\.resblocks\.\d+\.attn\.in_proj_weight$")
    UNTRAINABLE = re.compile(r"(?!)")  # nothing

    config: CatSegConfig

    def __init__(self, config: CatSegConfig) -> None:
        super().__init__(config)
        channels, kernel = config.clip["embed_dim"], config.correlation_kernel
        self.embed = nn.Conv2d(1, config.hidden_dim, kernel, padding=kernel // 2)
        self.image_guidance = nn.Conv2d(channels, config.image_guidance_dim, kernel_size=3, padding=1)
        self.text_guidance = nn.Linear(channels, config.text_guidance_dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.decoder = CatSegDecoder(config)

    def encode_image(self, pixels: Tensor) -> CatSegImageFeatures:
        """(B, 3, S, S) float, already normalised with the configuration's mean and std."""
        patches, taps = dense_features(self.clip, pixels, self.config)
        guidance = F.relu(self.image_guidance(patches)).movedim(1, -1)  # (B, h, w, g)
        layer_guides = [layer.spatial.guide(guidance) for layer in self.layers]
        return CatSegImageFeatures(patches.float(), layer_guides, self.decoder.guide(taps))

    def prepare_text(self, embeddings: Tensor) -> CatSegTextFeatures:
        """(K, C) text embeddings, any norm, one for each class of the whole vocabulary."""
        embeddings = F.normalize(embeddings.float(), dim=-1)
        guidance = F.relu(self.text_guidance(embeddings))
        return CatSegTextFeatures(embeddings, [layer.classes.guide(guidance) for layer in self.layers])

    def logits_in_parts(
        self,
        image: CatSegImageFeatures,
        text: CatSegTextFeatures,
        class_chunk: int | None = None,
        classes: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """The logits, `class_chunk` classes at a time in their order, (B, k, 4h, 4w).

        In chunks the same numbers are computed as in one, up to rounding. The hidden features of all classes, or of the
        `max_classes` likeliest, are kept until the last layer is through. Some `classes`, at most `max_classes`, have
        the logits of a vocabulary without the others.
        """
        correlation = self.correlate(image, text)
        if classes is not None:
            guides = [guide.choose(classes) for guide in text.class_guides]
            return self._aggregate(image, _take(correlation, classes), guides, class_chunk or classes.shape[1])
        n_classes = correlation.shape[1]
        chunk = class_chunk or n_classes
        if n_classes <= self.config.max_classes:
            return self._aggregate(image, correlation, text.class_guides, chunk)
        kept = likeliest(correlation, self.config.max_classes)
        guides = [guide.choose(kept) for guide in text.class_guides]
        found = torch.cat(list(self._aggregate(image, _take(correlation, kept), guides, chunk)), dim=1)
        return _spread_in_parts(found, kept, n_classes, chunk)

    def _aggregate(
        self, image: CatSegImageFeatures, correlation: Tensor, guides: Sequence[ClassGuide], chunk: int
    ) -> Iterator[Tensor]:
        parts = [self._embed(part) for part in correlation.split(chunk, dim=1)]
        for layer, image_guides, class_guide in zip(self.layers, image.layer_guides, guides, strict=True):
            parts = layer(parts, image_guides, class_guide)
        while parts:
            yield self.decoder(parts.pop(0).flatten(0, 1).movedim(-1, 1), image.guidance)

    def _embed(self, correlation: Tensor) -> Tensor:
        """(B, k, h, w) to (B, k, h, w, d)."""
        with torch.autocast(correlation.device.type, enabled=False):  # the bias would take the small cosines' digits
            embedded = self.embed(correlation.flatten(0, 1).unsqueeze(1))
        return embedded.movedim(1, -1).unflatten(0, correlation.shape[:2])

    def prepare_views(self, picture: np.ndarray, kind: Views) -> Prepared:
        return views.prepare(picture, self.config, kind)

    def view_batch(self, batch: Sequence[Prepared], kind: Views, device: torch.device) -> Tensor:
        return views.view_batch(batch, self.config, kind, device)

    def canvas_side(self, kind: Views) -> int:
        return views.canvas_side(self.config, kind)

    def merge_views(self, logits: Tensor) -> Tensor:
        return views.merge_views(logits, self.config)


def likeliest(correlation: Tensor, n_classes: int) -> Tensor:
    """The classes with the largest cosine anywhere in a view, (B, K, h, w) to (B, n_classes) int64, ascending."""
    return correlation.amax(dim=(2, 3)).topk(n_classes, dim=1).indices.sort(dim=1).values


def _take(correlation: Tensor, classes: Tensor) -> Tensor:
    return correlation.gather(1, classes[..., None, None].expand(-1, -1, *correlation.shape[2:]))


def _spread_in_parts(found: Tensor, classes: Tensor, n_classes: int, chunk: int) -> Iterator[Tensor]:
    """Logits (B, n, 4h, 4w) of the classes (B, n) as those of all classes, in parts, `UNLIKELY` for the others."""
    b, _, height, width = found.shape
    for start in range(0, n_classes, chunk):
        stop = min(start + chunk, n_classes)
        part = found.new_full((b, stop - start, height, width), UNLIKELY)
        for own, logits, places in zip(part, found, classes, strict=True):
            is_here = (places >= start) & (places < stop)
            own[places[is_here] - start] = logits[is_here]
        yield part
