"""The labels of an output against ground truth: mIoU, accuracy and calibration, seen and held-out classes apart.

Label files are read one after another, and the pictures of one are judged side by side. Ground truth decides which
pixels count; a pixel of it without a predicted class is wrong, and so is every pixel of a picture that failed.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pipeline.evaluation.boundaries import BoundaryCounts
from pipeline.evaluation.ground_truth import open_ground_truth
from pipeline.evaluation.judge import Judge
from pipeline.evaluation.labels import open_labels
from pipeline.evaluation.scores import PixelCounts, Scores
from pipeline.evaluation.thresholds import PrecisionTally, Thresholds, fit_thresholds
from pipeline.output.labelled import LabelledOutput
from pipeline.progress import Progress
from pipeline.protocols import PROTOCOLS, Protocol
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.job import ModelRecord
from schemas.labels import LABELLED
from schemas.manifest import public_uri
from schemas.spelling import did_you_mean
from schemas.vocabulary import Vocabulary

_THREADS = 8  # more than cores, since masks in object storage are waited for


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        output, ground_truth: URIs without secrets.
        vocabulary: as used for the labels, with its held-out marks.
        protocol: name, if one was asked for.
        labels_digest: says which labels these are: that of the job's manifest, which names all of its shards.
        n_pictures: pictures compared, failed ones among them.
        n_failed: pictures without labels; all their pixels are wrong.
        n_planned: pictures of the job under this vocabulary.
        n_done: those of them in label files.
        n_without_mask: left out for want of ground truth.
        n_unused_masks: masks of the ground truth that belong to no picture done.
        thresholds: fitted for the precision that was asked for, if one was.
        confusion: true id, predicted id (None is none) and pixels, most pixels first.
        boundary_f: by class id, if asked for; see `pipeline.evaluation.boundaries`.
    """

    output: str
    ground_truth: str
    vocabulary: Vocabulary
    protocol: str | None
    model: ModelRecord
    labels_digest: str
    scores: Scores
    n_pictures: int
    n_failed: int
    n_planned: int
    n_done: int
    n_without_mask: int
    n_unused_masks: int
    thresholds: Thresholds | None = None
    confusion: tuple[tuple[int, int | None, int], ...] = ()
    boundary_f: dict[int, float] | None = None

    @property
    def mean_boundary_f(self) -> float | None:
        """Over the classes that occur; None if it was not asked for."""
        return sum(self.boundary_f.values()) / len(self.boundary_f) if self.boundary_f else None

    @property
    def miou_seen(self) -> float | None:
        """Over the classes without a held-out mark; None if none of them occurs."""
        return self.scores.mean_iou({each.id for each in self.vocabulary.classes if not each.heldout})

    @property
    def miou_heldout(self) -> float | None:
        """Over the classes with one; None if none of them occurs."""
        return self.scores.mean_iou({each.id for each in self.vocabulary.classes if each.heldout})

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/evaluation.md describes it; scores are fractions from 0 to 1, None where undefined."""
        scores = self.scores
        classes = {each.id: each for each in self.vocabulary.classes}
        return {
            "output": self.output,
            "ground_truth": self.ground_truth,
            "vocabulary": self.vocabulary.name,
            "protocol": self.protocol,
            "model": self.model.model_dump(),
            "labels_digest": self.labels_digest,
            "miou": scores.miou,
            "miou_seen": self.miou_seen,
            "miou_heldout": self.miou_heldout,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
            "boundary_f": self.mean_boundary_f,
            "ece": scores.ece,
            "ignored_fraction": scores.ignored_fraction,
            "n_classes": sum(each.pixels > 0 for each in scores.classes),
            "n_pixels": scores.n_pixels,
            "n_pictures": self.n_pictures,
            "n_failed": self.n_failed,
            "n_planned": self.n_planned,
            "n_done": self.n_done,
            "n_without_mask": self.n_without_mask,
            "n_unused_masks": self.n_unused_masks,
            "per_class": [
                {"id": each.id, "name": classes[each.id].name, **asdict(each), "heldout": classes[each.id].heldout}
                | ({} if self.boundary_f is None else {"boundary_f": self.boundary_f.get(each.id)})
                for each in scores.classes
            ],
            "confusion": [{"truth": t, "predicted": p, "pixels": n} for t, p, n in self.confusion],
            "calibration": [asdict(each) for each in scores.calibration],
            **({} if self.thresholds is None else {"thresholds": self.thresholds.as_json()}),
        }


@dataclass
class _Tally:
    """What is known so far."""

    counts: PixelCounts
    boundaries: BoundaryCounts
    halves: tuple[PrecisionTally, PrecisionTally]  # every other picture
    n_rows: int = 0
    n_pictures: int = 0
    n_failed: int = 0
    n_without_mask: int = 0


def evaluate(
    output: str,
    ground_truth: str,
    *,
    vocabulary: str | None = None,
    protocol: str | None = None,
    allow_missing: bool = False,
    target_precision: float | None = None,
    boundaries: bool = False,
    storage: StorageOptions | None = None,
) -> Evaluation:
    """Compare the labels that an output has so far with ground truth.

    Args:
        output: what `escnet annotate` wrote, local or in object storage.
        ground_truth: a manifest with `image_id` and `mask_uri`, a folder or prefix of masks named as the pictures, or
            COCO panoptic annotations.
        vocabulary: name of one of the output's; may be left out if it has one.
        protocol: one of `pipeline.protocols.PROTOCOLS`.
        allow_missing: leave pictures without a mask out, in place of an error.
        target_precision: fit thresholds with which every class is right so often, in [0, 1].
        boundaries: score the outlines too.

    Raises:
        InputError: an output, vocabulary or ground truth that cannot be used; names the file and what to do.
    """
    storage = storage or StorageOptions()
    rules = _protocol(protocol)
    labels = open_labels(output, vocabulary, rules, storage)
    truth = open_ground_truth(ground_truth, storage)
    judge = Judge(output, labels.vocabulary, truth, protocol=rules, allow_missing=allow_missing, storage=storage)
    tally = _tally(labels, judge, needs_levels=target_precision is not None, needs_boundaries=boundaries)
    return Evaluation(
        output=public_uri(output),
        ground_truth=truth.name,
        vocabulary=labels.vocabulary,
        protocol=protocol,
        model=labels.job.model,
        labels_digest=labels.job.manifest.digest,
        scores=_scores(tally, truth.name),
        n_pictures=tally.n_pictures,
        n_failed=tally.n_failed,
        n_planned=labels.n_planned,
        n_done=tally.n_rows,
        n_without_mask=tally.n_without_mask,
        n_unused_masks=truth.n_unused,
        thresholds=None if target_precision is None else fit_thresholds(tally.halves, target_precision),
        confusion=tuple(tally.counts.confusion()),
        boundary_f=tally.boundaries.scores() if boundaries else None,
    )


def _scores(tally: _Tally, truth: str) -> Scores:
    """Raises:
    InputError: nothing was compared.
    """
    if tally.n_pictures == 0:
        raise InputError(f"{truth}: has a mask for none of the {tally.n_rows:,} pictures; check the names")
    try:
        return tally.counts.scores()
    except ValueError as error:
        raise InputError(f"{truth}: every pixel of its masks is ignored; nothing to compare with") from error


def _protocol(name: str | None) -> Protocol | None:
    if name is None or name in PROTOCOLS:
        return PROTOCOLS[name] if name else None
    raise InputError(f"no protocol {name!r}{did_you_mean(name, PROTOCOLS)}; expected one of {', '.join(PROTOCOLS)}")


def _tally(labels: LabelledOutput, judge: Judge, *, needs_levels: bool, needs_boundaries: bool) -> _Tally:
    """Judge all pictures; a bar or lines on stderr say how far it is."""
    ids = [each.id for each in labels.vocabulary.classes]
    tally = _Tally(PixelCounts(ids, with_pairs=True), BoundaryCounts(ids), (PrecisionTally(ids), PrecisionTally(ids)))
    with Progress(labels.n_done) as progress, ThreadPoolExecutor(_THREADS) as pool:
        for shard in labels.done:
            rows = labels.rows(shard)
            judged = pool.map(
                partial(judge.counts_of, needs_levels=needs_levels, needs_boundaries=needs_boundaries), rows
            )
            for row, found in zip(rows, judged, strict=True):
                tally.n_rows += 1
                if found is None:
                    tally.n_without_mask += 1
                else:
                    tally.counts += found.pixels
                    tally.boundaries += found.boundaries
                    tally.halves[tally.n_pictures % 2].add(found.levels)
                    tally.n_pictures += 1
                    tally.n_failed += row.status != LABELLED
                progress.update(tally.n_rows, tally.n_failed, is_loading=False)
    return tally
