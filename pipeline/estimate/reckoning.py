"""From what a pilot came to, to what the whole job will come to, and how sure that is."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.estimate.pilot import Pilot, PilotPicture, PilotShard
from schemas.errors import JobFailedError
from schemas.expectation import Expectation, Interval, class_distance, wilson

N_RESAMPLES = 1000
_SEED = 0
_LEAST_HALF_WIDTH = 0.08  # of a rate: two runs on one machine differ by so much, however many pictures the pilot had


def expect(pilot: Pilot, n_pictures: int) -> Expectation:
    """What the job of `n_pictures` is held to.

    Raises:
        JobFailedError: no picture of the pilot was labelled.
    """
    pictures = pilot.pictures
    labelled = [picture for picture in pictures if picture.is_labelled]
    if not labelled:
        reasons = ", ".join(f"{reason} {n}" for reason, n in pilot.report.totals.failed.items())
        raise JobFailedError(f"none of the pilot's {len(pictures)} pictures could be labelled ({reasons})")
    mix, ignored = _class_mix(labelled), _ignored(labelled)
    return Expectation(
        n_pictures=n_pictures,
        n_pilot=len(pictures),
        pictures_per_s=_rate(pilot.shards),
        failed_fraction=wilson(len(pictures) - len(labelled), len(pictures)),
        ignored_fraction=ignored,
        ignored_spread=_spread(labelled, lambda some: abs(_ignored(some) - ignored)),
        classes=mix,
        class_spread=_spread(labelled, lambda some: class_distance(_class_mix(some), mix)),
    )


def label_bytes(pilot: Pilot, n_pictures: int, n_shards: int) -> Interval:
    """Bytes that the label files of the whole job will have: rows for every picture, a footer for every shard."""
    sizes = np.array([(shard.row_bytes, len(shard.pictures)) for shard in pilot.shards], float)
    rows = _ratio(sizes[:, 0], sizes[:, 1]).times(n_pictures)
    footers = n_shards * float(np.mean([shard.footer_bytes for shard in pilot.shards]))
    return Interval(low=rows.low + footers, found=rows.found + footers, high=rows.high + footers)


def _rate(shards: Sequence[PilotShard]) -> Interval:
    """Pictures a second of one actor; every actor's first shard, when all is still cold, is left out if others tell."""
    told = [shard for shard in shards if shard.n_segmented and shard.seconds > 0]
    warm = [shard for shard in told if not shard.is_first]
    warm = warm if len(warm) > 1 else told
    found = _ratio(np.array([s.n_segmented for s in warm], float), np.array([s.seconds for s in warm]))
    low, high = (found.found * (1 + side * _LEAST_HALF_WIDTH) for side in (-1, 1))
    return Interval(low=min(low, found.low), found=found.found, high=max(high, found.high))


def _ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """The ratio of two sums over shards, and its interval by resampling the shards."""
    picks = np.random.default_rng(_SEED).integers(0, len(above), (N_RESAMPLES, len(above)))
    low, high = np.quantile(above[picks].sum(axis=1) / below[picks].sum(axis=1), (0.025, 0.975))
    return Interval(low=float(low), found=float(above.sum() / below.sum()), high=float(high))


def _spread(pictures: Sequence[PilotPicture], distance: Callable[[list[PilotPicture]], float]) -> float:
    """What chance makes of a distance, for one picture: see `Expectation.strayed`."""
    picks = np.random.default_rng(_SEED).integers(0, len(pictures), (N_RESAMPLES // 5, len(pictures)))
    distances = [distance([pictures[k] for k in row]) for row in picks]
    return float(np.quantile(distances, 0.95) * np.sqrt(len(pictures)))


def _class_mix(pictures: Sequence[PilotPicture]) -> dict[str, float]:
    counts: dict[str, int] = {}
    for picture in pictures:
        for name, pixels in (picture.classes or {}).items():
            counts[name] = counts.get(name, 0) + pixels
    total = sum(counts.values())
    return {name: pixels / total for name, pixels in sorted(counts.items(), key=lambda item: -item[1])}


def _ignored(pictures: Sequence[PilotPicture]) -> float:
    n_ignored = sum(picture.ignored_fraction * picture.n_pixels for picture in pictures)
    return n_ignored / max(1, sum(picture.n_pixels for picture in pictures))
