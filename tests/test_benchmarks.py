"""Benchmarks that stand in for parts of the program still fit it."""

import importlib.util
from pathlib import Path

SCALING = Path(__file__).parents[1] / "benchmarks" / "scaling.py"


def test_the_drivers_loop_is_measured_with_actors_that_only_answer():
    spec = importlib.util.spec_from_file_location("scaling", SCALING)
    scaling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scaling)
    assert scaling.measure_loop(n_workers=3, n_rows=20 * scaling.SHARD_SIZE, seconds=0.2)["n_shards"] == 20
