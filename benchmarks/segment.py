"""Seconds a picture and peak memory of the bare network, each measured in a process of its own.

    python benchmarks/segment.py --models escnet-nano escnet-b16 --classes 20 150 --threads 2

Weights are random: they cost the same as trained ones. The picture is noise of 640 x 480 pixels unless
--size says otherwise. One pass warms up; the median of the others is shown, with the fastest and slowest.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from itertools import product


def main() -> None:
    """Measure every combination and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["escnet-nano", "escnet-b16", "escnet-l14"])
    parser.add_argument("--classes", nargs="+", type=int, default=[20, 150])
    parser.add_argument("--views", nargs="+", default=["single"], choices=["single", "sliding"])
    parser.add_argument("--size", nargs=2, type=int, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--preselect", nargs="+", default=["off"], metavar="N|off", help="see `escnet annotate`")
    parser.add_argument("--before", metavar="DIR", help="another checkout, measured before this one")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(**json.loads(asked.one))))
        return
    found = []
    print("| model | views | classes | preselect | s (median) | fastest - slowest | CPU s | peak | above the model |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model, views, classes, preselect in product(asked.models, asked.views, asked.classes, asked.preselect):
        one = {"model": model, "views": views, "classes": classes, "preselect": preselect, "size": asked.size}
        for checkout in [asked.before, None] if asked.before and preselect == "off" else [None]:
            shown = one if checkout is None else {**one, "preselect": "before"}
            found.append(shown | run_alone({**one, "threads": asked.threads, "repeat": asked.repeat}, checkout))
            show(found[-1])
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump({"threads": asked.threads, "figures": found}, file, indent=1)


def run_alone(one: dict, checkout: str | None) -> dict:
    """Measure in a fresh process: peak memory is a process's own and never goes down."""
    command = [sys.executable, __file__, "--one", json.dumps(one)]
    environment = {**os.environ, "PYTHONPATH": checkout} if checkout else None
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


def show(found: dict) -> None:
    """One line of the table."""
    seconds = found["seconds"]
    spread = f"{min(seconds):.2f} - {max(seconds):.2f}"
    memory = f"{found['peak_mib']:,.0f} MiB | {found['growth_mib']:,.0f} MiB"
    cpu = f"{min(found['cpu_seconds']):.2f}"
    median = f"{statistics.median(seconds):.2f}"
    asked = " | ".join(str(found[name]) for name in ("model", "views", "classes", "preselect"))
    print(f"| {asked} | {median} | {spread} | {cpu} | {memory} |", flush=True)


def measure(model: str, views: str, classes: int, preselect: str, size: list[int], threads: int, repeat: int) -> dict:
    """Segment one picture `repeat` times after a first; seconds of each, and memory in MiB."""
    import numpy as np
    import torch

    from escnet.models import load_model, resolve_model
    from escnet.segmenter import Segmenter
    from schemas.vocabulary import Vocabulary

    torch.set_num_threads(threads)
    network = load_model(resolve_model(model, allow_random_weights=True))
    options = {} if preselect == "off" else {"preselect": int(preselect)}
    segmenter = Segmenter(network, views=views, **options)
    compiled = segmenter.compile(Vocabulary(name="things", classes=[f"thing {k}" for k in range(classes)]))
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    prepared = segmenter.prepare(picture)
    before = peak_mib()
    seconds, cpu_seconds = [], []
    for _ in range(repeat + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        segmenter.segment([prepared], compiled)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    return {
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "peak_mib": peak_mib(),
        "growth_mib": peak_mib() - before,
    }


def peak_mib() -> float:
    """The most memory this process has held, in MiB (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
