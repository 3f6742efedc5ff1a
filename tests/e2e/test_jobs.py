"""`escnet job` on a real cluster: a head without cores and two nodes of one core each, which come and go.

Labelling jobs have a stand-in for the model; the one that trains is sent with its code, as a user's is.
"""

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from escnet.checkpoint import save_checkpoint
from tests.crash.cluster import running_cluster
from tests.crash.processes import kill_tree
from tests.e2e.braked_model import BRAKE_VARIABLE, Brake, write_command
from tests.e2e.command import ESCNET, escnet
from tests.escnet.tiny import tiny_network
from tests.pipeline.training.pictures_of import write_pictures

pytestmark = pytest.mark.cluster
WORDS = ("--vocabulary", "pascal-voc-20", "--model", "escnet-nano", "--views", "single")
N_PICTURES = 120
NOTHING_SENT = "Nothing submitted. Whether the sources hold other pictures by now was not looked at.\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and beside them some of which one is none."""
    folder = tmp_path_factory.mktemp("jobs")
    for name, n_pictures in (("many", N_PICTURES), ("few", 4), ("bad", 3)):
        (folder / name).mkdir()
        for i in range(n_pictures):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 36, 3), np.uint8)).save(
                folder / name / f"{i}.png"
            )
    (folder / "bad" / "text.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def cluster(folder):
    """Two nodes, and in the environment of this process what a user of the cluster has in his."""
    stand_in = write_command(folder / "bin")
    path = f"{stand_in.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    logs = folder / "logs"
    logs.mkdir()
    environment = {"PATH": path, BRAKE_VARIABLE: str(folder / "brake")}
    with running_cluster(logs, environment, labels=("zone=a", "zone=b"), has_dashboard=True) as cluster:
        token = {name: cluster.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**token, "ESCNET_STATE": str(folder / "state")}.items():
                patch.setenv(name, value)
            yield cluster


def wait_for(what, within_s=400.0):
    """What `what` gives as soon as it is true."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return found


def submit(cluster, *arguments, code=0):
    """Submit with the stand-in; gives the job's id."""
    done = escnet("job", "submit", "--address", cluster.dashboard, "--code", "cluster", *arguments, code=code)
    return re.search(r"Submitted (escnet-\S+) to", done.stdout)[1]


def start_waiting(cluster, *arguments):
    command = [ESCNET, "job", "submit", "--address", cluster.dashboard, *map(str, arguments), "--wait"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def recipe(folder):
    """A training run of four steps."""
    words = folder / "learn" / "words.txt"
    data = {"manifest": str(write_pictures(folder / "learn")), "vocabulary": str(words), "split": "train"}
    save_checkpoint(tiny_network(n_blocks=2, trained_tokens=(320, 530)), folder / "start.safetensors", {})
    stage = {"name": "one", "steps": 40, "data": [data], "batch_size": 4, "micro_batch_size": 2}
    values = {
        "name": "tiny", "model": {"checkpoint": str(folder / "start.safetensors")}, "trainable": "all",
        "precision": "float32", "stages": [stage],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


def n_done(output) -> int:
    with suppress(FileNotFoundError):
        return len(list((output / "labels").glob("*.parquet")))
    return 0


def test_a_job_loses_a_node_gains_one_is_stopped_and_goes_on(cluster, folder):
    output = folder / "labels"
    asked = (folder / "many", *WORDS, "--shard-size", 2, "--output", output, "--actors", 3)
    brake = Brake(folder / "brake")
    brake.put_on()
    brake.let_pass(12)  # the last one of an actor's may be half a shard
    job = submit(cluster, *asked)
    assert re.fullmatch(r"escnet-pascal-voc-20-\d{8}-[a-z]{4}", job)
    wait_for(lambda: n_done(output) >= 4)
    assert f"{job}  RUNNING" in escnet("job", "list").stdout

    lost = cluster.nodes[1]
    wait_for(lambda: brake.holds(cluster.actors_of(lost)))
    kill_tree(lost)
    cluster.nodes.remove(lost)
    fresh = cluster.start_node("--labels=zone=c")
    wait_for(lambda: cluster.actors_of(fresh))
    before = n_done(output)
    brake.let_pass(12)
    wait_for(lambda: n_done(output) >= before + 2)
    wait_for(lambda: "waiting for" in escnet("job", "logs", job).stdout)

    assert escnet("job", "stop", job).stdout == f"{job}: STOPPED\n"
    wait_for(lambda: not cluster.actors())
    brake.take_off()
    kept = n_done(output)
    assert 6 <= kept < N_PICTURES // 2
    said = escnet("job", "logs", job).stdout
    assert re.search(r"waiting for \d of 3 actors, each with 1 CPU and 0 GPU", said)  # how many, the machine decides
    assert "a worker process died; what it had at hand is done again" in said
    counted = int(re.search(rf"stopped; (\d+) of {N_PICTURES // 2} shards are done and kept", said)[1])
    assert kept - 3 <= counted <= kept  # as an actor dies, what it was writing may still be published
    status = escnet("job", "status", job).stdout
    assert status.startswith(f"{job}: STOPPED on {cluster.dashboard}")
    assert f"shards:    {kept} of {N_PICTURES // 2} done" in status

    (folder / "job.yaml").write_text(
        f"sources: [{folder / 'many'}]\nvocabulary: pascal-voc-20\nmodel: escnet-nano\nviews: single\n"
        f"shard-size: 2\noutput: {output}\naddress: auto\nactors: auto\n"
    )
    again = escnet(
        "job", "submit", "--address", cluster.dashboard, "--code", "cluster", folder / "job.yaml", "--wait"
    ).stdout
    assert f"{kept} shards done before" in again
    assert f"Done: {N_PICTURES} of {N_PICTURES} pictures are labelled" in again
    escnet("verify", output)
    done = escnet("job", "submit", "--address", cluster.dashboard, *asked).stdout
    assert done == f"{output}: complete, {N_PICTURES} of {N_PICTURES} pictures are labelled\n" + NOTHING_SENT


def test_jobs_beside_each_other_go_where_they_were_told_and_end_with_their_own_exit_codes(cluster, folder):
    few = (folder / "few", *WORDS, "--shard-size", 2)
    trained = start_waiting(  # with its code
        cluster, "--train", recipe(folder), "--output", folder / "run", "--device", "cpu", "--set", "stages.0.steps=4"
    )
    failing = start_waiting(
        cluster,
        "--code",
        "cluster",
        folder / "bad",
        *WORDS,
        "--output",
        folder / "failing",
        "--max-failed",
        0,
        "--node-label",
        "zone=a",
    )
    hopeless = start_waiting(cluster, "--code", "cluster", *few, "--output", folder / "hopeless", "--cpus-per-actor", 7)
    patient = submit(cluster, *few, "--output", folder / "patient", "--node-label", "zone=moon", "--wait-for-nodes")
    said = [process.communicate(timeout=500)[0] for process in (trained, failing, hopeless)]
    assert [process.returncode for process in (trained, failing, hopeless)] == [0, 3, 2], said
    assert ": python -m jobs train recipe.yaml --output" in said[0]
    assert "1 of 4 pictures failed, more than --max-failed 0 allows" in said[1]
    assert "an actor with 7 CPU and 0 GPU fits no node: the cluster at auto has" in said[2]
    assert f"{folder / 'run'}/tiny.safetensors: fingerprint" in said[0]
    run = re.search(r"Submitted (escnet-train-tiny-\S+) to", said[0])[1]
    assert f"{folder / 'run'}: step 4" in escnet("job", "status", run).stdout
    asked = "waiting for 1 of 1 actors, each with 1 CPU and 0 GPU on a node labelled zone=moon"
    wait_for(lambda: asked in escnet("job", "logs", patient).stdout)
    escnet("job", "stop", patient)
    listed = escnet("job", "list").stdout
    assert [listed.count(f"  {word} ") for word in ("SUCCEEDED", "FAILED", "STOPPED")] == [2, 2, 2], listed


def test_the_state_of_a_job_outlives_its_cluster(cluster, folder):
    job = re.search(r"(escnet-\S+)  SUCCEEDED .*/labels\n", escnet("job", "list").stdout)[1]
    kill_tree(cluster.head)
    done = escnet("job", "status", job)
    assert "no dashboard of a Ray cluster answers there" in done.stderr
    assert f"pictures:  {N_PICTURES} of {N_PICTURES} done" in done.stdout
    unknown = escnet("job", "status", "escnet-elsewhere", "--address", cluster.dashboard, code=2)
    assert "no dashboard of a Ray cluster answers there" in unknown.stderr
    elsewhere = escnet("job", "status", "escnet-elsewhere", "--output", folder / "labels")
    assert f"pictures:  {N_PICTURES} of {N_PICTURES} done" in elsewhere.stdout
