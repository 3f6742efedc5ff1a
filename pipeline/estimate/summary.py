"""An estimate in words."""

from collections.abc import Callable
from typing import Any

from pipeline.estimate.plan import Estimate
from schemas.errors import one_line
from schemas.expectation import Interval
from schemas.quantities import counted, duration_text, few, size_text

SHOWN_CLASSES = 6


def estimate_lines(estimate: Estimate) -> list[str]:
    """What a job will take, a line a question; in brackets where the true value lies with 95 percent confidence."""
    expected, place = estimate.expectation, estimate.placement
    size = f" ({size_text(estimate.n_bytes)})" if estimate.n_bytes else ""
    lines = [
        f"{counted(expected.n_pictures, 'picture')}{size} in {counted(estimate.n_shards, 'shard')}",
        f"  pilot:    {counted(expected.n_pilot, 'picture')}, spread over all of them, in "
        f"{duration_text(estimate.pilot_s)}",
        f"  rate:     {_between(expected.pictures_per_s, _rate)} pictures a second and actor",
        f"  time:     {_between(estimate.seconds, duration_text)} with {counted(place.n_actors, 'actor')}, "
        f"{duration_text(estimate.start_s)} of it to start",
        f"  work:     {_between(estimate.gpu_hours or estimate.actor_hours, _hours)} "
        f"{'GPU' if estimate.gpu_hours else 'actor'}-hours",
    ]
    if estimate.cost is not None:
        lines.append(f"  cost:     {_between(estimate.cost, _money)}, at {estimate.price:g} an hour")
    failed = ", ".join(f"{reason} {n}" for reason, n in sorted(estimate.failed.items()))
    lines += [
        f"  labels:   {_between(estimate.label_bytes, size_text)} to be written",
        f"  failures: {_between(expected.failed_fraction, _percent)} of the pictures{f'; {failed}' if failed else ''}",
        f"  ignored:  {_percent(expected.ignored_fraction)} of the pixels",
        f"  classes:  {_classes(expected.classes)}",
    ]
    return list(map(one_line, lines))


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """The same as plain data, as docs/plan.md describes it."""
    intervals = {
        "seconds": estimate.seconds,
        "actor_hours": estimate.actor_hours,
        "gpu_hours": estimate.gpu_hours,
        "cost": estimate.cost,
        "label_bytes": estimate.label_bytes,
    }
    return {
        "n_bytes": estimate.n_bytes,
        "n_shards": estimate.n_shards,
        "n_actors": estimate.placement.n_actors,
        "cpus_per_actor": estimate.placement.cpus_per_actor,
        "gpus_per_actor": estimate.placement.gpus_per_actor,
        "start_s": round(estimate.start_s, 3),
        "end_s": round(estimate.end_s, 3),
        "failed_in_pilot": estimate.failed,
        **{name: None if each is None else each.model_dump() for name, each in intervals.items()},
        "expected": estimate.expectation.model_dump(mode="json"),
    }


def _between(interval: Interval, text: Callable[[float], str]) -> str:
    return f"{text(interval.found)} ({text(interval.low)} to {text(interval.high)})"


def _rate(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


def _money(value: float) -> str:
    return f"{value:,.2f}"


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}"


def _classes(shares: dict[str, float]) -> str:
    if not shares:
        return "none: every pixel is ignored"
    said = [f"{name} {_percent(share)}" for name, share in shares.items()]
    return f"{len(shares)} found: {few(said, SHOWN_CLASSES)}"
