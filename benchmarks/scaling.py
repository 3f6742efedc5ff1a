"""What a large job costs its driver: seconds of CPU and memory, each measured in a process of its own.

    python benchmarks/scaling.py loop     # the driver's loop, with a stand-in for Ray: 50 to 10,000 actors
    python benchmarks/scaling.py ray      # a small job on a real Ray, and what single calls of Ray cost
    python benchmarks/scaling.py plan     # from a manifest of ten million rows to shards
    python benchmarks/scaling.py loop ray plan --json benchmarks/scaling.json

`loop` has no processes and no pictures: its actors answer after a service time, and time spent in the stand-in is not
counted. `ray` has no pictures either: its actors sleep for as long as a shard would take.
"""

import argparse
import functools
import heapq
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

ROWS, SHARD_SIZE, CLASSES = 10_000_000, 256, 171


def main() -> None:
    """Measure what is asked for, and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["loop", "ray", "plan"])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--workers", nargs="+", type=int, default=[50, 500, 2000, 10_000], help="of `loop`")
    parser.add_argument("--seconds", type=float, default=20, help="that each run of `loop` and `ray` is to take")
    parser.add_argument("--actors", type=int, default=6, help="of `ray`")
    parser.add_argument("--json", help="keep the figures in this file, beside those of other parts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(_PARTS[asked.parts[0]](**json.loads(asked.one))))
        return
    runs = {
        "loop": [{"n_workers": n, "n_rows": asked.rows, "seconds": asked.seconds} for n in asked.workers],
        "ray": [{"n_actors": asked.actors, "seconds": asked.seconds}],
        "plan": [{"n_rows": asked.rows}],
    }
    found = {part: [run_alone(part, one) for one in runs[part]] for part in asked.parts}
    found["versions"] = {"python": platform.python_version(), **{name: version(name) for name in ("ray", "pyarrow")}}
    if asked.json:
        path = Path(asked.json)
        found = (json.loads(path.read_text()) if path.exists() else {}) | found
        path.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def run_alone(part: str, one: dict) -> dict:
    """Measure in a fresh process: peak memory is a process's own and never goes down."""
    command = [sys.executable, __file__, part, "--one", json.dumps(one)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return one | json.loads(done.stdout.splitlines()[-1])


class StandInRay:
    """The calls of Ray that the driver makes, answered after a time by nobody. `cpu_s` is what this took itself."""

    def __init__(self, exceptions: types.ModuleType, service_s: float) -> None:
        self.exceptions = exceptions
        self.cpu_s = 0.0
        self._service_s = service_s
        self._done: set[int] = set()
        self._answers: dict[
            int, Callable[[], object]
        ] = {}  # made when they are asked for, since real ones lie elsewhere
        self._ahead: list[tuple[float, int]] = []
        self._n_calls = 0

    def method(self, **_: object):
        return lambda function: function

    def remote(self, **_: object):
        return lambda _: types.SimpleNamespace(remote=lambda _: _Actor(self))

    def kill(self, actor: object, *, no_restart: bool = True) -> None: ...

    def call(self, answer: Callable[[], object], at: float) -> int:
        self._n_calls += 1
        self._answers[self._n_calls] = answer
        heapq.heappush(self._ahead, (at, self._n_calls))
        return self._n_calls

    def wait(self, calls: list[int], *, num_returns: int = 1, timeout: float) -> tuple[list[int], list[int]]:
        started = time.thread_time()
        until = time.monotonic() + timeout
        while True:
            while self._ahead and self._ahead[0][0] <= time.monotonic():
                self._done.add(heapq.heappop(self._ahead)[1])
            ready = [call for call in calls if call in self._done][:num_returns]
            left = until - time.monotonic()
            if ready or left <= 0:
                self.cpu_s += time.thread_time() - started
                return ready, []
            time.sleep(max(0.0, min(left, self._ahead[0][0] - time.monotonic() if self._ahead else left)))

    def get(self, call: int) -> object:
        started = time.thread_time()
        self._done.discard(call)
        answer = self._answers.pop(call)()
        self.cpu_s += time.thread_time() - started
        return answer


class _Actor:
    """Does one shard after another, each in the same time."""

    def __init__(self, ray: StandInRay) -> None:
        self._ray = ray
        self._free_at = 0.0
        self.warm_up = types.SimpleNamespace(remote=self._warm_up)
        self.report = types.SimpleNamespace(remote=self._report)
        self.annotate_shard = types.SimpleNamespace(remote=self._annotate)

    def _warm_up(self) -> int:
        from pipeline.actors.orders import ReplicaStart

        return self._ray.call(lambda: ReplicaStart([], {}), time.monotonic())

    def _report(self) -> int:
        from pipeline.actors.orders import RunnerReport

        return self._ray.call(RunnerReport, time.monotonic())

    def _annotate(self, order) -> int:
        started = time.thread_time()
        self._free_at = max(self._free_at, time.monotonic()) + self._ray._service_s
        call = self._ray.call(lambda: shard_result(order.ref.shard_id, order.ref.n_rows), self._free_at)
        self._ray.cpu_s += time.thread_time() - started
        return call


def shard_result(shard_id: str, n_rows: int):
    """What an actor says of a shard in which every class of a long vocabulary was found."""
    from pipeline.actors.orders import Counts, ShardResult
    from schemas.labels import ShardTotals
    from schemas.timings import STAGES, WAITS, ShardTimings

    classes = {k: {"name": f"thing {k}", "pixels": 1000, "pictures": 9} for k in range(CLASSES)}
    totals = ShardTotals(n_rows, n_rows, {}, n_rows * 307_200, 0, classes)
    timings = ShardTimings(dict.fromkeys(STAGES, 1.0), 1.0, dict.fromkeys(WAITS, 0.1), n_rows, n_rows, n_rows, 9, 9)
    return ShardResult(
        shard_id,
        totals,
        Counts(n_rows, 0),
        is_withheld=False,
        is_refused=False,
        last_error="",
        n_halved=0,
        timings=timings,
        vocabulary="things",
        n_empty=0,
        confidence_mean=0.8,
    )


def measure_loop(n_workers: int, n_rows: int, seconds: float) -> dict:
    """The driver's loop over the shards of `n_rows`, with all that a job does for each result."""
    import ray.exceptions

    from pipeline.actors.placement import Placement
    from pipeline.actors.scheduler import run_shards
    from pipeline.annotation.annotate import RunningTotals
    from pipeline.annotation.run_watch import RunWatch
    from pipeline.progress import Progress
    from schemas.job import ShardRef
    from schemas.labels import ShardTotals

    sizes = [min(SHARD_SIZE, n_rows - start) for start in range(0, n_rows, SHARD_SIZE)]
    setup = types.SimpleNamespace(timeout_s=300.0, options=types.SimpleNamespace(batch_size=1))
    stand_in = StandInRay(ray.exceptions, service_s=seconds * n_workers / len(sizes))
    totals, before = RunningTotals(ShardTotals()), resident_mib()
    refs = [ShardRef(f"{i:032x}", "things", f"part-{i // 256:05d}-0123abcd.parquet", i, n) for i, n in enumerate(sizes)]
    refs_mib, started, cpu = resident_mib() - before, time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as output, Progress(n_rows) as progress, patch.dict(sys.modules, ray=stand_in):
        placement = Placement(n_workers, 1, 1)
        watch = RunWatch(_job(output), {}, placement, started, progress)
        for result in run_shards(refs, setup, placement, progress):
            watch.add(result)
            totals.add(result)
        watch.close(None)
    wall, cpu = time.monotonic() - started, time.process_time() - cpu - stand_in.cpu_s
    return {
        "n_shards": len(sizes),
        "wall_s": round(wall, 1),
        "shards_per_s": round(len(sizes) / wall),
        "driver_cpu_s": round(cpu, 1),
        "stand_in_cpu_s": round(stand_in.cpu_s, 1),
        "driver_cpu_us_per_shard": round(cpu / len(sizes) * 1e6),
        "refs_mib": round(refs_mib),
        "growth_mib": round(peak_mib() - before),
        "peak_mib": round(peak_mib()),
    }


def _job(output: str) -> types.SimpleNamespace:
    """As much of a job as the log of its run asks for."""
    from pipeline.storage import StorageOptions

    return types.SimpleNamespace(
        request=types.SimpleNamespace(output=output),
        storage=StorageOptions(),
        model=types.SimpleNamespace(name="stand-in"),
        vocabularies={},
        options=types.SimpleNamespace(model_dump=dict),
        versions=dict,
    )


class _Sleeper:
    """An actor that takes a while for a shard, and answers what a real one does."""

    def __init__(self, service_s: float) -> None:
        self._service_s = service_s

    def warm_up(self):
        from pipeline.actors.orders import ReplicaStart

        return ReplicaStart([], {})

    def annotate_shard(self, order):
        time.sleep(self._service_s)
        return shard_result(order.ref.shard_id, order.ref.n_rows)

    def report(self):
        from pipeline.actors.orders import RunnerReport

        return RunnerReport()


def measure_ray(n_actors: int, seconds: float) -> dict:
    """A job on real actors that sleep; then single calls of Ray, with CPU seconds of this process alone."""
    import ray

    from pipeline.actors import scheduler
    from pipeline.actors.placement import Placement, ray_cluster
    from pipeline.progress import Progress
    from schemas.job import ShardRef

    service_s = 0.2
    n = int(seconds * n_actors * 2 / service_s)  # an actor has two shards at once, and here both sleep
    refs = [ShardRef(f"{i:032x}", "things", "part-00000-0123abcd.parquet", i, SHARD_SIZE) for i in range(n)]
    setup = types.SimpleNamespace(timeout_s=300.0, options=types.SimpleNamespace(batch_size=1))
    replica = ray.remote(num_cpus=0, max_concurrency=2, concurrency_groups={"reports": 1})(_Sleeper)
    made = types.SimpleNamespace(remote=lambda _: replica.remote(service_s))
    with (
        ray_cluster(None),
        Progress(n * SHARD_SIZE) as progress,
        patch.object(scheduler, "actor_class", lambda *_: made),
    ):
        work = scheduler.run_shards(refs, setup, Placement(n_actors, 0, 0), progress)
        next(work)
        started, cpu = time.monotonic(), time.process_time()
        n_left = sum(1 for _ in work)
        wall, cpu = time.monotonic() - started, time.process_time() - cpu
        return {
            "n_shards": n_left,
            "wall_s": round(wall, 1),
            "driver_cpu_us_per_shard": round(cpu / n_left * 1e6),
            "call_us": ray_call_us(ray, replica.remote(0.0)),
            "wait_us_by_n_calls": {k: ray_wait_us(ray, replica, k) for k in (100, 1000, 4000)},
            "peak_mib": round(peak_mib()),
        }


def ray_call_us(ray, actor, n: int = 1000) -> int:
    """CPU of the driver for one call of an actor and its answer."""
    ray.get(actor.report.remote())
    cpu = time.process_time()
    for call in [actor.report.remote() for _ in range(n)]:
        ray.get(call)
    return round((time.process_time() - cpu) / n * 1e6)


def ray_wait_us(ray, replica, n_calls: int, n: int = 20) -> int:
    """CPU of the driver for one look at so many calls, none of which has ended."""
    actor = replica.remote(3600.0)
    ray.get(actor.report.remote())
    calls = [actor.annotate_shard.remote(None) for _ in range(n_calls)]
    cpu = time.process_time()
    for _ in range(n):
        ray.wait(calls, num_returns=n_calls, timeout=0)
    cost = time.process_time() - cpu
    ray.kill(actor)
    return round(cost / n * 1e6)


def measure_plan(n_rows: int) -> dict:
    """Plan a job from a manifest, as `annotate` does before it starts."""
    from pipeline.output.plan import PlanDigest, cut_shards, read_plan, write_plan
    from pipeline.sources import SourceSummary, list_batches
    from pipeline.storage import StorageOptions
    from schemas.job import LabelOptions, shard_identity

    options = LabelOptions(
        views="single", device="cpu", dtype="float32", batch_size=1, cpus_per_actor=1, max_pixels=178_956_970
    )

    def identify(rows, _: str) -> str:
        return shard_identity(rows, "vocabulary", "model", options)

    with tempfile.TemporaryDirectory() as folder:
        source, output = f"{folder}/pictures.parquet", f"{folder}/output"
        subprocess.run([sys.executable, __file__, "plan", "--one", json.dumps({"write": source, "n_rows": n_rows})])
        storage, digest, before = StorageOptions(), PlanDigest(), resident_mib()
        started, cpu = time.monotonic(), time.process_time()
        batches = list_batches((source,), storage, SourceSummary())
        files = write_plan(digest.watch(cut_shards(batches, ("things",), SHARD_SIZE, identify)), output, storage)
        wall, cpu, peak = time.monotonic() - started, time.process_time() - cpu, peak_mib()
        started = time.monotonic()
        refs = read_plan(files, output, storage)
        return {
            "n_shards": len(refs),
            "wall_s": round(wall, 1),
            "cpu_s": round(cpu, 1),
            "read_plan_s": round(time.monotonic() - started, 2),
            "manifest_mib": round(sum(file.stat().st_size for file in Path(output).rglob("*.parquet")) / 2**20),
            "before_mib": round(before),
            "peak_mib": round(peak),
        }


def write_manifest(path: str, n_rows: int) -> dict:
    """A manifest of pictures that are not there: ids, S3 URIs, sizes and etags."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"image_id": pa.string(), "uri": pa.string(), "size_bytes": pa.int64(), "etag": pa.string()}
    schema = pa.schema(names)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, n_rows, 100_000):
            numbers = range(start, min(start + 100_000, n_rows))
            ids = [f"{i // 1000:05d}/{i:08d}.jpg" for i in numbers]
            etags = [hashlib.md5(name.encode()).hexdigest() for name in ids]
            uris = [f"s3://pictures/2026/{name}" for name in ids]
            writer.write_table(pa.table([ids, uris, [100_000 + i % 99_991 for i in numbers], etags], schema=schema))
    return {}


def measure_or_write(n_rows: int, write: str | None = None) -> dict:
    """In the process that makes the manifest, make it; else measure."""
    return write_manifest(write, n_rows) if write else measure_plan(n_rows)


def peak_mib() -> float:
    """The most memory this process has held, in MiB (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@functools.cache
def _this_process():
    import psutil

    return psutil.Process()


def resident_mib() -> float:
    """The memory this process holds now, in MiB."""
    return _this_process().memory_info().rss / 2**20


_PARTS = {"loop": measure_loop, "ray": measure_ray, "plan": measure_or_write}

if __name__ == "__main__":
    main()
