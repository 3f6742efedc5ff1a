"""What driver and actors say to each other of a shard, and what a shard runner needs of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from schemas.errors import PictureError
from schemas.job import ShardRef
from schemas.labels import ShardTotals
from schemas.timings import ShardTimings
from schemas.vocabulary import Vocabulary

if TYPE_CHECKING:  # torch stays out of the driver
    from escnet.scoring import Segmentation


class Prepared(Protocol):
    """A picture at the network's resolution, and the size of the original."""

    size_hw: tuple[int, int]


class Segmenter(Protocol):
    """What the runner needs of the model; `escnet.segmenter.Segmenter` is the real one."""

    def compile(self, vocabulary: Vocabulary) -> Any: ...
    def prepare(self, picture: np.ndarray) -> Any: ...  # a `Prepared`
    def segment(self, batch: Sequence[Any], vocabulary: Any) -> list["Segmentation"]: ...


@dataclass(frozen=True)
class Counts:
    """Pictures of a shard, or of a job, so far."""

    labelled: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.labelled + self.failed

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.labelled + other.labelled, self.failed + other.failed)


Withholding = Literal["none", "refused", "unreadable", "failed"]


@dataclass(frozen=True)
class ShardOrder:
    """A shard to be labelled and published.

    Args:
        withhold: do not publish the file if every picture "failed", or if storage gave none of them ("unreadable");
            nor, unless it is "none", if storage refuses by now what it gave before ("refused").
        poison: by position in the shard, pictures that are not to be tried again, and what their rows say.
    """

    ref: ShardRef
    withhold: Withholding = "none"
    poison: Mapping[int, PictureError] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardResult:
    """What became of one shard. A shard that is withheld was not published.

    Args:
        totals: of the whole label file.
        counts: pictures that were worked on now; when failed rows are done again, the others are not.
        is_refused: withheld because storage refuses some of its pictures, and by now also one that it gave before.
        n_halved: shapes for which this process runs smaller batches, since larger ones ran out of memory.
        timings: where the time of those pictures went.
        n_empty: labelled pictures of the file in which every pixel is ignored.
        confidence_mean: over the pixels of the file that are not ignored, 0 to 1; None if there are none.
        actor: which of the job's actors did it, as the driver counts them.
    """

    shard_id: str
    totals: ShardTotals
    counts: Counts
    is_withheld: bool
    is_refused: bool
    last_error: str
    n_halved: int
    timings: ShardTimings
    vocabulary: str
    n_empty: int
    confidence_mean: float | None
    actor: int = 0


@dataclass(frozen=True)
class ReplicaStart:
    """What a replica says when it is ready.

    Args:
        unknown_words: of the vocabularies, which its model was never trained with.
        seconds: what its start took, by step: "load" of libraries and weights, "compile" of the vocabularies.
    """

    unknown_words: list[str]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Stuck:
    """Pictures that the model has been at for longer than it may."""

    shard_id: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class RunnerReport:
    """How far the shards at hand are, by shard id, and whether the model answers."""

    counts: dict[str, Counts] = field(default_factory=dict)
    stuck: Stuck | None = None
