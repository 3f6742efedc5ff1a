"""A job on a Ray cluster that is already there, by its address."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.e2e.command import annotate, digests

RAY = Path(sys.executable).parent / "ray"


def free_ports(n: int) -> list[int]:
    """Ports below those that Ray gives to its workers."""
    found = []
    for port in range(6391, 9999):
        with socket.socket() as probe:
            if len(found) < n and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head node with one core; its addresses for drivers and for Ray Client."""
    port, client_port = free_ports(2)
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--ray-client-server-port={client_port}"]
    command += ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    log = tmp_path_factory.mktemp("cluster") / "head.log"
    with open(log, "w") as file, subprocess.Popen(list(map(str, command)), stdout=file, stderr=file) as head:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "--block" not in log.read_text():
            assert head.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}"
        for process in [*psutil.Process(head.pid).children(recursive=True), head]:
            process.kill()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_cluster_gives_the_same_bytes_by_either_address(cluster, pictures, tmp_path):
    driver, client = cluster
    annotate(pictures, "--output", tmp_path / "driver", "--shard-size", 2, "--address", driver)
    annotate(pictures, "--output", tmp_path / "client", "--shard-size", 2, "--address", client, "--actors", 1)
    assert len(digests(tmp_path / "driver")) == 2
    assert digests(tmp_path / "client") == digests(tmp_path / "driver")


def test_an_actor_that_no_node_can_hold_is_refused(cluster, pictures, tmp_path):
    cores = ["--cpus-per-actor", 2]
    done = annotate(pictures, "--output", tmp_path / "out", "--address", cluster[0], *cores, code=2)
    assert "an actor with 2 CPU and 0 GPU fits no node" in done.stderr
    assert os.listdir(tmp_path) == []
