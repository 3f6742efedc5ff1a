"""What `escnet evaluate --json` found, for the report of the same labels."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.output import storing
from pipeline.output.labelled import LabelledOutput
from pipeline.storage import StorageOptions, read_bytes
from schemas.errors import InputError
from schemas.job import ModelRecord
from schemas.manifest import public_uri

_SIDE = 300  # of the drawing of the calibration, in its own units


class _ClassScore(BaseModel):
    id: int
    iou: float | None


class _Bin(BaseModel):
    pixels: int
    confidence: float | None
    accuracy: float | None


class _Scores(BaseModel):
    """What is used of the file; docs/evaluation.md describes it."""

    output: str
    ground_truth: str
    vocabulary: str
    model: ModelRecord
    labels_digest: str
    miou: float
    pixel_accuracy: float
    ece: float | None
    n_pictures: int
    n_classes: int
    per_class: list[_ClassScore]
    calibration: list[_Bin]


@dataclass(frozen=True)
class MeasuredScores:
    """Scores as the page shows them.

    Args:
        vocabulary: name of the one they are of.
        figures: name, value and note of each.
        calibration: x, y and r of a dot for each bin with pixels, and what it says.
    """

    vocabulary: str
    figures: list[dict[str, str]]
    calibration: list[dict[str, Any]]
    iou: dict[int, float | None]

    def iou_of(self, vocabulary: str, class_id: int) -> float | None:
        return self.iou.get(class_id) if vocabulary == self.vocabulary else None


def read_scores(uri: str, labels: LabelledOutput, storage: StorageOptions) -> MeasuredScores:
    """The scores in a file.

    Raises:
        InputError: no such file, no scores, or those of other labels.
    """
    with storing(uri, InputError):
        data = read_bytes(uri, storage)
    try:
        found = _Scores.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{public_uri(uri)}: no scores ({where}: {first['msg']}); expected what `escnet evaluate --json` writes"
        ) from error
    _check_same_labels(found, uri, labels)
    return MeasuredScores(
        found.vocabulary, _figures(found), _dots(found), {each.id: each.iou for each in found.per_class}
    )


def _check_same_labels(found: _Scores, uri: str, labels: LabelledOutput) -> None:
    if found.vocabulary not in labels.vocabularies or found.model.fingerprint != labels.job.model.fingerprint:
        raise InputError(
            f"{public_uri(uri)}: scores of {found.vocabulary!r} by {found.model.name}, but {labels.name} has labels of "
            f"{', '.join(labels.vocabularies)} by {labels.job.model.name}; run `escnet evaluate` on these"
        )
    if found.labels_digest != labels.job.manifest.digest:
        raise InputError(
            f"{public_uri(uri)}: scores of {found.output}, whose pictures, words or options are not those of "
            f"{labels.name}; run `escnet evaluate` on these"
        )


def _figures(found: _Scores) -> list[dict[str, str]]:
    ece = "none" if found.ece is None else f"{found.ece:.3f}"
    return [
        {"name": "mIoU", "value": f"{found.miou:.3f}", "note": f"of {found.n_classes:,} classes"},
        {"name": "Pixel accuracy", "value": f"{found.pixel_accuracy:.3f}", "note": f"in {found.n_pictures:,} pictures"},
        {"name": "Calibration error", "value": ece, "note": "0 is best"},
        {"name": "Ground truth", "value": "", "note": found.ground_truth},
    ]


def _dots(found: _Scores) -> list[dict[str, Any]]:
    total = sum(each.pixels for each in found.calibration)
    return [
        {
            "x": round(_SIDE * each.confidence, 1),
            "y": round(_SIDE * (1 - each.accuracy), 1),
            "r": round(2 + 14 * (each.pixels / total) ** 0.5, 1),
            "text": f"confidence {each.confidence:.2f}, right {each.accuracy:.2f}, {each.pixels / total:.1%} of pixels",
        }
        for each in found.calibration
        if each.confidence is not None and each.accuracy is not None
    ]
