"""Is a run as it should be? Each shard against those before it, and all of them against a plan.

Both only say so: labels are the same whatever is said here. What is far off is nearly always the pictures or how they
are read (another camera, swapped colour channels, a folder of black frames), and is cheapest found at once.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from pipeline.actors.orders import ShardResult
from schemas.expectation import Expectation, class_distance, wilson
from schemas.labels import ShardTotals
from schemas.timings import ShardTimings

LEAST_SHARDS = 8  # before it, before a shard is judged
LEAST_PICTURES = 4  # labelled ones of a shard that is judged
REMEMBERED = 50  # shards: what is usual may change in the course of a job
_FAR = 6.0  # standard deviations, as the median of absolute deviations tells them
_LEAST_OFF = {"confidence": 0.1, "ignored": 0.15, "empty": 0.15, "classes": 0.25}  # less is never far off
_OF_WHOLE_PICTURES = ("ignored", "empty")  # a picture, such as a blank one, may be so as a whole
_WORDS = {
    "confidence": "mean confidence",
    "ignored": "ignored share of the pixels",
    "empty": "share of pictures without any class",
    "classes": "distance of its classes from the usual ones",
}


@dataclass
class UsualMix:
    """The last shards' shares of classes, and their mean: kept up rather than computed anew for every shard."""

    _last: deque[dict[str, float]] = field(default_factory=deque)
    _sums: dict[str, float] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)  # of the shards that have a class

    def __len__(self) -> int:
        return len(self._last)

    def mean(self) -> dict[str, float] | None:
        """None before the first."""
        return {name: total / len(self._last) for name, total in self._sums.items()} if self._last else None

    def add(self, mix: dict[str, float]) -> None:
        if len(self._last) == REMEMBERED:
            self._forget(self._last.popleft())
        self._last.append(mix)
        self._counts.update(mix.keys())
        for name, share in mix.items():
            self._sums[name] = self._sums.get(name, 0.0) + share

    def _forget(self, mix: dict[str, float]) -> None:
        for name, share in mix.items():
            self._counts[name] -= 1
            self._sums[name] -= share
            if not self._counts[name]:  # what rounding left is no share
                del self._counts[name], self._sums[name]


@dataclass
class ShardMonitor:
    """Compares shards with those before them that had the same vocabulary."""

    _numbers: dict[str, dict[str, deque[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: deque(maxlen=REMEMBERED)))
    )
    _mixes: dict[str, UsualMix] = field(default_factory=lambda: defaultdict(UsualMix))

    def look(self, result: ShardResult) -> str | None:
        """A line of alarm if a shard is far off those before it; None otherwise."""
        if result.totals.labelled < LEAST_PICTURES:
            return None
        before, mixes = self._numbers[result.vocabulary], self._mixes[result.vocabulary]
        mix, usual = class_shares(result.totals), mixes.mean()
        numbers = _numbers(result)
        if usual is not None:
            numbers["classes"] = class_distance(mix, usual)
        n_before = len(mixes)
        n, is_judged = result.totals.labelled, n_before >= LEAST_SHARDS
        off = [name for name, value in numbers.items() if is_judged and _is_far(name, value, before[name], n)]
        line = None
        if off:
            said = [f"{_WORDS[name]} {numbers[name]:.2f}, usually {median(before[name]):.2f}" for name in off]
            most = f"; {_changed(mix, usual or {})}" if "classes" in off else ""
            line = (
                f"alarm: shard {result.shard_id} is far off the {n_before} before it: {'; '.join(said)}{most}. Look at "
                "its pictures: swapped colour channels, another camera and empty frames look like this"
            )
        for name, value in numbers.items():
            before[name].append(value)
        mixes.add(mix)
        return line


