"""Inference: pictures of any size and a vocabulary in, labels and how sure the model is of them out."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from escnet.base_config import N_VIEWS
from escnet.base_network import ImageFeatures, Network
from escnet.preselection import select_classes
from escnet.scoring import Segmentation, score_pictures
from escnet.text import CompiledVocabulary, Embed, compile_vocabulary
from escnet.views import Prepared
from schemas.errors import ModelError
from schemas.job import OFF, Preselect, Views
from schemas.vocabulary import Vocabulary

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_CPU_CHANNELS = 2048  # SAM channels of a chunk's classes together: what goes through the blocks stays in the cache
# Maps (a class of a view of a picture) that go through the blocks at once on a GPU: enough to fill it, a few GiB. It
# is a constant and not read from free memory, since the size of a product decides how its sums are rounded.
_GPU_MAPS = 512


class Segmenter:
    """A network ready to label pictures, on one device.

    The same pictures in the same batches give the same bytes with the same number of threads. On a CPU every picture is
    run by itself, so there the batches do not matter either. float32 on a GPU switches TensorFloat-32, which cuDNN's
    convolutions use by default, off for the whole process.

    Args:
        network: is moved to `device` and put into evaluation mode.
        dtype: below float32 the network runs under autocast; float16 needs a GPU.
        views: `sliding` sees five views of a picture, `single` one, at a fifth of the cost.
        class_chunk: classes at a time, None for a number that suits the device; bounds the memory.
        embed: see `compile_vocabulary`.
        preselect: most classes of a picture that go through the blocks, 2 or more, see `escnet.preselection`; the
            others get no pixel, no runner-up and no probability. `escnet annotate` has `schemas.job.DEFAULT_PRESELECT`.

    Raises:
        ModelError: a device other than a CPU or a CUDA GPU, float16 on a CPU, or preselection with a network whose
            classes depend on each other.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: str | torch.device = "cpu",
        dtype: Dtype = "float32",
        views: Views = "sliding",
        class_chunk: int | None = None,
        embed: Embed | None = None,
        preselect: Preselect = OFF,
    ) -> None:
        self.device = _known_device(device)
        if dtype == "float16" and self.device.type == "cpu":
            raise ModelError("dtype float16 on a CPU: expected float32 or bfloat16; choose one of these or a GPU")
        if dtype == "float32" and self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # keeps 10 bits of 23
        self.network = network.to(self.device).eval()
        if preselect != OFF and not network.config.classes_are_independent:
            raise ModelError(f"preselect {preselect}: the classes of this network depend on each other; use off")
        self.dtype = DTYPES[dtype]
        self.views = views
        self.class_chunk = class_chunk
        self.embed = embed
        self.preselect = preselect

    def compile(self, vocabulary: Vocabulary) -> CompiledVocabulary:
        """Do once what depends on the vocabulary alone."""
        return compile_vocabulary(self.network, vocabulary, self.embed)

    def prepare(self, picture: np.ndarray) -> Prepared:
        """Resize a picture (H, W, 3) uint8 RGB to its views; safe in threads, and apart from the device."""
        return self.network.prepare_views(picture, self.views)

    @torch.no_grad()
    def segment(self, batch: Sequence[Prepared], vocabulary: CompiledVocabulary) -> list[Segmentation]:
        """Label pictures, in their order.

        Raises:
            PictureError: the network's scores of one of them are not finite; the others are to be run again.
        """
        n_at_once = 1 if self.device.type == "cpu" else max(1, len(batch))
        groups = (batch[start : start + n_at_once] for start in range(0, len(batch), n_at_once))
        return [segmentation for group in groups for segmentation in self._segment(group, vocabulary)]

    def __call__(self, picture: np.ndarray, vocabulary: CompiledVocabulary) -> Segmentation:
        """Label one picture (H, W, 3) uint8 RGB."""
        (segmentation,) = self.segment([self.prepare(picture)], vocabulary)
        return segmentation

    @torch.no_grad()
    def logits(self, prepared: Prepared, vocabulary: CompiledVocabulary) -> tuple[np.ndarray, Tensor]:
        """What one picture's labels are made from: logits before any temperature, or what else `canvas_holds` says.

        Returns:
            (k,) codes of the entries that preselection lets through, all without it; and (k, ch, cw) float32.
        """
        (places,), canvases = self._canvases([prepared], vocabulary)
        return vocabulary.codes[places], canvases[0]

    def _segment(self, group: Sequence[Prepared], vocabulary: CompiledVocabulary) -> list[Segmentation]:
        kept, canvases = self._canvases(group, vocabulary)
        return score_pictures(
            [canvas[: len(places)] for places, canvas in zip(kept, canvases, strict=True)],
            [vocabulary.codes[places] for places in kept],
            [prepared.size_hw for prepared in group],
            self.network.config,
        )

    def _canvases(self, group: Sequence[Prepared], vocabulary: CompiledVocabulary) -> tuple[list[np.ndarray], Tensor]:
        """The places in the vocabulary that each picture is judged by, ascending, and its merged logits for these.

        (B, n, ch, cw) float32 for the n places of the picture with most; what lies behind those of the others is not to
        be looked at. All pictures go through the network in one pass, some classes at a time, and views are merged as
        soon as these are through, so that all logits of all views never exist at once.
        """
        pixels, n_views = self.network.view_batch(group, self.views, self.device), N_VIEWS[self.views]
        side = self.network.canvas_side(self.views)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            image = self.network.encode_image(pixels)
            kept, classes = self._select(image, vocabulary, len(group))
            n_entries = max(map(len, kept))
            chunk = self.class_chunk or self._suitable_chunk(n_entries, len(pixels))
            canvases = torch.empty(len(group), n_entries, side, side, device=self.device)
            parts = self.network.logits_in_parts(image, vocabulary.text, chunk, classes)
            for part, places in zip(parts, canvases.split(chunk, dim=1), strict=True):
                for views, place in zip(part.split(n_views), places, strict=True):
                    place.copy_(self.network.merge_views(views))
        return kept, canvases

    def _select(
        self, image: ImageFeatures, vocabulary: CompiledVocabulary, n_pictures: int
    ) -> tuple[list[np.ndarray], Tensor | None]:
        """The places of the classes that stay in each picture; and as (B*V, n) for every view, None if all stay."""
        if self.preselect == OFF:
            return [np.arange(len(vocabulary.codes))] * n_pictures, None
        correlation = self.network.correlate(image, vocabulary.text).unflatten(0, (n_pictures, -1))
        kept = select_classes(correlation, self.network.clip.logit_scale, self.preselect)
        classes = pad_sequence(kept, batch_first=True)  # the first class of all behind the last of a picture
        places = [row[: len(each)] for row, each in zip(classes.cpu().numpy(), kept, strict=True)]
        return places, classes.repeat_interleave(correlation.shape[1], dim=0)

    def _suitable_chunk(self, n_entries: int, n_views: int) -> int:
        """Classes at a time, spread evenly over the fewest passes that the limit allows."""
        on_cpu = max(1, _CPU_CHANNELS // (self.network.config.class_width * n_views))
        limit = on_cpu if self.device.type == "cpu" else max(1, _GPU_MAPS // n_views)
        return -(-n_entries // -(-n_entries // limit))


def _known_device(device: str | torch.device) -> torch.device:
    try:
        known = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device}: no such device; expected cpu, cuda or one GPU such as cuda:1") from error
    if known.type not in ("cpu", "cuda"):
        raise ModelError(f"device {device}: the network runs on cpu and cuda only; choose one of these")
    return known
