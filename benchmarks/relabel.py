"""Deciding again against labelling again: seconds a picture of 640 x 480, and the bytes of mask and evidence.

    python benchmarks/relabel.py --photos ../shared/data/photos/images --json benchmarks/relabel.json

Labels scenes of the demo world with its names, and photographs if there are any with 150 classes, with escnet-nano, and
relabels them with other thresholds in one process. Beside that stands escnet-b16 with 150 classes on the same machine,
one thread, one picture, and only one of the five views that it has by default: so the ratio is a lower bound. Its
weights are random, which cost the same as trained ones.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.dataset as ds
from PIL import Image

from jobs.main import cli
from pipeline.bench.alone import Setting, measure_in_process
from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import OBJECTS, world_vocabulary
from pipeline.relabel import RelabelRequest, relabel
from pipeline.vocabularies import load_vocabulary
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

SIZE = (640, 480)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=16, help="pictures of each kind")
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "scenes": measure(
                Path(folder) / "scenes", draw_scenes(asked.n), world_vocabulary(OBJECTS[:36], name="world")
            )
        }
        if asked.photos:
            found["photographs"] = measure(
                Path(folder) / "photos", open_photos(asked.photos, asked.n), load_vocabulary("ade20k-150")
            )
    b16 = Setting("escnet-b16", True, "cpu", 150, "single", "float32", "off", 1, *SIZE, threads=1, repeat=1)
    found["escnet_b16_one_view_seconds"] = measure_in_process(b16).median_s
    slowest = max(found[kind]["relabel_seconds"] for kind in ("scenes", "photographs") if kind in found)
    found["times_faster_than_one_view"] = found["escnet_b16_one_view_seconds"] / slowest
    text = json.dumps(found, indent=2) + "\n"
    print(text, end="")
    if asked.json:
        asked.json.write_text(text)


def draw_scenes(n: int) -> list[Image.Image]:
    """Square scenes, cut to 4 : 3."""
    scenes = (world_scene(OBJECTS[:36], 7, k, SIZE[0]).picture for k in range(n))
    return [Image.fromarray(scene[: SIZE[1]]) for scene in scenes]


def open_photos(folder: Path, n: int) -> list[Image.Image]:
    """Photographs at 640 x 480, whatever their shape."""
    return [Image.open(path).convert("RGB").resize(SIZE) for path in sorted(folder.iterdir())[:n]]


def measure(folder: Path, pictures: list[Image.Image], words: Vocabulary) -> dict:
    """Label, relabel with a threshold for all; seconds and bytes a picture."""
    (folder / "pictures").mkdir(parents=True)
    for k, picture in enumerate(pictures):
        picture.save(folder / "pictures" / f"{k}.png")
    strict = words.model_copy(
        update={"classes": [each.model_copy(update={"min_confidence": 0.5}) for each in words.classes]}
    )
    (folder / "words.yaml").write_text(vocabulary_yaml(words))
    (folder / "strict.yaml").write_text(vocabulary_yaml(strict))
    words_file = str(folder / "words.yaml")
    nano = ["--model", "escnet-nano", "--vocabulary", words_file, "--actors", "1", "--gpus-per-actor", "0"]
    cli.main(["annotate", str(folder / "pictures"), *nano, "--output", str(folder / "out")], standalone_mode=False)
    started = time.perf_counter()
    relabel(RelabelRequest(str(folder / "out"), str(folder / "new"), (str(folder / "strict.yaml"),), workers=1))
    seconds = (time.perf_counter() - started) / len(pictures)
    return {"n_pictures": len(pictures), "relabel_seconds": seconds, **sizes(folder / "out")}


def sizes(output: Path) -> dict:
    """Bytes of mask and evidence together, over the pictures."""
    table = ds.dataset(output / "labels").to_table(columns=["mask", "evidence"]).to_pylist()
    n_bytes = [len(row["mask"]) + len(row["evidence"]) for row in table]
    return {
        "mask_and_evidence_bytes_mean": round(statistics.mean(n_bytes)),
        "mask_and_evidence_bytes_most": max(n_bytes),
    }


if __name__ == "__main__":
    main()
