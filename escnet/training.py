"""One training step of a network: which parameters learn and how fast, and the loss of a batch.

Parameter groups `paper` are those of the network's own paper. ESC-Net (Lee et al. 2025, arXiv:2411.14723): new parts at
one rate; CLIP's query and value projections and position embeddings (of both towers), and the attention layers of the
SAM blocks, at a hundredth of it; all else frozen. CAT-Seg (Cho et al. 2024, arXiv:2303.11797) as its code does it: new
parts, and the query and value projections alone. `all` is for networks that start from nothing: everything but SAM's
prompt encoder and what has no effect. `blocks` is `all` without CLIP.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet.base_network import ImageFeatures, Network, TextFeatures
from escnet.losses import IGNORED, alignment_loss, patch_target, segmentation_loss
from schemas.errors import ModelError

_SPREAD_ATTENTION = 3.0  # times CLIP's own initial values
_SPREAD_FLOOR = 0.01  # of the largest variance: directions below it are noise, and stay small

Trainable = Literal["all", "paper", "blocks"]

_CLIP_ATTENTION = re.compile(r"clip\.(visual\.)?transformer\.resblocks\.\d+\.attn\.in_proj_(weight|bias)$")
_TEXT_TOWER = re.compile(r"clip\.(transformer|token_embedding|positional_embedding|ln_final|text_projection)\b")


@dataclass(frozen=True)
class Words:
    """Names that compete with each other for the pixels of a batch.

    target: (B, S, S) int64, places in the K classes or `losses.IGNORED`.
    tokens: (N, context) token ids of all texts.
    owners: (N,) int64, the class, 0 to K - 1, that each text names; every class has one.
    """

    target: Tensor
    tokens: Tensor
    owners: Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """Pictures, and in one or more ways the words for what is in them.

    pixels: (B, 3, S, S) float32, normalised.
    words: the first are those of the segmentation loss; the alignment loss is the mean over all.
    """

    pixels: Tensor
    words: tuple[Words, ...]

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on a device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        words = (Words(moved(each.target), moved(each.tokens), moved(each.owners)) for each in self.words)
        return TrainingBatch(moved(self.pixels), tuple(words))


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts, and how many classes of a picture go through the blocks, None for all of the batch's."""

    segmentation: float = 1.0
    alignment: float = 0.0
    classes_per_picture: int | None = None


def parameter_groups(
    network: Network,
    trainable: Trainable,
    *,
    learning_rate: float,
    clip_sam_learning_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Groups for an optimiser; freezes the parameters that are in none of them.

    Matrices decay, vectors do not. The paper's CLIP group does not decay either: of its stacked query, key and value
    projections the keys must stay as they are, to the bit. Of `all` the text tower is a group of its own, `is_text`.
    """
    new: list[nn.Parameter] = []
    text: list[nn.Parameter] = []
    attention: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_paper = trainable == "paper"
        is_new = bool(network.NEW_PARTS.match(name)) if is_paper else _is_useful(network, name, trainable)
        is_attention = is_paper and bool(network.TUNED_PARTS.match(name) and not network.UNTRAINABLE.match(name))
        parameter.requires_grad_(is_new or is_attention)
        if is_new and _TEXT_TOWER.match(name):
            text.append(parameter)
        elif is_new:
            new.append(parameter)
        elif is_attention:
            attention.append(parameter)
            if _CLIP_ATTENTION.match(name):
                parameter.register_hook(_without_keys)
    groups = [
        {"params": [p for p in new if p.ndim > 1], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in new if p.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
        {"params": text, "lr": learning_rate, "weight_decay": 0.0, "is_text": True},
        {"params": attention, "lr": clip_sam_learning_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class TrainingModel(nn.Module):
    """The network with its losses as one module, as data-parallel training wants it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: TrainingBatch, weights: LossWeights) -> dict[str, Tensor]:
        """The losses of a batch by name, not yet weighted; those with weight 0 are not computed."""
        network, config = self.network, self.network.config
        words = batch.words if weights.alignment else batch.words[:1]
        embeddings = class_embeddings(network, words)
        losses = {}
        if weights.segmentation:
            image = network.encode_image(batch.pixels)
            patches = image.patches
            losses["segmentation"] = self._segmentation(
                image, network.prepare_text(embeddings[0]), words[0].target, weights.classes_per_picture
            )
        else:
            patches = network.encode_patches(batch.pixels)
        if weights.alignment:
            scale, patch = network.clip.logit_scale, config.patch_size
            found = [
                alignment_loss(patches, classes, patch_target(each.target, patch), scale)
                for each, classes in zip(words, embeddings, strict=True)
            ]
            losses["alignment"] = torch.stack(found).mean()
        return losses

    def _segmentation(self, image: ImageFeatures, text: TextFeatures, target: Tensor, n_classes: int | None) -> Tensor:
        network, config, n_all = self.network, self.network.config, len(text.embeddings)
        if n_classes is not None and n_classes < n_all:
            classes = hardest_classes(network.correlate(image, text), target, n_classes)
            logits, target = network.logits(image, text, classes=classes), _places_in(classes, target, n_all)
        else:
            logits = network.logits(image, text)
        return segmentation_loss(logits / config.temperature, target, config.loss)


