"""Is a plan right? What `escnet plan` says of a job, and what the job then takes.

    python benchmarks/plan.py --n 400 --json benchmarks/plan.json
    python benchmarks/plan.py --model escnet-b16 --n 120 --actors 1 2

Draws scenes of the demo world in several sizes, plans their labelling, and does the job with the plan file, each with
the command that a user would type and by the clock outside of it. Prints JSON: estimate, its interval, the truth, and
the ratio of truth and estimate, of the whole command's seconds, of the pictures a second of an actor, of the bytes.
Pilot and job should have the machine to themselves.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import OBJECTS, world_vocabulary
from pipeline.output.run_log import last_run
from pipeline.storage import StorageOptions
from schemas.timings import WAITS
from schemas.vocabulary_files import vocabulary_yaml

ESCNET = Path(sys.executable).parent / "escnet"
N_SCENES = 41  # no divisor of the distances at which a pilot takes its pictures
SIZES = ((320, 240), (640, 480), (480, 640), (1024, 768))


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-nano", help="random weights are fine: they cost the same")
    parser.add_argument("--n", type=int, default=400, help="pictures of the job")
    parser.add_argument("--pilot", type=int, default=64, help="pictures of the pilot")
    parser.add_argument("--shard-size", type=int, default=16)
    parser.add_argument("--actors", nargs="+", type=int, default=[2])
    parser.add_argument("--views", default="single")
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "pictures", asked.n)
        (folder / "words.yaml").write_text(vocabulary_yaml(world_vocabulary(OBJECTS[:36], name="world")))
        jobs = [plan_and_label(asked, folder, n_actors) for n_actors in asked.actors]
    text = json.dumps({**vars(asked), "json": None, "jobs": jobs}, indent=2) + "\n"
    print(text, end="")
    if asked.json:
        asked.json.write_text(text)


def draw(folder: Path, n: int) -> None:
    """Scenes as JPEG files, whose sizes come in runs, as in folders of several cameras."""
    folder.mkdir()
    scenes = [Image.fromarray(world_scene(OBJECTS[:36], 7, number).picture) for number in range(N_SCENES)]
    for number in range(n):
        size = SIZES[number * len(SIZES) // n]
        scenes[number % N_SCENES].resize(size).save(folder / f"{number:05}.jpg", quality=90)


def plan_and_label(asked: argparse.Namespace, folder: Path, n_actors: int) -> dict:
    """One plan and the job held to it."""
    plan, estimate_file, output = (str(folder / f"{name}-{n_actors}") for name in ("plan", "estimate", "labels"))
    options = ["--vocabulary", folder / "words.yaml", "--model", asked.model, "--allow-random-weights"]
    options += ["--views", asked.views, "--shard-size", asked.shard_size, "--actors", n_actors, "--gpus-per-actor", 0]
    files = ["--write", f"{plan}.yaml", "--json", f"{estimate_file}.json", "--output", output]
    planned_s = timed("plan", folder / "pictures", *options, "--pilot", asked.pilot, *files)
    command_s = timed("annotate", "--job", f"{plan}.yaml")
    estimate = json.loads(Path(f"{estimate_file}.json").read_text())
    run = last_run(output, StorageOptions())["timings"]
    stages = run["stages"]
    busy = stages["seconds"]["segment"] + sum(stages["waits"][name] for name in WAITS)
    written = sum(file.stat().st_size for file in Path(output, "labels").iterdir())
    return {
        "n_actors": n_actors,
        "plan_command_s": round(planned_s, 2),
        "seconds": beside(estimate["seconds"], command_s),
        "start_s": {"estimate": estimate["start_s"], "truth": run["start_s"]},
        "end_s": {"estimate": estimate["end_s"], "truth": run["end_s"]},
        "pictures_per_s_of_an_actor": beside(estimate["expected"]["pictures_per_s"], stages["n_segmented"] / busy),
        "label_bytes": beside(estimate["label_bytes"], written),
    }


def timed(*command: object) -> float:
    """Seconds that an `escnet` command takes; what it says goes to stderr."""
    started = time.monotonic()
    subprocess.run([str(ESCNET), *map(str, command)], stdout=sys.stderr, check=True)
    return time.monotonic() - started


def beside(estimate: dict, truth: float) -> dict:
    """An estimate, the truth, and by how much they differ."""
    is_inside = estimate["low"] <= truth <= estimate["high"]
    ratio = round(truth / estimate["found"], 3)
    return {**estimate, "truth": round(truth, 4), "is_inside": is_inside, "truth_by_estimate": ratio}


if __name__ == "__main__":
    main()
