"""What an evaluation says on a terminal."""

from typing import TYPE_CHECKING

from pipeline.evaluation import Evaluation
from pipeline.evaluation.scores import ClassScore
from pipeline.evaluation.thresholds import FEW_PICTURES, ClassThreshold, Thresholds
from schemas.quantities import counted, share_text

if TYPE_CHECKING:  # it loads torch
    from pipeline.evaluation.calibration import Calibration

_SHOWN = 5  # classes at either end

Row = tuple[str, ...]


def evaluation_lines(found: Evaluation) -> list[str]:
    """The scores, the best and the worst classes, and whatever keeps the scores from speaking for the whole job."""
    pictures = counted(found.n_pictures, "picture")
    protocol = f"{found.protocol}: " if found.protocol else ""
    lines = [f"{protocol}{pictures} compared with {found.ground_truth}, vocabulary {found.vocabulary.name}", ""]
    lines += _table(_score_rows(found))
    lines += ["", *_table(_class_rows(found))]
    if mistakes := _mistakes(found):
        lines += ["", *_table(mistakes, n_texts=2)]
    if found.thresholds is not None:
        lines += ["", *_threshold_lines(found, found.thresholds)]
    notes = _notes(found)
    return [*lines, "", *notes] if notes else lines


def _score_rows(found: Evaluation) -> list[Row]:
    scores = found.scores
    heldout = {each.id for each in found.vocabulary.classes if each.heldout}
    occurring = [each.id for each in scores.classes if each.pixels]
    n_heldout = sum(each in heldout for each in occurring)
    n_all = counted(len(scores.classes), "class")
    rows: list[Row] = [("mIoU", _score(scores.miou), f"{len(occurring):,} of {n_all}: those in the ground truth")]
    if heldout:
        rows.append(("mIoU seen", _score(found.miou_seen), counted(len(occurring) - n_heldout, "class")))
        rows.append(("mIoU held-out", _score(found.miou_heldout), counted(n_heldout, "class")))
    weighted = "each class by its pixels in the ground truth"
    rows.append(("weighted IoU", _score(scores.frequency_weighted_iou), weighted))
    if found.boundary_f is not None:
        rows.append(("boundary F-score", _score(found.mean_boundary_f), "outlines, within 0.75% of the diagonal"))
    rows.append(("pixel accuracy", _score(scores.pixel_accuracy), counted(scores.n_pixels, "pixel")))
    rows.append(("calibration error", _score(scores.ece), "0 is best: then confidence is how often it is right"))
    if scores.ignored_fraction:
        rows.append(("ignored", share_text(scores.ignored_fraction), "left without a class; counted as wrong"))
    return rows


def _class_rows(found: Evaluation) -> list[Row]:
    """The classes by IoU; of many, those at the ends."""
    scored = [each for each in found.scores.classes if each.iou is not None]
    ordered = sorted(scored, key=lambda each: (-(each.iou or 0.0), each.id))
    columns = ("IOU", "ACCURACY", "TRUTH", "PREDICTED")
    if len(ordered) <= 2 * _SHOWN:
        return [("CLASS", *columns), *(_class_row(each, found) for each in ordered)]
    best = [_class_row(each, found) for each in ordered[:_SHOWN]]
    worst = [_class_row(each, found) for each in ordered[-_SHOWN:]]
    return [("BEST CLASSES", *columns), *best, ("WORST CLASSES", *columns), *worst]


def _mistakes(found: Evaluation) -> list[Row]:
    """What is taken for what most often."""
    names = {each.id: each.name for each in found.vocabulary.classes}
    wrong = [pair for pair in found.confusion if pair[0] != pair[1] and pair[1] is not None][:_SHOWN]
    rows = [(names[t], names[p], share_text(n / found.scores.n_pixels)) for t, p, n in wrong if p is not None]
    return [("MISTAKEN", "FOR", "PIXELS"), *rows] if rows else []


def _class_row(score: ClassScore, found: Evaluation) -> Row:
    name, heldout = next((c.name, c.heldout) for c in found.vocabulary.classes if c.id == score.id)
    n_pixels = found.scores.n_pixels
    shares = share_text(score.pixels / n_pixels), share_text(score.predicted / n_pixels)
    return (f"{name} (held-out)" if heldout else name, _score(score.iou), _score(score.accuracy), *shares)