def class_embeddings(network: Network, words: Sequence[Words]) -> list[Tensor]:
    """(K, C) unit norm of each: the texts of a class are averaged, as `text.compile_vocabulary` does."""
    texts = F.normalize(network.encode_tokens(torch.cat([each.tokens for each in words])).float(), dim=-1)
    embeddings = []
    for each, own in zip(words, texts.split([len(each.tokens) for each in words]), strict=True):
        sums = torch.zeros(int(each.owners.max()) + 1, texts.shape[1], device=texts.device)
        embeddings.append(F.normalize(sums.index_add(0, each.owners, own), dim=-1))
    return embeddings


@torch.no_grad()
def spread_names(network: Network, tokens: Tensor) -> None:
    """Give a text tower with random weights embeddings that tell names apart from the start.

    As CLIP initialises it, all names are nearly one vector. A picture cannot learn what its words do not yet say, nor
    words what pictures do not yet show, so alignment can rest at that saddle. With large token embeddings, attention
    that passes them on, and a projection that centres and whitens the names, an embedding is nearly the sum of its
    words' directions, all of one length: names with two of three words in common have a cosine of about 0.6, those
    with none about 0.

    Args:
        tokens: (N, context) token ids of names as they will be met in training, many more than the text width.

    Raises:
        ModelError: the text tower's width is not that of its embeddings.
    """
    clip = network.clip
    width, embed_dim = clip.text_projection.shape
    if width != embed_dim:
        raise ModelError(f"spread_names: the text tower is {width} wide, expected the {embed_dim} of its embeddings")
    nn.init.normal_(clip.token_embedding.weight)
    for block in clip.transformer.resblocks:
        block.attn.out_proj.weight *= _SPREAD_ATTENTION
    identity = torch.eye(clip.text_projection.shape[0], device=tokens.device)
    clip.text_projection.data = identity  # to see what comes before it
    found = network.encode_tokens(tokens)
    clip.ln_final.bias -= found.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(found.T))
    scales = (values.clamp(min=0) + _SPREAD_FLOOR * values.max()).rsqrt()
    clip.text_projection.data = vectors * scales @ vectors.T


@torch.no_grad()
def hardest_classes(correlation: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """The classes of each picture, and of the others those with the largest cosine anywhere in it.

    Args:
        correlation: (B, K, h, w).
        target: (B, H, W) int64, places in the K classes or `IGNORED`.
        n_classes: how many to choose; more if a picture holds more.

    Returns:
        (B, n) int64, ascending.
    """
    n_all = correlation.shape[1]
    counts = torch.zeros(len(target), n_all + 1, device=target.device)
    places = torch.where(target == IGNORED, n_all, target).flatten(1)
    is_present = counts.scatter(1, places, 1.0)[:, :n_all] > 0
    score = correlation.amax(dim=(2, 3)).masked_fill(is_present, torch.inf)
    n_chosen = min(max(n_classes, int(is_present.sum(dim=1).max())), n_all)
    return score.topk(n_chosen, dim=1).indices.sort(dim=1).values


def _places_in(classes: Tensor, target: Tensor, n_all: int) -> Tensor:
    """A target in places among all classes to one in places among the (B, n) chosen of each picture."""
    places = torch.full((len(classes), n_all + 1), IGNORED, device=target.device)  # the last: of what is ignored
    places.scatter_(1, classes, torch.arange(classes.shape[1], device=target.device).expand_as(classes))
    return places.gather(1, target.flatten(1) % (n_all + 1)).view_as(target)


def _is_useful(network: Network, name: str, trainable: Trainable) -> bool:
    is_frozen = trainable == "blocks" and name.startswith("clip.")
    return not is_frozen and not network.UNTRAINABLE.match(name)


def _without_keys(gradient: Tensor) -> Tensor:
    """The gradient of stacked query, key and value projections with that of the keys zero."""
    third = len(gradient) // 3
    gradient = gradient.clone()
    gradient[third : 2 * third] = 0
    return gradient
