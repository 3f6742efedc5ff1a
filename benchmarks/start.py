"""How soon something happens: `escnet --help`, and the first label file of the demo, by the clock.

    python benchmarks/start.py --json benchmarks/start.json

Every command runs once unmeasured, so that the disk is warm, and then --repeat times. The demo is that of `make demo`,
its first label file that of the first twelve scenes. Where its time goes is what the run itself says.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.output.run_log import last_run
from pipeline.storage import StorageOptions

ESCNET = str(Path(sys.executable).parent / "escnet")


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        world = Path(name) / "world"
        run(ESCNET, "demo-world", "--n", "12", "--seed", "3", "--output", str(world))
        helps = [seconds_of_help() for _ in range(asked.repeat + 1)][1:]
        labels = [first_label(world, Path(name) / f"labels-{number}") for number in range(asked.repeat + 1)][1:]
    found = {
        "help_s": spread(helps),
        "first_label_s": spread([seconds for seconds, _ in labels]),
        "steps_s": {step: spread([steps[step] for _, steps in labels]) for step in labels[0][1]},
    }
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps({"repeat": asked.repeat, **found}, indent=1) + "\n")


def seconds_of_help() -> float:
    """Of `escnet --help`."""
    started = time.monotonic()
    run(ESCNET, "--help")
    return time.monotonic() - started


def first_label(world: Path, output: Path) -> tuple[float, dict[str, float]]:
    """Seconds from the command to its first label file, and those to each step of its start."""
    command = [
        ESCNET, "annotate", str(world / "manifest.parquet"), "--vocabulary", str(world / "vocabulary.yaml"),
        "--model", "escnet-nano", "--output", str(output),
    ]  # fmt: skip
    started = time.monotonic()
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(output.glob("labels/*.parquet")):
        if job.poll() is not None:
            raise SystemExit(f"escnet annotate ended with {job.returncode} and no label file")
        time.sleep(0.01)
    seconds = time.monotonic() - started
    job.wait()
    return seconds, last_run(str(output), StorageOptions())["start_steps"]


def run(*command: str) -> None:
    """A command that is to succeed, in silence."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, fewest and most."""
    return {
        "median": round(statistics.median(seconds), 2),
        "fewest": round(min(seconds), 2),
        "most": round(max(seconds), 2),
    }


if __name__ == "__main__":
    main()
