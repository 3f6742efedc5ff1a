"""Where the time of a shard, and of a run, went: seconds and counts, and nothing of any picture.

Actors measure it and send it with every result; the driver adds it up. It is no part of the labels, which are the
same however long they took.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STAGES = ("fetch", "memory", "decode", "prepare", "segment", "decide", "encode", "write")
READING = STAGES[:4]  # before the model
WAITS = ("pictures", "encoding", "shards")


@dataclass(frozen=True)
class ShardTimings:
    """Where the time of one shard went, or of several: they add up.

    Args:
        seconds: by stage of `STAGES`, of all pictures together. Stages run side by side in threads, so that they may
            come to more than the time that passed. `memory` is waiting for room to decode a picture, `write` the making
            and publishing of the label file.
        model_s: what the model alone would have needed: `segment`, and on a CPU only that part of it in which the
            model's thread had a core.
        waits: by reason of `WAITS`, seconds in which the model had nothing to do: no picture was ready; too many
            label maps waited to be encoded; no shard was at hand, which counts from the end of the one before.
        n_pictures: rows, failed ones too.
        n_segmented: pictures that the model labelled.
        n_batches: calls of the model, by the size that was asked for.
        n_ready: pictures that stood ready when the model took a batch, added up over the batches.
        n_encoding: likewise pictures behind the model, not yet encoded.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    model_s: float = 0.0
    waits: Mapping[str, float] = field(default_factory=dict)
    n_pictures: int = 0
    n_segmented: int = 0
    n_batches: int = 0
    n_ready: int = 0
    n_encoding: int = 0

    @property
    def actor_pictures_per_s(self) -> float | None:
        """Pictures a second of one actor, waits included; None if none was segmented."""
        seconds = self.seconds.get("segment", 0.0) + sum(self.waits.values())
        return self.n_segmented / seconds if self.n_segmented and seconds > 0 else None

    def __add__(self, other: "ShardTimings") -> "ShardTimings":
        return ShardTimings(
            _sum(STAGES, self.seconds, other.seconds),
            self.model_s + other.model_s,
            _sum(WAITS, self.waits, other.waits),
            self.n_pictures + other.n_pictures,
            self.n_segmented + other.n_segmented,
            self.n_batches + other.n_batches,
            self.n_ready + other.n_ready,
            self.n_encoding + other.n_encoding,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/output.md describes it; the two queues as means over the batches."""
        plain = {**asdict(self), "seconds": _rounded(self.seconds), "waits": _rounded(self.waits)}
        n_ready, n_encoding = plain.pop("n_ready"), plain.pop("n_encoding")
        n_batches = max(1, self.n_batches)
        return {
            **plain,
            "model_s": round(self.model_s, 4),
            "ready_mean": round(n_ready / n_batches, 2),
            "encoding_mean": round(n_encoding / n_batches, 2),
        }


@dataclass(frozen=True)
class RunTimings:
    """Where the time of a run went.

    Args:
        n_actors: replicas of the model that were asked for.
        start_s: from the command to the first model that was ready: plan, Ray, processes, weights.
        labelling_s: from there to the last result.
        end_s: from there to the end.
        shards: of all shards together.
    """

    n_actors: int
    start_s: float
    labelling_s: float
    end_s: float
    shards: ShardTimings

    @property
    def alone_per_s(self) -> float | None:
        """Pictures a second of the models alone, all actors together; None if none was labelled."""
        shards = self.shards
        return self.n_actors * shards.n_segmented / shards.model_s if shards.model_s > 0 else None

    @property
    def labelled_per_s(self) -> float:
        """Pictures a second of the job while it labelled."""
        return self.shards.n_segmented / self.labelling_s if self.labelling_s > 0 else 0.0

    @property
    def reached(self) -> float | None:
        """The part of `alone_per_s` that the job came to while it labelled."""
        return self.labelled_per_s / self.alone_per_s if self.alone_per_s else None

    def lost(self) -> dict[str, float]:
        """By reason, the parts of the actors' time while they labelled in which no model worked.

        `pictures`, `encoding` as in `ShardTimings`; `cores`: the model's thread had to share its core; `shards`: the
        rest: an actor had no shard, was not there yet or no more, or its threads changed places.
        """
        whole = self.n_actors * self.labelling_s
        if whole <= 0:
            return {}
        shards = self.shards
        lost = {reason: shards.waits.get(reason, 0.0) for reason in ("pictures", "encoding")}
        lost["cores"] = shards.seconds.get("segment", 0.0) - shards.model_s
        lost["shards"] = max(0.0, whole - shards.model_s - sum(lost.values()))
        return {reason: seconds / whole for reason, seconds in lost.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain data, as docs/output.md describes it."""
        return {
            "n_actors": self.n_actors,
            "start_s": round(self.start_s, 3),
            "labelling_s": round(self.labelling_s, 3),
            "end_s": round(self.end_s, 3),
            "pictures_per_s": round(self.labelled_per_s, 4),
            "model_alone_pictures_per_s": None if self.alone_per_s is None else round(self.alone_per_s, 4),
            "reached": None if self.reached is None else round(self.reached, 4),
            "lost": _rounded(self.lost()),
            "stages": self.shards.as_json(),
        }


def add_up(parts: Iterable[ShardTimings]) -> ShardTimings:
    """The timings of several shards together."""
    return sum(parts, start=ShardTimings())


def _sum(names: Iterable[str], one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in names}


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}
