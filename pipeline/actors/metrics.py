"""What an actor tells Prometheus, through Ray's metrics: docs/cluster.md names all of it, docs/grafana.json draws it.

Where no Ray runs around the actor, as in tests of the runner, nothing is told.
"""

import sys
from typing import TypeVar

from schemas.timings import ShardTimings

_TAGS = ("output",)
_Metric = TypeVar("_Metric")


class ActorMetrics:
    """Counters and gauges of one actor; Ray adds its node and process. Safe in threads.

    Args:
        output: URI of the dataset, without secrets: the jobs of a cluster are told apart by it.
    """

    def __init__(self, output: str) -> None:
        from ray.util.metrics import Counter, Gauge

        def counter(name: str, what: str, *tags: str) -> Counter:
            return _tagged(Counter(f"escnet_{name}", what, (*_TAGS, *tags)), output)

        def gauge(name: str, what: str) -> Gauge:
            return _tagged(Gauge(f"escnet_{name}", what, _TAGS), output)

        self._pictures = counter("pictures", "Pictures done, by status", "status")
        self._stage_seconds = counter("stage_seconds", "Seconds spent, by stage; stages run side by side", "stage")
        self._wait_seconds = counter("wait_seconds", "Seconds in which the model had nothing to do", "reason")
        self._shards = counter("shards", "Label files published")
        self._ready = gauge("pictures_ready", "Pictures that stood ready when the model took a batch")
        self._encoding = gauge("pictures_encoding", "Pictures behind the model that were not encoded yet")
        self._batch = gauge("batch_size", "Pictures that the model took at once")
        self._gpu_bytes = gauge("gpu_memory_bytes", "GPU memory that the actor holds")

    def picture(self, status: str) -> None:
        """One picture is done."""
        self._pictures.inc(1, {"status": status})

    def batch(self, n_pictures: int, n_ready: int, n_encoding: int) -> None:
        """The model takes a batch."""
        self._batch.set(n_pictures)
        self._ready.set(n_ready)
        self._encoding.set(n_encoding)

    def shard(self, timings: ShardTimings) -> None:
        """A shard is published."""
        self._shards.inc(1)
        for counter, tag, seconds in (
            (self._stage_seconds, "stage", timings.seconds),
            (self._wait_seconds, "reason", timings.waits),
        ):
            for name, value in seconds.items():
                if value > 0:  # Ray refuses to count nothing
                    counter.inc(value, {tag: name})
        self._gpu_bytes.set(_gpu_bytes())


class NoMetrics:
    """The same for nobody."""

    def picture(self, status: str) -> None: ...
    def batch(self, n_pictures: int, n_ready: int, n_encoding: int) -> None: ...
    def shard(self, timings: ShardTimings) -> None: ...


def metrics_of_this_process(output: str) -> ActorMetrics | NoMetrics:
    """Those of the Ray actor that this process is, if it is one."""
    ray = sys.modules.get("ray")
    return ActorMetrics(output) if ray is not None and ray.is_initialized() else NoMetrics()


def _tagged(metric: _Metric, output: str) -> _Metric:
    in_ascii = output.encode("ascii", "backslashreplace").decode()  # Ray takes no other
    metric.set_default_tags({"output": in_ascii})  # type: ignore[attr-defined]
    return metric


def _gpu_bytes() -> int:
    torch = sys.modules.get("torch")
    return torch.cuda.memory_reserved() if torch is not None and torch.cuda.is_initialized() else 0
