"""What of a run a person should know first: the figures at the top of a report, and what stands out."""

import math
from collections.abc import Sequence
from typing import Any

from pipeline.output.labelled import LabelledOutput
from pipeline.report.class_facts import ClassFacts
from pipeline.report.scores import MeasuredScores
from pipeline.report.survey import Survey
from schemas.quantities import counted, share_text

_NAMED = 5  # classes in a sentence
_NOT_RARE = 0.001  # of all pixels: less is no class of which much can be said
_DOMINANT = 0.5
_MANY_FAILED = 0.01
_MUCH_IGNORED = 0.2


def figures(labels: LabelledOutput, found: Survey) -> list[dict[str, Any]]:
    """Name, value and note of each."""
    totals = found.totals
    n_failed = sum(totals.failed.values())
    n_classes = sum(len(words.vocabulary.classes) for words in found.words.values())
    n_found = sum(len(words.totals.classes) for words in found.words.values())
    confidence = _mean_confidence(found)
    planned = labels.job.manifest.n_rows
    return [
        _figure("Labelled", f"{totals.labelled:,}", f"of {planned:,} pictures"),
        _figure(
            "Failed",
            f"{n_failed:,}",
            f"{share_text(n_failed / totals.rows)} of those done" if totals.rows else "none done",
        ),
        _figure("Mean confidence", "none" if confidence is None else f"{confidence:.3f}", "of labelled pixels"),
        _figure("Ignored", share_text(_ignored(found)) if totals.pixels else "none", "of all pixels"),
        _figure("Classes found", f"{n_found:,}", f"of {n_classes:,}"),
    ]


def findings(
    labels: LabelledOutput,
    found: Survey,
    pictures: Sequence[dict[str, Any]],
    random: Sequence[dict[str, Any]],
    measured: MeasuredScores | None,
    vocabularies: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Sentences, the worst first: `kind` is "bad" or "fact", `links` lead to classes.

    Args:
        pictures: all that are shown.
        random: those of them that were drawn by lot, and stand for all.
    """
    classes = [(words["index"], fact) for words in vocabularies for fact in words["classes"]]
    said = _about_the_run(labels, found, pictures, random)
    frequent = [each for each in classes if each[1].fraction >= _NOT_RARE and each[1].confidence is not None]
    unsure = sorted(frequent, key=lambda each: (each[1].confidence, each[1].id))[:_NAMED]
    if len(frequent) > 1:
        said.append(_finding("fact", "Least sure, by mean confidence:", unsure, _confidence_text))
    if measured is not None:
        scored = sorted((each for each in classes if each[1].iou is not None), key=lambda each: each[1].iou)
        if len(scored) > 1:
            said.append(_finding("fact", "Lowest IoU:", scored[:_NAMED], lambda fact: f"{fact.name} {fact.iou_text}"))
    dominant = [each for each in classes if each[1].fraction > _DOMINANT]
    if dominant:
        said.append(_finding("bad", "More than half of all pixels are", dominant, lambda f: f"{f.name} {f.share}"))
    absent = [each for each in classes if not each[1].pixels and found.totals.labelled]
    if absent:
        more = f" (the first of {len(absent):,})" if len(absent) > _NAMED else ""
        said.append(_finding("fact", f"Never found{more}:", absent[:_NAMED], lambda fact: fact.name))
    return sorted(said, key=lambda each: each["kind"] != "bad")


def _about_the_run(
    labels: LabelledOutput, found: Survey, pictures: Sequence[dict[str, Any]], random: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    totals, planned = found.totals, labels.job.manifest.n_rows
    n_failed = sum(totals.failed.values())
    said = []
    if labels.job.model.is_random:
        said.append(_finding("bad", "The model's weights are random: these labels are noise."))
    if found.unknown_words:
        said.append(_finding("bad", _never_trained(found.unknown_words)))
    if totals.rows < planned:
        said.append(_finding("bad", f"Not finished: {totals.rows:,} of {planned:,} pictures are done."))
    if found.unread:
        unread = counted(len(found.unread), "label file")
        said.append(_finding("bad", f"{unread} cannot be read, left out; run escnet verify."))
    if n_failed:
        kind = "bad" if n_failed > _MANY_FAILED * totals.rows else "fact"
        link = {"href": "#failures", "text": "see why"}
        said.append({"kind": kind, "text": f"{n_failed:,} of {totals.rows:,} pictures failed:", "links": [link]})
    if _ignored(found) > _MUCH_IGNORED:
        said.append(_finding("bad", f"{_ignored(found):.1%} of all pixels are ignored: {_why_ignored(found, random)}."))
    n_missing = sum(each["image"] is None for each in pictures)
    if n_missing:
        which = f"{n_missing:,} of the {len(pictures):,} pictures shown"
        said.append(_finding("bad", f"{which} could not be fetched again; their labels are shown alone."))
    return said


def _why_ignored(found: Survey, random: Sequence[dict[str, Any]]) -> str:
    """What took the pixels: known where only one thing can, and else from the evidence of the random pictures."""
    below = "no class reached its threshold"
    vocabularies = [words.vocabulary for words in found.words.values()]
    if not any(each.has_ignored_distractors for each in vocabularies):
        return below
    if not any(each.has_thresholds for each in vocabularies):
        return "distractors took them"
    known = [each for each in random if each["distractor_fraction"] is not None]
    ignored = sum(each["ignored_fraction"] * math.prod(each["size"]) for each in known)
    if not ignored:
        return f"distractors took them, or {below}"
    taken = min(1.0, sum(each["distractor_fraction"] * math.prod(each["size"]) for each in known) / ignored)
    return f"in the random pictures shown here distractors took {share_text(taken)} of them; of the others {below}"


def _never_trained(words: Sequence[str]) -> str:
    named = ", ".join(words[:_NAMED]) + (" and others" if len(words) > _NAMED else "")
    never = f"The model was never trained with {counted(len(words), 'word')} used here"
    return f"{never}; what it labels by them means nothing: {named}."


def _figure(name: str, value: str, note: str) -> dict[str, Any]:
    return {"name": name, "value": value, "note": note}


def _finding(kind: str, text: str, classes: Sequence[tuple[int, ClassFacts]] = (), say: Any = None) -> dict[str, Any]:
    links = [{"href": f"#class/{index}/{fact.id}", "text": say(fact)} for index, fact in classes]
    return {"kind": kind, "text": text, "links": links}


def _confidence_text(fact: ClassFacts) -> str:
    return f"{fact.name} {fact.confidence:.2f}"


def _ignored(found: Survey) -> float:
    return found.totals.ignored_pixels / found.totals.pixels if found.totals.pixels else 0.0


def _mean_confidence(found: Survey) -> float | None:
    pixels = sum(float(words.sampled_pixels.sum()) for words in found.words.values())
    return sum(float(words.confidence_sum.sum()) for words in found.words.values()) / pixels if pixels else None
