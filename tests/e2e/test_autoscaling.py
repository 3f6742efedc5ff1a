"""Actors that wait for a place make Ray's autoscaler start nodes for them; the job has begun by then."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.output.run_log import last_run, read_events
from pipeline.storage import StorageOptions
from tests.crash.cluster import running_cluster
from tests.e2e.braked_model import BRAKE_VARIABLE, Brake, write_command
from tests.e2e.test_jobs import WORDS, wait_for

pytestmark = pytest.mark.cluster
LOCAL = StorageOptions()
N_PICTURES = 12


def events(output: Path, name: str) -> list[dict[str, Any]]:
    """Of one kind, in their order, as far as they are written by now."""
    run = last_run(str(output), LOCAL)
    found = read_events(str(output), run["run_id"], LOCAL) if run else ()
    return [event for event in found if event["event"] == name]


def test_a_job_begins_with_the_actor_that_has_a_place_and_grows_onto_a_node_that_comes_for_the_next(tmp_path):
    for name in ("pictures", "logs"):
        (tmp_path / name).mkdir()
    for i in range(N_PICTURES):
        Image.fromarray(np.full((24, 36, 3), i, np.uint8)).save(tmp_path / f"pictures/{i}.png")
    brake, output = Brake(tmp_path / "brake"), tmp_path / "labels"
    brake.put_on()
    brake.let_pass(1)
    with running_cluster(
        tmp_path / "logs", {BRAKE_VARIABLE: str(tmp_path / "brake")}, labels=(), n_to_come=2
    ) as cluster:
        command = [write_command(tmp_path / "bin"), "annotate", tmp_path / "pictures", *WORDS, "--shard-size", 1]
        command += ["--output", output, "--address", cluster.address, "--actors", 2]  # the head has one core
        environment = {**os.environ, **cluster.environment}
        job = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        wait_for(lambda: job.poll() is not None or brake.n_held == 2)
        brake.take_off()
        said = job.communicate(timeout=500)[0]
    assert job.returncode == 0, said
    assert f"Done: {N_PICTURES} of {N_PICTURES} pictures are labelled" in said
    first, second = events(output, "ready")
    assert first["actor"] != second["actor"]
    shards = events(output, "shard")
    assert shards[0]["at"] < second["at"]
    assert {each["actor"] for each in shards} == {first["actor"], second["actor"]}
