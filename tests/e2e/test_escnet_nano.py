"""The weights in the box are as good as their card says: docs/escnet-nano.md and benchmarks/escnet-nano.json."""

import json
from pathlib import Path

import pytest
import torch

from escnet.models import bundled_weights, load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.demo_world.measure import measure

FIGURES = json.loads((Path(__file__).parents[2] / "benchmarks" / "escnet-nano.json").read_text())
ONE_POINT = 0.01
TARGETS = {"miou": 0.80, "worst_material": 0.90}
TARGETS_ALL_NAMES = {"colour": 0.95, "pattern": 0.90, "shape": 0.80}


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(load_model(resolve_model("escnet-nano")), views="single")


@pytest.mark.parametrize(("names", "scenes"), [("48 classes", {"n_scenes": 40}), ("all names", {"n_scenes": 6})])
def test_the_weights_in_the_box_reach_their_figures(segmenter, names, scenes):
    torch.set_num_threads(1)
    found = measure(segmenter, seed=FIGURES["seed"], all_names=names == "all names", **scenes)
    assert found == pytest.approx(FIGURES["make test"][names], abs=ONE_POINT)


def test_the_figures_are_those_that_were_aimed_at():
    drawn, every = FIGURES["48 classes"], FIGURES["all names"]
    assert drawn["scenes"] == 400
    assert all(drawn[name] >= least for name, least in TARGETS.items())
    assert drawn["miou_seen"] - drawn["miou_heldout"] <= 0.05
    assert all(every[name] >= least for name, least in TARGETS_ALL_NAMES.items())


def test_the_weights_are_small():
    path = bundled_weights("escnet-nano")
    assert path is not None
    assert path.stat().st_size < 10_000_000
