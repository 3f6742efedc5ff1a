"""What preselection changes: pixels that get another label, quality, and time, on the demo world and on photographs.

    python benchmarks/preselection.py --json benchmarks/preselection.json
    python benchmarks/preselection.py --photos ../shared/data/photos/images

Scenes hold 48 names. They are padded with names of the world that are not drawn, and with those of ADE20K where
these run out, to 150 and to 847 competitors. On photographs escnet-nano's labels are nonsense, so there the share of
equal pixels is a figure and no finding.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from escnet.models import load_model, resolve_model
from escnet.preselection import select_classes
from escnet.segmenter import Segmenter
from escnet.text import CompiledVocabulary
from escnet.views import Prepared, view_batch
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import MATERIALS, NAMES, draw_names
from pipeline.evaluation.scores import PixelCounts
from pipeline.vocabularies import load_vocabulary
from schemas.job import DEFAULT_PRESELECT
from schemas.vocabulary import Vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-nano")
    parser.add_argument("--classes", nargs="+", type=int, default=[48, 150, 847])
    parser.add_argument("--n", nargs="+", type=int, default=[40, 40, 12], help="scenes, for each number of classes")
    parser.add_argument("--seed", type=int, default=2, help="of the scenes; the margin was chosen on those of seed 1")
    parser.add_argument("--limit", type=int, default=DEFAULT_PRESELECT)
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs instead of scenes; the first ten")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_model(resolve_model(options.model))
    off = Segmenter(network, views="single")
    having = Segmenter(network, views="single", preselect=options.limit)
    rows = []
    for n_classes, n_pictures in zip(options.classes, options.n, strict=True):
        compiled = off.compile(padded_vocabulary(options.seed, n_classes))
        pictures = photographs(options.photos) if options.photos else scenes(options.seed, n_pictures)
        rows.append({"classes": n_classes, **compare(off, having, compiled, pictures)})
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        head = {"model": options.model, "seed": options.seed, "limit": options.limit, "torch": torch.__version__}
        options.json.write_text(json.dumps({**head, "rows": rows}, indent=2) + "\n")


def padded_vocabulary(seed: int, n_classes: int) -> Vocabulary:
    """The names of the scenes of a seed, and as many others as bring them to `n_classes`."""
    names = [*MATERIALS, *map(str, draw_names(seed, N_OBJECTS))]
    others = sorted(set(NAMES) - set(names))
    np.random.default_rng(0).shuffle(others)
    others += [each.name for each in load_vocabulary("ade20k-847").classes if each.name not in NAMES]
    ids = {name: place for place, name in enumerate(NAMES)}  # those of the masks
    names = [*names, *others][:n_classes]
    classes = [{"id": ids.setdefault(name, len(ids)), "name": name} for name in names]
    return Vocabulary(name="padded", classes=classes)


def scenes(seed: int, n: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Pictures and their masks."""
    objects = draw_names(seed, N_OBJECTS)
    drawn = (world_scene(objects, seed, number) for number in range(n))
    return [(scene.picture, scene.mask) for scene in drawn]


def photographs(folder: Path) -> list[tuple[np.ndarray, np.ndarray | None]]:
    files = sorted(folder.rglob("*.jpg"))[:10]
    return [(np.asarray(Image.open(file).convert("RGB")), None) for file in files]


def compare(
    off: Segmenter,
    having: Segmenter,
    vocabulary: CompiledVocabulary,
    pictures: list[tuple[np.ndarray, np.ndarray | None]],
) -> dict[str, float | int]:
    """Label every picture both ways, one after the other, so that a machine that slows down slows both."""
    equal, seconds, n_kept = [], {"off": [], "on": []}, []
    codes = vocabulary.codes.tolist()
    counts = {kind: PixelCounts(codes) for kind in seconds}
    for picture, mask in pictures:
        prepared, winner = off.prepare(picture), {}
        for kind, segmenter in (("off", off), ("on", having)):
            started = time.process_time()
            winner[kind] = segmenter.segment([prepared], vocabulary)[0].winner
            seconds[kind].append(time.process_time() - started)
            if mask is not None:
                counts[kind].update(winner[kind], mask)
        equal.append(float((winner["off"] == winner["on"]).mean()))
        n_kept.append(count_kept(having, prepared, vocabulary))
    found = {
        "pictures": len(pictures),
        "equal_pixels": round(statistics.mean(equal), 5),
        "equal_pixels_worst_picture": round(min(equal), 5),
        "classes_kept_mean": round(statistics.mean(n_kept), 1),
        "classes_kept_most": max(n_kept),
        "cpu_seconds_off": round(statistics.median(seconds["off"]), 3),
        "cpu_seconds_on": round(statistics.median(seconds["on"]), 3),
    }
    if pictures[0][1] is not None:
        found |= {f"miou_{kind}": round(counts[kind].scores().miou, 4) for kind in counts}
    return found


@torch.no_grad()
def count_kept(segmenter: Segmenter, picture: Prepared, vocabulary: CompiledVocabulary) -> int:
    """How many classes go through the blocks."""
    network = segmenter.network
    image = network.encode_image(view_batch([picture], network.config, segmenter.device))
    correlation = network.correlate(image, vocabulary.text).unsqueeze(0)
    (places,) = select_classes(correlation, network.clip.logit_scale, segmenter.preselect)
    return len(places)


if __name__ == "__main__":
    main()
