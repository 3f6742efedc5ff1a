"""Seconds a picture on a GPU, its memory, and the share of its peak: ESC-Net and CAT-Seg in many settings.

    python benchmarks/gpu.py --json benchmarks/gpu.json
    python benchmarks/gpu.py --models escnet-b16 --classes 150 --seconds 30

Random weights, which cost the same as trained ones, one view, pictures of 640 x 480 that are decoded and resized
already. Every model is measured in bfloat16 and batches of 8 for each number of classes, with all of them and with the
32 that `escnet annotate` preselects (CAT-Seg cannot choose), and at 150 classes in other precisions and batches. All
settings run in one process: the GPU's peak memory is reset before each. One pass warms up and one is counted; timed are
at least 3 more, and the median is kept. Results are on the CPU when a pass returns, so the clock waits for the GPU.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from escnet.base_network import Network
from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.bench.devices import known_peak
from pipeline.bench.made_up import made_up_picture, made_up_vocabulary

SIZE = (640, 480)
OFF = "off"
AT_LEAST, TIMED_S = 3, 0.6  # passes, and seconds of them
FEW = 150  # classes at which precisions and batches are tried


class Setting(NamedTuple):
    """What is measured at a time."""

    model: str
    classes: int
    preselect: str | int
    dtype: str = "bfloat16"
    batch_size: int = 8

    def __str__(self) -> str:
        return f"{self.model:<12} {self.classes:>4} {self.preselect:>4} {self.dtype:<9} {self.batch_size:>3}"


def main() -> None:
    """Measure as many settings as there is time for; write the figures and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["escnet-b16", "cat-seg-b16", "escnet-l14"])
    parser.add_argument("--classes", nargs="+", type=int, default=[20, 150, 847])
    parser.add_argument("--seconds", type=float, default=600, help="begin no setting after so long")
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {"command": shlex.join(["python", *sys.argv]), **environment(asked.device), "figures": []}
    ends = time.monotonic() + asked.seconds
    print("model     classes keep dtype   batch   ms a picture   pictures/s    MiB  GFLOP  of peak  compile s")
    for figures in measure_all(asked.models, asked.classes, asked.device, ends):
        found["figures"].append(figures)
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1) + "\n")


def environment(device: str) -> dict[str, Any]:
    """Of what was measured."""
    name = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version()}


def settings(model: str, classes: list[int]) -> Iterator[Setting]:
    """Of one model, the most telling first."""
    keeps = [OFF] if model.startswith("cat-seg") else [32, OFF]
    for n_classes in classes:
        for keep in keeps:
            yield Setting(model, n_classes, keep)
    few = FEW if FEW in classes else classes[0]
    for batch_size in (1, 32):
        yield Setting(model, few, keeps[0], batch_size=batch_size)
    for dtype in ("float16", "float32"):
        yield Setting(model, few, keeps[0], dtype)


def measure_all(models: list[str], classes: list[int], device: str, ends: float) -> Iterator[dict[str, Any]]:
    """Figures of every setting; those for which there is neither time nor memory are said to be left out."""
    for model in models:
        network = load_model(resolve_model(model, allow_random_weights=True), device)
        for setting in settings(model, classes):
            if time.monotonic() > ends:
                print(f"{setting}   left out: no time")
                continue
            try:
                figures = measure(network, setting, device)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                print(f"{setting}   left out: no memory", flush=True)
                continue
            show(setting, figures)
            yield {**setting._asdict(), **figures}


def measure(network: Network, setting: Setting, device: str) -> dict[str, Any]:
    """What one setting takes."""
    segmenter = Segmenter(network, device=device, dtype=setting.dtype, views="single", preselect=setting.preselect)
    started = time.perf_counter()
    words = segmenter.compile(made_up_vocabulary(setting.classes))
    compile_s = time.perf_counter() - started
    batch = [segmenter.prepare(made_up_picture(number, SIZE)) for number in range(setting.batch_size)]
    segmenter.segment(batch, words)
    with FlopCounterMode(display=False) as counter:
        segmenter.segment(batch, words)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    while len(seconds) < AT_LEAST or sum(seconds) < TIMED_S:
        started = time.perf_counter()
        segmenter.segment(batch, words)
        seconds.append(time.perf_counter() - started)
    median, flops = statistics.median(seconds), counter.get_total_flops()
    peak = known_peak(torch.cuda.get_device_name(0), setting.dtype) if device == "cuda" else None
    return {
        "seconds_per_image": round(median / setting.batch_size, 6),
        "fastest": round(min(seconds) / setting.batch_size, 6),
        "slowest": round(max(seconds) / setting.batch_size, 6),
        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
        "gflop_per_image": round(flops / setting.batch_size / 1e9, 1),
        "share_of_peak": None if peak is None else round(flops / median / peak, 4),
        "compile_s": round(compile_s, 2),
    }


def show(setting: Setting, figures: dict[str, Any]) -> None:
    """One line of the table."""
    per_image = figures["seconds_per_image"]
    memory, share = figures["peak_memory_mib"] or 0, figures["share_of_peak"] or 0
    print(
        f"{setting}   {per_image * 1e3:10.2f} {1 / per_image:12.1f} {memory:8} {figures['gflop_per_image']:8.1f} "
        f"{share:6.1%} {figures['compile_s']:8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
