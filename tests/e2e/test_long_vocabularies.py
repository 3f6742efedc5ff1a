"""Vocabularies of hundreds and thousands of classes: labelled within the memory that placement reckons with."""

import io
import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from schemas.vocabulary import Vocabulary

SLACK_BYTES = 96 * 2**20  # what the allocator keeps
SIZE_HW = (480, 640)  # a full-resolution array of 847 classes would be a gigabyte


def made_up(n_classes: int) -> Vocabulary:
    """So many names, no two alike."""
    things, looks = ("stone", "leaf", "tile", "sky", "brick"), ("red", "soft", "old", "wet", "flat")
    names = [f"{looks[k % 5]} {things[k // 5 % 5]} {k}" for k in range(n_classes)]
    return Vocabulary(name=f"made-up-{n_classes}", classes=names)


def measure() -> None:
    """Label one picture with longer and longer vocabularies; print what became of each as a line of JSON."""
    import torch

    from escnet.models import load_model, resolve_model
    from escnet.segmenter import Segmenter
    from pipeline.picture.decide import decide
    from pipeline.picture.encode import encode_decided
    from schemas.manifest import ManifestRow

    torch.set_num_threads(1)
    network = load_model(resolve_model("escnet-nano"))
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    for n_classes, preselect in ((20, 32), (5000, 32), (847, "off")):
        vocabulary = made_up(n_classes)
        segmenter = Segmenter(network, views="single", preselect=preselect)
        found = segmenter(picture, segmenter.compile(vocabulary))
        row = encode_decided(ManifestRow("a", "a.png"), vocabulary, found, decide(found, vocabulary))
        mask = Image.open(io.BytesIO(row.mask))
        ids = np.unique(np.asarray(mask)).tolist()
        n_kept = n_classes if preselect == "off" else min(preselect, n_classes)
        said = {
            "mode": mask.mode,
            "size": mask.size,
            "n_classes": len(row.classes),
            "is_known": set(ids) <= {*range(n_classes), vocabulary.ignore_id},
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "reckoned": network.config.class_bytes(n_classes, n_kept, "single"),
        }
        print(json.dumps(said), flush=True)


@pytest.fixture(scope="module")
def measured() -> dict[int, dict]:
    """In a process of its own, whose peak of memory nobody else raises."""
    code = "from tests.e2e.test_long_vocabularies import measure; measure()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return dict(zip((20, 5000, 847), map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(("n_classes", "mode"), [(20, "L"), (847, "I;16"), (5000, "I;16")])
def test_masks_hold_ids_of_any_size(measured, n_classes, mode):
    found = measured[n_classes]
    assert (found["mode"], found["size"], found["is_known"]) == (mode, [SIZE_HW[1], SIZE_HW[0]], True)
    assert found["n_classes"] >= 1


@pytest.mark.parametrize("n_classes", [847, 5000])
def test_long_vocabularies_stay_within_the_memory_that_placement_reckons_with(measured, n_classes):
    used = measured[n_classes]["peak"] - measured[20]["peak"]
    assert used <= measured[n_classes]["reckoned"] + SLACK_BYTES
    assert measured[n_classes]["reckoned"] < n_classes * SIZE_HW[0] * SIZE_HW[1] / 2  # not a byte a class and pixel
