"""The network alone, without pipeline and Ray: seconds of a pass, peak memory, and how much it computes.

    python -m pipeline.bench.alone '{"model": "escnet-b16", ...}'

measures one setting and prints JSON; `measure_in_process` does that in a process of its own.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.bench.made_up import made_up_picture, made_up_vocabulary
from pipeline.storage import StorageOptions
from schemas.errors import InputError, JobFailedError
from schemas.job import OFF, Dtype, Preselect, Views

if TYPE_CHECKING:
    from escnet.segmenter import Segmenter

MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """What is measured at a time: a batch of so many pictures of one size, in a vocabulary of so many classes.

    `endpoint_url` and `profile` are for a model in object storage.
    """

    model: str
    allow_random_weights: bool
    device: str
    n_classes: int
    views: Views
    dtype: Dtype
    preselect: Preselect
    batch_size: int
    width: int
    height: int
    threads: int
    repeat: int
    endpoint_url: str | None = None
    profile: str | None = None

    def __str__(self) -> str:
        batch = f", batches of {self.batch_size}" if self.batch_size > 1 else ""
        kept = "" if self.preselect == OFF else f" (at most {self.preselect} preselected)"
        return f"{self.n_classes} classes{kept}, {self.views}, {self.dtype}, {self.width} x {self.height}{batch}"


@dataclass(frozen=True)
class Measured:
    """What was found.

    Args:
        seconds: of every timed pass over the batch.
        peak_mib: the most memory held, of the GPU, or of the process on a CPU.
        above_model_mib: how much of it came on top of the model and its words.
        flops: floating-point operations of a pass, two a multiplication with addition; None if they cannot be counted.
    """

    seconds: tuple[float, ...]
    peak_mib: float
    above_model_mib: float
    flops: float | None

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def measure_in_process(setting: Setting) -> Measured:
    """Measure in a fresh process.

    Raises:
        InputError: the setting cannot be used. JobFailedError: the process died, as for want of memory.
    """
    command = [sys.executable, "-m", "pipeline.bench.alone", json.dumps(asdict(setting))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == InputError.exit_code:
        raise InputError(last)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it was killed; there may be too little memory"])[-1]
        raise JobFailedError(f"{setting}: the measuring process ended with {done.returncode}: {why}")
    found = json.loads(last)
    return Measured(tuple(found["seconds"]), found["peak_mib"], found["above_model_mib"], found["flops"])


def measure(setting: Setting) -> Measured:
    """Measure in this process. One pass warms up, and is counted instead of timed."""
    import torch

    from escnet.models import load_model
    from escnet.segmenter import Segmenter
    from pipeline.model_cache import find_model, model_on_this_node

    torch.set_num_threads(setting.threads)
    storage = StorageOptions(setting.endpoint_url, setting.profile)
    with model_on_this_node(find_model(setting.model, storage, setting.allow_random_weights), storage) as model:
        network = load_model(model, setting.device)
    segmenter = Segmenter(
        network, device=setting.device, dtype=setting.dtype, views=setting.views, preselect=setting.preselect
    )
    words = segmenter.compile(made_up_vocabulary(setting.n_classes))
    size = (setting.width, setting.height)
    batch = [segmenter.prepare(made_up_picture(number, size)) for number in range(setting.batch_size)]
    before = _peak_mib(setting.device)
    flops = _count(lambda: segmenter.segment(batch, words), segmenter)
    seconds = tuple(_timed(lambda: segmenter.segment(batch, words)) for _ in range(setting.repeat))
    peak = _peak_mib(setting.device)
    return Measured(seconds, peak, peak - before, flops)


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()  # its results are on the CPU: a GPU is done when it returns
    return time.perf_counter() - started


def _count(work: Callable[[], Any], segmenter: "Segmenter") -> float | None:
    """Run once, counting what is computed, then once more as it will be timed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # What is compiled hides its operations from the counter, so it is counted uncompiled.
    with torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext(), counter:
        work()
    if segmenter.device.type == "cuda":
        work()
        torch.cuda.reset_peak_memory_stats()
    return float(counter.get_total_flops()) or None


def _peak_mib(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 2**10)  # Linux counts in KiB, macOS in bytes


def main() -> None:
    """Measure the setting that stands on the command line."""
    try:
        print(json.dumps(asdict(measure(Setting(**json.loads(sys.argv[1]))))))
    except InputError as error:
        print(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