@dataclass
class PlanWatch:
    """Holds a run to what a plan expects of it; see `Expectation`.

    Args:
        timings: without every actor's first shard, when all is still cold: the pilot leaves it out as well.
    """

    expected: Expectation
    totals: ShardTotals = field(default_factory=ShardTotals)
    timings: ShardTimings = field(default_factory=ShardTimings)
    _pixels: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _warm: set[int] = field(default_factory=set)  # actors that have done a shard
    _said: set[str] = field(default_factory=set)

    def look(self, result: ShardResult) -> dict[str, str]:
        """By kind, lines on what has left the plan's intervals by now, each kind once."""
        if result.actor in self._warm:
            self.timings += result.timings
        self._warm.add(result.actor)
        self.totals.rows += result.totals.rows
        self.totals.labelled += result.totals.labelled
        self.totals.pixels += result.totals.pixels
        self.totals.ignored_pixels += result.totals.ignored_pixels
        for each in result.totals.classes.values():
            self._pixels[each["name"]] += each["pixels"]
        if self.totals.rows < self._enough:
            return {}
        found = {kind: line for kind, line in self._strayed() if kind not in self._said}
        self._said |= found.keys()
        where = f"strayed from the plan after {self.totals.rows:,} pictures"
        return {kind: f"{where}: {line}" for kind, line in found.items()}

    @property
    def _enough(self) -> int:
        """Pictures of which something can be said."""
        return min(self.expected.n_pilot, self.expected.n_pictures) // 2

    def _strayed(self) -> Iterator[tuple[str, str]]:
        expected, n = self.expected, self.totals.rows
        planned = expected.pictures_per_s
        rate = self.timings.actor_pictures_per_s if self.timings.n_pictures >= self._enough else None
        if rate is not None and not planned.low <= rate <= planned.high:
            yield (
                "slower" if rate < planned.low else "faster",
                f"{rate:.2f} pictures a second and actor, planned were {planned.low:.2f} to {planned.high:.2f}",
            )
        failed = wilson(n - self.totals.labelled, n)
        if failed.low > expected.failed_fraction.high:
            yield "failures", f"{failed.found:.1%} failed, planned were at most {expected.failed_fraction.high:.1%}"
        ignored = self.totals.ignored_pixels / max(1, self.totals.pixels)
        spread = max(expected.ignored_spread, 0.05 * math.sqrt(expected.n_pilot))
        if expected.strayed(abs(ignored - expected.ignored_fraction), spread, self.totals.labelled):
            yield "ignored", f"{ignored:.1%} of the pixels are ignored, planned were {expected.ignored_fraction:.1%}"
        total = max(1, sum(self._pixels.values()))
        mix = {name: pixels / total for name, pixels in self._pixels.items()}
        if expected.strayed(class_distance(mix, expected.classes), expected.class_spread, self.totals.labelled):
            yield "classes", f"other classes than planned: {_changed(mix, expected.classes)}"


def class_shares(totals: ShardTotals) -> dict[str, float]:
    """By name, the share of each class in the pixels that are not ignored."""
    whole = max(1, sum(each["pixels"] for each in totals.classes.values()))
    shares: defaultdict[str, float] = defaultdict(float)
    for each in totals.classes.values():
        shares[each["name"]] += each["pixels"] / whole
    return dict(shares)


def _numbers(result: ShardResult) -> dict[str, float]:
    totals = result.totals
    numbers = {
        "ignored": totals.ignored_pixels / max(1, totals.pixels),
        "empty": result.n_empty / totals.labelled,
    }
    return numbers if result.confidence_mean is None else {"confidence": result.confidence_mean, **numbers}


def _is_far(name: str, value: float, before: deque[float], n_pictures: int) -> bool:
    if len(before) < LEAST_SHARDS - 1:  # there is no distance yet from the first shard's usual classes
        return False
    usual = median(before)
    deviation = 1.4826 * median(abs(each - usual) for each in before)
    if name in _OF_WHOLE_PICTURES:
        deviation = max(deviation, _by_chance(before, n_pictures))
    off = value - usual if name == "classes" else abs(value - usual)
    return off > max(_LEAST_OFF[name], _FAR * deviation)


def _by_chance(before: deque[float], n_pictures: int) -> float:
    """The most that chance makes of a share among a few pictures: as if each were wholly of a kind, or not at all.

    Where one of twenty is blank, two of eight may be, and none of those before: hence one more is reckoned with.
    """
    n_before = n_pictures * len(before)
    share = (sum(before) / len(before) * n_before + 1) / (n_before + 2)
    return math.sqrt(share * (1 - share) / n_pictures)


def _changed(mix: dict[str, float], usual: dict[str, float]) -> str:
    """The three classes whose share changed most."""
    names = sorted(mix.keys() | usual.keys(), key=lambda name: -abs(mix.get(name, 0.0) - usual.get(name, 0.0)))
    return ", ".join(f"{name} {mix.get(name, 0.0):.0%} for {usual.get(name, 0.0):.0%}" for name in names[:3])
