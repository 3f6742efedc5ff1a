"""How well a model labels the demo world, through the commands a user would type.

    python benchmarks/demo_world.py --model escnet-nano --n 400

Two vocabularies: the drawn one (48 classes, half of the objects held out), and all names of the world, for which the
share of object pixels with the right colour, pattern and shape counts. Goes on where it stopped. With --json the
figures are also written to a file, beside those of the few scenes that `make test` looks at.
"""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.demo_world.attributes import AttributeCounts
from pipeline.demo_world.measure import measure as measure_scenes
from pipeline.demo_world.names import MATERIALS

TESTED = {"48 classes": {"n_scenes": 40}, "all names": {"n_scenes": 6, "all_names": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-nano")
    parser.add_argument("--n", type=int, default=400, help="scenes")
    parser.add_argument("--n-all-names", type=int, help="scenes with all names, which take ten times as long [all]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--views", default="single")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures, such as benchmarks/escnet-nano.json")
    parser.add_argument("--output", type=Path, default=Path("demo-world-benchmark"))
    options = parser.parse_args()
    report = {"model": options.model, "seed": options.seed, "views": options.views}
    report["48 classes"] = measure(options, options.n, [])
    report["all names"] = measure(options, options.n_all_names or options.n, ["--all-names"])
    if options.json:
        report["make test"] = {name: measure_here(options, **scenes) for name, scenes in TESTED.items()}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure_here(options: argparse.Namespace, **scenes: int | bool) -> dict[str, float]:
    """A few scenes in this process, as the tests do."""
    segmenter = Segmenter(load_model(resolve_model(options.model)), views=options.views)
    return {name: round(value, 4) for name, value in measure_scenes(segmenter, seed=options.seed, **scenes).items()}


def measure(options: argparse.Namespace, n_scenes: int, extra: list[str]) -> dict[str, float]:
    """Draw the scenes, label them, and compare."""
    folder = options.output / f"seed-{options.seed}-n-{n_scenes}{''.join(extra)}"
    kind = f"{Path(options.model).stem}-{options.views}"
    world, labels, file = folder / "world", folder / f"labels-{kind}", folder / f"scores-{kind}.json"
    if not (world / "manifest.parquet").exists():
        run("demo-world", "--n", n_scenes, "--seed", options.seed, "--output", world, *extra)
    run(
        "annotate", world / "manifest.parquet", "--vocabulary", world / "vocabulary.yaml", "--model", options.model,
        "--views", options.views, "--actors", options.actors, "--shard-size", 20, "--output", labels,
    )  # fmt: skip
    run("evaluate", labels, "--ground-truth", world / "manifest.parquet", "--json", file, "--overwrite")
    found = json.loads(file.read_text())
    materials = [each["iou"] for each in found["per_class"] if each["name"] in MATERIALS and each["iou"] is not None]
    names = ("miou", "miou_seen", "miou_heldout", "pixel_accuracy", "ece")
    scores = {**{name: found[name] for name in names}, "worst_material": min(materials), **attributes(labels, world)}
    return {"scenes": n_scenes} | {name: round(value, 4) for name, value in scores.items()}


def attributes(labels: Path, world: Path) -> dict[str, float]:
    """Shares of object pixels with the right colour, pattern and shape."""
    counts = AttributeCounts()
    for batch in ds.dataset(labels / "labels").to_batches(columns=["image_id", "mask"], batch_size=16):
        for row in batch.to_pylist():
            truth = Image.open(world / "masks" / Path(row["image_id"]).with_suffix(".png"))
            counts.update(np.asarray(Image.open(io.BytesIO(row["mask"]))), np.asarray(truth))
    return counts.shares()


def run(*arguments: object) -> None:
    command = [str(Path(sys.executable).with_name("escnet")), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
