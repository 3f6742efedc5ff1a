"""Seconds a picture and peak memory of the bare network, each measured in a process of its own.

    python benchmarks/segment.py --models escnet-nano escnet-b16 --classes 20 150 --threads 2

Weights are random: they cost the same as trained ones. The picture is noise of 640 x 480 pixels unless
--size says otherwise. One pass warms up; the median of the others is shown, with the fastest and slowest.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def main() -> None:
    """Measure every combination and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["escnet-nano", "escnet-b16", "escnet-l14"])
    parser.add_argument("--classes", nargs="+", type=int, default=[20, 150])
    parser.add_argument("--views", nargs="+", default=["single"], choices=["single", "sliding"])
    parser.add_argument("--size", nargs=2, type=int, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(**json.loads(asked.one))))
        return
    print("| model | views | classes | s a picture (median) | fastest - slowest | peak memory | above the model |")
    print("|---|---|---|---|---|---|---|")
    for model in asked.models:
        for views in asked.views:
            for classes in asked.classes:
                one = {"model": model, "views": views, "classes": classes, "size": asked.size}
                show(one, run_alone({**one, "threads": asked.threads, "repeat": asked.repeat}))


def run_alone(one: dict) -> dict:
    """Measure in a fresh process: peak memory is a process's own and never goes down."""
    command = [sys.executable, __file__, "--one", json.dumps(one)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show(one: dict, found: dict) -> None:
    """One line of the table."""
    seconds = found["seconds"]
    spread = f"{min(seconds):.2f} - {max(seconds):.2f}"
    memory = f"{found['peak_mib']:,.0f} MiB | {found['growth_mib']:,.0f} MiB"
    median = f"{statistics.median(seconds):.2f}"
    print(f"| {one['model']} | {one['views']} | {one['classes']} | {median} | {spread} | {memory} |", flush=True)


def measure(model: str, views: str, classes: int, size: list[int], threads: int, repeat: int) -> dict:
    """Segment one picture `repeat` times after a first; seconds of each, and memory in MiB."""
    import numpy as np
    import torch

    from escnet.models import load_model, resolve_model
    from escnet.segmenter import Segmenter
    from schemas.vocabulary import Vocabulary

    torch.set_num_threads(threads)
    network = load_model(resolve_model(model, allow_random_weights=True))
    segmenter = Segmenter(network, views=views)
    compiled = segmenter.compile(Vocabulary(name="things", classes=[f"thing {k}" for k in range(classes)]))
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    prepared = segmenter.prepare(picture)
    before = peak_mib()
    seconds = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        segmenter.segment([prepared], compiled)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "peak_mib": peak_mib(), "growth_mib": peak_mib() - before}


def peak_mib() -> float:
    """The most memory this process has held, in MiB (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
