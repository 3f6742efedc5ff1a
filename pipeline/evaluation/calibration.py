"""The temperature with which confidence is how often the model is right, fitted on labelled pictures.

The model of an output labels its pictures once more, since 8-bit confidences of one temperature do not give those of
another. On every other picture the temperature is fitted: the one with the least negative log-likelihood of the ground
truth (Guo et al. 2017, arXiv:1706.04599, section 4.2); on the others the calibration error is measured as
`escnet evaluate` measures it, with the old temperature and with the new one. Winners are the same at any temperature.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from escnet.checkpoint import refuse_existing, save_checkpoint
from escnet.checkpoint_header import read_header
from escnet.config import PRESET_NAMES, ModelConfig
from escnet.models import ResolvedModel, load_model, resolve_model
from escnet.scoring import per_pixel, score
from escnet.segmenter import Segmenter
from escnet.text import CompiledVocabulary
from pipeline.evaluation.ground_truth import GroundTruth, open_ground_truth
from pipeline.evaluation.judge import classes_of_codes
from pipeline.evaluation.labels import open_labels
from pipeline.evaluation.scores import PixelCounts
from pipeline.evaluation.temperature import TemperatureFit
from pipeline.output.labelled import LabelledOutput
from pipeline.picture.decode import decode
from pipeline.picture.fetch import fetch
from pipeline.progress import Progress
from pipeline.protocols import PROTOCOLS, Protocol
from pipeline.storage import StorageOptions
from schemas.errors import InputError, ModelError, PictureError
from schemas.job import LabelOptions, ModelRecord
from schemas.manifest import ManifestRow, public_uri

MOST_PICTURES = 1000  # more say nothing new of a single number; evenly spread over the output


@dataclass(frozen=True)
class Calibration:
    """A checkpoint with a fitted temperature.

    Args:
        checkpoint: the file that was written.
        fingerprint: of the new checkpoint.
        calibrated: fingerprint of the model it was made from.
        temperature_before, temperature: what logits are divided by.
        ece_before, ece: calibration error in [0, 1], on the pictures it was not fitted on.
        n_fitted, n_measured: pictures.
        n_unreadable: pictures that could not be read, and were left out.
    """

    checkpoint: str
    fingerprint: str
    calibrated: str
    temperature_before: float
    temperature: float
    ece_before: float
    ece: float
    n_fitted: int
    n_measured: int
    n_unreadable: int

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def calibrate(
    output: str,
    ground_truth: str,
    checkpoint: str,
    *,
    model: str | None = None,
    vocabulary: str | None = None,
    protocol: str | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
    storage: StorageOptions | None = None,
) -> Calibration:
    """Fit the temperature of an output's model, and write a checkpoint that has it.

    Args:
        output, ground_truth, vocabulary, protocol, allow_missing: as for `pipeline.evaluation.evaluate`.
        checkpoint: the file to write.
        model: the model that made the labels; may be left out for a preset.

    Raises:
        InputError: an output, ground truth or model that cannot be used, or fewer than two pictures to go by.
        OutputError: the checkpoint exists and `overwrite` is False, or cannot be written.
    """
    storage = storage or StorageOptions()
    rules = PROTOCOLS[protocol] if protocol else None
    labels = open_labels(output, vocabulary, rules, storage)
    resolved = _check_model(model, labels.job.model, checkpoint, overwrite=overwrite)
    truth = open_ground_truth(ground_truth, storage)
    pictures = _Pictures(labels, truth, rules, _load_segmenter(resolved, labels.job.options))
    rows = _rows_with_truth(labels, truth, allow_missing=allow_missing)
    fitted = _fit(pictures, rows, resolved.config, public_uri(output))
    network = pictures.segmenter.network
    network.config = fitted.config
    provenance = _provenance(resolved, labels, fitted)
    info = save_checkpoint(network, checkpoint, provenance, overwrite=overwrite)
    return Calibration(
        checkpoint=checkpoint,
        fingerprint=info.fingerprint,
        calibrated=resolved.fingerprint,
        temperature_before=resolved.config.temperature,
        temperature=fitted.config.temperature,
        ece_before=fitted.ece_before,
        ece=fitted.ece,
        n_fitted=fitted.n_fitted,
        n_measured=fitted.n_measured,
        n_unreadable=pictures.n_unreadable,
    )


@dataclass(frozen=True)
class _Fitted:
    """The configuration with the temperature that was found, and how good it is on pictures it was not fitted by."""

    config: ModelConfig
    ece_before: float
    ece: float
    n_fitted: int
    n_measured: int


def _fit(pictures: "_Pictures", rows: Sequence[ManifestRow], config: ModelConfig, output: str) -> _Fitted:
    """Fit by every other picture, measure with the others.

    Raises:
        InputError: none to fit by can be read, or ground truth leaves no pixel.
    """
    truth = pictures.truth.name
    with Progress(len(rows)) as progress:
        fit = TemperatureFit(config)
        n_fitted = pictures.visit(rows[::2], fit.add, progress)
        if n_fitted == 0:
            raise InputError(
                f"{output}: none of the {pictures.n_unreadable:,} pictures to fit by can be read as the "
                "job read them; see `escnet status` for why rows failed, and put pictures back where they were"
            )
        new = config.model_copy(update={"temperature": fit.best(truth)})
        errors = _Errors(pictures.class_ids, (config, new))
        n_measured = pictures.visit(rows[1::2], errors.add, progress)
    ece_before, ece = errors.results(truth)
    return _Fitted(new, ece_before, ece, n_fitted, n_measured)


def _check_model(asked: str | None, made_by: ModelRecord, checkpoint: str, *, overwrite: bool) -> ResolvedModel:
    """The model that made the labels, and nothing in the way of the checkpoint to be written.

    Raises:
        ModelError: another model, random weights, a network that cannot be calibrated so, or a checkpoint whose place
            is not known.
        OutputError: `checkpoint` exists and may not be replaced.
    """
    refuse_existing(checkpoint, overwrite=overwrite)
    if made_by.is_random:
        raise ModelError(f"{made_by.name}: its weights are random, and noise has no calibration; train it first")
    if asked is None and made_by.name not in PRESET_NAMES:
        raise ModelError(
            f"the labels were made by {made_by.name} ({made_by.fingerprint}); say where it is with --model"
        )
    resolved = resolve_model(asked or made_by.name)
    if resolved.fingerprint != made_by.fingerprint:
        raise ModelError(
            f"{asked or made_by.name}: has fingerprint {resolved.fingerprint}, but the labels were made by "
            f"{made_by.name} with {made_by.fingerprint}; give that one with --model"
        )
    if resolved.config.canvas_holds == "probabilities":
        raise ModelError(
            f"{resolved.name}: a CAT-Seg averages its views as probabilities, behind which no temperature can be "
            "fitted; choose thresholds with `escnet evaluate` instead"
        )
    return resolved


def _load_segmenter(resolved: ResolvedModel, made_with: LabelOptions) -> Segmenter:
    """As for the labels, but on a CPU where there is no GPU, and then in float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = made_with.dtype if device == made_with.device else "float32"
    network = load_model(resolved, device)
    return Segmenter(network, device=device, dtype=dtype, views=made_with.views, preselect=made_with.preselect)


