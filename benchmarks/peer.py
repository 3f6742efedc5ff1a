"""CPU seconds a picture against the length of the vocabulary, ESC-Net beside CAT-Seg, as figures and a plot.

    python benchmarks/peer.py --json benchmarks/peer.json --plot benchmarks/peer.png

Both networks have the same CLIP, ViT-B/16 at 384 x 384, and random weights, which cost the same as trained ones.
ESC-Net is measured with all classes and with the 32 that `escnet annotate` preselects by default. One thread, one view,
float32; seconds are those of the process, so that others on the machine disturb them little. The networks take turns in
one process, after a pass each to warm up, and of --repeat passes the median is kept.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

OFF = "off"
CURVES = {  # name: preset, and how many classes are preselected
    "escnet-b16, all classes": ("escnet-b16", OFF),
    "escnet-b16, 32 preselected": ("escnet-b16", 32),
    "cat-seg-b16": ("cat-seg-b16", OFF),
}


def main() -> None:
    """Measure, write the figures, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", nargs="+", type=int, default=[20, 80, 171, 400, 847])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    asked = parser.parse_args()
    seconds = measure(asked.classes, asked.repeat)
    found = {"command": shlex.join(["python", *sys.argv]), **versions(), "seconds": seconds}
    asked.json.write_text(json.dumps(found, indent=1) + "\n")
    draw(seconds, asked.plot)


def versions() -> dict[str, Any]:
    """Of what was measured."""
    import torch

    return {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}


def measure(classes: list[int], repeat: int) -> dict[str, dict[int, float]]:
    """Median seconds of each curve and number of classes; prints each as it is found."""
    import numpy as np
    import torch

    from escnet.models import load_model, resolve_model
    from escnet.segmenter import Segmenter
    from schemas.vocabulary import Vocabulary

    torch.set_num_threads(1)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    networks = {preset: load_model(resolve_model(preset, allow_random_weights=True)) for preset, _ in CURVES.values()}
    segmenters = {
        name: Segmenter(networks[preset], views="single", preselect=preselect)
        for name, (preset, preselect) in CURVES.items()
    }
    seconds: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for n_classes in [min(classes), *classes]:  # the first to warm up
        vocabulary = Vocabulary(name="things", classes=[f"thing {i}" for i in range(n_classes)])
        compiled = {name: segmenter.compile(vocabulary) for name, segmenter in segmenters.items()}
        passes: dict[str, list[float]] = {name: [] for name in CURVES}
        for _ in range(repeat):
            for name, segmenter in segmenters.items():
                started = time.process_time()
                segmenter(picture, compiled[name])
                passes[name].append(time.process_time() - started)
        for name in CURVES:
            seconds[name][n_classes] = round(statistics.median(passes[name]), 3)
            print(f"{name:<28} {n_classes:>4} classes  {seconds[name][n_classes]:7.2f} s", flush=True)
    return seconds


def draw(seconds: dict[str, dict[int, float]], path: Path) -> None:
    """All curves in one plot."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, marker in zip(CURVES, "ovs", strict=True):
        axes.plot(*zip(*seconds[name].items(), strict=True), marker=marker, label=name)
    axes.axvline(256, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("CAT-Seg keeps 256 classes", (256, 0), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="classes in the vocabulary", ylabel="CPU seconds a picture (one thread, one view)", ylim=(0, None))
    axes.legend(framealpha=1, edgecolor="none")  # over the dotted line
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