def _threshold_lines(found: Evaluation, thresholds: Thresholds) -> list[str]:
    """Precision against coverage, and the classes whose thresholds keep the least."""
    curve: list[Row] = [("TARGET", "PRECISION", "COVERAGE", "")]
    for point in thresholds.curve:
        is_asked = point.target == thresholds.target
        target = "no thresholds" if point.target is None else f"{point.target:g}"
        curve.append((target, _score(point.precision), share_text(point.coverage), "<- asked for" if is_asked else ""))
    names = {each.id: each.name for each in found.vocabulary.classes}
    ordered = sorted(
        thresholds.classes, key=lambda each: (each.coverage if each.coverage is not None else 1.0, each.id)
    )
    columns = ("MIN_CONFIDENCE", "PRECISION", "COVERAGE", "PICTURES")
    classes: list[Row] = [("CLASSES THAT KEEP LEAST" if len(ordered) > 2 * _SHOWN else "CLASS", *columns)]
    for each in ordered[: 2 * _SHOWN]:
        kept = "-" if each.coverage is None else share_text(each.coverage)
        row = (names[each.id], f"{each.min_confidence:g}", _score(each.precision), kept, f"{each.pictures:,}")
        classes.append(row)
    lines = ["Precision against coverage, on pictures the thresholds were not fitted on:", *_table(curve)]
    lines += ["", f"Thresholds for precision {thresholds.target:g}, fitted on all pictures:", *_table(classes)]
    lines += _unreached_lines([each for each in ordered if not each.is_reached], names)
    rare = sum(each.pictures < FEW_PICTURES for each in thresholds.classes)
    if rare:
        lines.append(
            f"In fewer than {FEW_PICTURES} pictures: {counted(rare, 'class')}; at least all classes' threshold."
        )
    return lines


def _unreached_lines(unreached: list[ClassThreshold], names: dict[int, str]) -> list[str]:
    """What the classes keep for which no threshold is enough, those first that keep the most; nothing without such."""
    if not unreached:
        return []

    def kept(each: ClassThreshold) -> str:
        if not each.coverage:
            return f"{names[each.id]} keeps nothing"
        return (
            f"{names[each.id]} keeps {share_text(each.coverage)} of its pixels, at precision {_score(each.precision)}"
        )

    shown = "; ".join(map(kept, unreached[: -_SHOWN - 1 : -1])) + ("; ..." if len(unreached) > _SHOWN else "")
    return [
        f"No threshold reaches it for {counted(len(unreached), 'class')}. With the highest there is, {shown}.",
        "Take such a class out of the vocabulary, make it a distractor, whose pixels are ignored, or accept that.",
    ]


def calibration_lines(found: "Calibration") -> list[str]:
    """What calibrating did."""
    rows: list[Row] = [
        ("", "BEFORE", "AFTER", ""),
        ("temperature", f"{found.temperature_before:.4f}", f"{found.temperature:.4f}", ""),
        ("calibration error", f"{found.ece_before:.4f}", f"{found.ece:.4f}", ""),
    ]
    fitted, measured = counted(found.n_fitted, "picture"), counted(found.n_measured, "other")
    lines = [f"Temperature fitted on {fitted}, calibration error measured on {measured}:", *_table(rows)]
    if found.n_unreadable:
        lines.append(f"{counted(found.n_unreadable, 'picture')} could not be read and took no part.")
    if found.ece >= found.ece_before:
        lines.append("The error did not get smaller: the model was calibrated as well as one number can do.")
    return [*lines, f"Wrote {found.checkpoint}: fingerprint {found.fingerprint}"]


def _notes(found: Evaluation) -> list[str]:
    notes = []
    if found.n_done < found.n_planned:
        notes.append(
            f"The job is not finished: {found.n_done:,} of {counted(found.n_planned, 'picture')} are there yet."
        )
    if found.n_failed:
        notes.append(f"{counted(found.n_failed, 'picture')} could not be labelled: all their pixels count as wrong.")
    if found.n_without_mask:
        notes.append(f"{counted(found.n_without_mask, 'picture')} without a mask in the ground truth left out.")
    if found.n_unused_masks:
        notes.append(f"{counted(found.n_unused_masks, 'mask')} of the ground truth left out: no labels of that name.")
    if found.model.is_random:
        notes.append("The model's weights are random: these scores are those of noise.")
    return notes


def _table(rows: list[Row], n_texts: int = 1) -> list[str]:
    """Columns as wide as their widest cell; numbers, which stand behind the first `n_texts` columns, to the right."""
    is_numeric = len(rows[0]) > 3
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:n_texts], widths, strict=False)]
        cells += [
            cell.rjust(width) if is_numeric or k == 0 else cell
            for k, (cell, width) in enumerate(zip(row[n_texts:], widths[n_texts:], strict=True))
        ]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return lines


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