def _rows_with_truth(labels: LabelledOutput, truth: GroundTruth, *, allow_missing: bool) -> list[ManifestRow]:
    rows = [row for shard in labels.done for row in labels.pictures(shard)]
    found = [row for row in rows if truth.mask_uri(row.image_id) is not None]
    if len(found) < len(rows) and not allow_missing:
        missing = next(row for row in rows if truth.mask_uri(row.image_id) is None)
        raise InputError(truth.missing(missing.image_id))
    if len(found) < 2:
        raise InputError(
            f"{truth.name}: has masks for {len(found)} of the pictures; expected two at least to calibrate by"
        )
    n_chosen = min(len(found), MOST_PICTURES)
    return [found[k * len(found) // n_chosen] for k in range(n_chosen)]


class _Pictures:
    """Gives pictures their logits and ground truth, one at a time."""

    def __init__(
        self, labels: LabelledOutput, truth: GroundTruth, protocol: Protocol | None, segmenter: Segmenter
    ) -> None:
        self._labels = labels
        self.truth = truth
        self._left_out_ids = protocol.left_out_ids if protocol else frozenset()
        self.segmenter = segmenter
        self.compiled: CompiledVocabulary = segmenter.compile(labels.vocabulary)
        self._class_of_code, self._first_code = classes_of_codes(labels.vocabulary)
        self.class_ids = [each.id for each in labels.vocabulary.classes]
        self.n_read = self.n_unreadable = 0

    def visit(
        self, rows: Sequence[ManifestRow], add: Callable[[Tensor, np.ndarray, np.ndarray], None], progress: Progress
    ) -> int:
        """Hand what the model says of each picture that can be read, and its ground truth, to `add`; their number.

        Args:
            add: takes (k, ch, cw) logits of the entries that the labels were decided between, (k,) the class of each
                of them, and (H, W) class ids.
        """
        before, max_pixels = self.n_read, self._labels.job.options.max_pixels
        for row in rows:
            try:
                data = fetch(row, self._labels.storage, max_pixels=max_pixels)
                picture = decode(data, max_pixels=max_pixels)
            except PictureError:
                self.n_unreadable += 1
            else:
                codes, logits = self.segmenter.logits(self.segmenter.prepare(picture), self.compiled)
                add(logits, self._class_of_code[codes - self._first_code], self._truth_of(row, picture))
                self.n_read += 1
            progress.update(self.n_read + self.n_unreadable, self.n_unreadable, is_loading=False)
        return self.n_read - before

    def _truth_of(self, row: ManifestRow, picture: np.ndarray) -> np.ndarray:
        uri = self.truth.mask_uri(row.image_id)
        assert uri is not None  # only rows with one are visited
        return self.truth.read(
            uri,
            self._labels.storage,
            self._labels.vocabulary,
            left_out_ids=self._left_out_ids,
            size_hw=(picture.shape[0], picture.shape[1]),
        )


class _Errors:
    """Counts pixels for the calibration error under several configurations."""

    def __init__(self, class_ids: Sequence[int], configs: Sequence[ModelConfig]) -> None:
        self._configs = configs
        self._counts = [PixelCounts(class_ids) for _ in configs]

    def add(self, logits: Tensor, classes: np.ndarray, truth: np.ndarray) -> None:
        """Add a picture, as `_Pictures.visit` hands it on."""
        places = np.arange(len(classes), dtype=np.int32)
        for config, counts in zip(self._configs, self._counts, strict=True):
            found = score(logits, places, truth.shape, config)
            counts.update(classes[found.winner], truth, confidence=per_pixel(found).confidence)

    def results(self, truth_name: str) -> tuple[float, ...]:
        """The error under each configuration, in [0, 1]."""
        try:
            return tuple(counts.scores().ece or 0.0 for counts in self._counts)
        except ValueError as error:
            raise InputError(f"{truth_name}: no pixel of its masks can be used to calibrate by") from error


def _provenance(resolved: ResolvedModel, labels: LabelledOutput, fitted: _Fitted) -> dict[str, Any]:
    """Where the weights came from, as before, and how the temperature was fitted."""
    assert resolved.path is not None  # a preset without weights is random
    calibration = {
        "from": resolved.fingerprint,
        "vocabulary": labels.vocabulary.name,
        "pictures": fitted.n_fitted,
        "ece_before": round(fitted.ece_before, 6),
        "ece": round(fitted.ece, 6),
    }
    return {**read_header(resolved.path).provenance, "calibration": calibration}
