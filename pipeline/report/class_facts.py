"""What a report says of each class."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.scores import MeasuredScores
from pipeline.report.survey import N_BINS, WordSurvey
from schemas.vocabulary import VocabularyClass

Figure = tuple[str, str, str]  # name, value, note


@dataclass(frozen=True)
class ClassFacts:
    """One class. Shares and confidences are in [0, 1], percentiles in percent; None without a pixel in the sample."""

    position: int  # in the vocabulary
    about: VocabularyClass
    pixels: int
    pictures: int
    fraction: float  # of all labelled pictures
    bar: float  # of the most frequent class
    confidence: float | None
    p10: float | None
    p50: float | None
    p90: float | None
    iou: float | None
    histogram: list[int]

    @property
    def id(self) -> int:
        return self.about.id

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def heldout(self) -> bool:
        return self.about.heldout

    @property
    def color(self) -> str:
        return "rgb({} {} {})".format(*self.about.color)

    @property
    def share(self) -> str:
        return f"{self.fraction:.2%}" if 0 < self.fraction < 0.001 else f"{self.fraction:.1%}"

    @property
    def confidence_text(self) -> str:
        return "" if self.confidence is None else f"{self.confidence:.3f}"

    @property
    def iou_text(self) -> str:
        return "" if self.iou is None else f"{self.iou:.3f}"

    def as_data(self) -> dict[str, Any]:
        """What the script needs of it."""
        figures: list[Figure] = [
            ("Share of all pixels", self.share, f"{self.pixels:,} pixels"),
            ("Pictures", f"{self.pictures:,}", "with at least one pixel of it"),
            ("Mean confidence", self.confidence_text or "none", "of its pixels"),
        ]
        if self.iou is not None:
            figures.append(("IoU", self.iou_text, "against ground truth"))
        return {
            "id": self.id,
            "name": self.name,
            "color": self.about.color,
            "pictures": self.pictures,
            "histogram": self.histogram,
            "figures": figures,
            "about": _about(self.about),
        }


def class_facts(words: WordSurvey, n_pixels: int, measured: MeasuredScores | None) -> list[ClassFacts]:
    """The classes of a vocabulary, in its order.

    Args:
        n_pixels: of all labelled pictures.
    """
    found = words.totals.classes
    most = max((sums["pixels"] for sums in found.values()), default=0)
    facts = []
    for k, each in enumerate(words.vocabulary.classes):
        sums = found.get(each.id, {"pixels": 0, "pictures": 0})
        histogram = words.histogram[k]
        p10, p50, p90 = _percentiles(histogram)
        sampled = words.sampled_pixels[k]
        facts.append(
            ClassFacts(
                position=k,
                about=each,
                pixels=sums["pixels"],
                pictures=sums["pictures"],
                fraction=sums["pixels"] / n_pixels if n_pixels else 0.0,
                bar=round(sums["pixels"] / most, 4) if most else 0.0,
                confidence=float(words.confidence_sum[k] / sampled) if sampled else None,
                p10=p10,
                p50=p50,
                p90=p90,
                iou=None if measured is None else measured.iou_of(words.vocabulary.name, each.id),
                histogram=_thousandths(histogram),
            )
        )
    return facts


def _percentiles(histogram: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """In percent of the way from 0 to 1: the middle of the bin that holds each."""
    total = histogram.sum()
    if not total:
        return None, None, None
    bins = np.searchsorted(histogram.cumsum() / total, (0.1, 0.5, 0.9))
    p10, p50, p90 = ((float(k) + 0.5) * 100 / N_BINS for k in np.minimum(bins, N_BINS - 1))
    return p10, p50, p90


def _thousandths(histogram: np.ndarray) -> list[int]:
    total = histogram.sum()
    return np.rint(10_000 * histogram / total).astype(int).tolist() if total else [0] * len(histogram)


def _about(each: VocabularyClass) -> str:
    parts = [f"id {each.id}"]
    if each.prompts != (each.name,):
        parts.append(f"prompts: {', '.join(each.prompts)}" if each.prompts else "no prompts of its own")
    if each.min_confidence:
        parts.append(f"kept from confidence {each.min_confidence:g}")
    if each.min_margin:
        parts.append(f"kept from margin {each.min_margin:g}")
    if each.parent:
        parts.append(f"part of {each.parent}")
    if each.heldout:
        parts.append("held out of training")
    return " · ".join(parts)
