"""Is memory flat over a long run? What a job's processes hold while it labels thousands of pictures.

    python benchmarks/memory.py --n 5000 --json benchmarks/memory.json
    python benchmarks/memory.py --n 600 --actors 1              # a first look

Runs `escnet annotate` over made-up pictures and looks at its processes every few seconds: the command itself (the
driver), the actors, and the servers of the Ray that it starts. Counted is what belongs to a process alone (USS), so
that libraries and shared memory count for none. The run is cut into ten parts of equal time, of which the most memory
each kind held is kept, and what a kind gains per thousand pictures is the slope of a straight line through all looks
after the first part, in which buffers fill.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from pipeline.bench.made_up import write_pictures, write_words

ESCNET = Path(sys.executable).parent / "escnet"
KINDS = ("driver", "actors", "ray")
N_PARTS = 10
MIB = 2**20


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-nano")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--n", type=int, default=5000, help="pictures of the job")
    parser.add_argument("--size", nargs=2, type=int, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between two looks")
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures", asked.n, tuple(asked.size))
        words = write_words(folder / "words.yaml", asked.classes)
        command = [
            ESCNET, "annotate", folder / "pictures", "--vocabulary", words, "--output", folder / "labels", "--model",
            asked.model, "--allow-random-weights", "--views", "single", "--shard-size", asked.shard_size, "--actors",
            asked.actors, "--gpus-per-actor", 0,
        ]  # fmt: skip
        looks = np.array(list(watch(list(map(str, command)), folder / "labels" / "labels", asked.every)))
    found = {**vars(asked), "json": None, **summary(looks, asked.shard_size)}
    print(json.dumps(found, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


def watch(command: list[str], labels: Path, every_s: float) -> Iterator[tuple[float, ...]]:
    """Label files so far, and bytes of each kind of process, from the first label file to the end of the command."""
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while run.poll() is None:
        time.sleep(every_s)
        n_files = len(list(labels.glob("*.parquet"))) if labels.is_dir() else 0
        held = bytes_held(run.pid)
        if n_files and held["actors"]:
            yield n_files, *(held[kind] for kind in KINDS)
    if run.returncode:
        raise SystemExit(f"escnet annotate ended with {run.returncode}")


def bytes_held(pid: int) -> dict[str, int]:
    """Of the command and all its descendants, by kind."""
    held = dict.fromkeys(KINDS, 0)
    with suppress(psutil.Error):
        command = psutil.Process(pid)
        for process in [command, *command.children(recursive=True)]:
            with suppress(psutil.Error):  # it has just ended
                title = " ".join(process.cmdline())
                kind = "driver" if process.pid == pid else "actors" if title.startswith("ray::Replica") else "ray"
                held[kind] += process.memory_full_info().uss
    return held


def summary(looks: np.ndarray, shard_size: int) -> dict[str, object]:
    """(n, 1 + kinds) looks to the most of each part, in MiB, and the slope of each kind."""
    if len(looks) < N_PARTS:
        raise SystemExit(f"only {len(looks)} looks: the run was too short; raise --n or lower --every")
    parts = np.array_split(looks, N_PARTS)
    later = np.concatenate(parts[1:])
    thousands = later[:, 0] * shard_size / 1000
    return {
        "n_looks": len(looks),
        "pictures_at_the_end_of_each_part": [int(part[-1, 0] * shard_size) for part in parts],
        "most_mib_in_each_part": {
            kind: [round(part[:, column].max() / MIB) for part in parts] for column, kind in enumerate(KINDS, start=1)
        },
        "mib_more_per_thousand_pictures": {
            kind: round(float(np.polyfit(thousands, later[:, column] / MIB, 1)[0]), 2)
            for column, kind in enumerate(KINDS, start=1)
        },
    }


if __name__ == "__main__":
    main()
