"""A job on a Ray cluster that is already there, by its address."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.e2e.command import annotate, digests

pytestmark = pytest.mark.cluster
METRICS_DRAWN = set(re.findall(r"ray_(escnet_\w+)", (Path(__file__).parents[2] / "docs/grafana.json").read_text()))
RAY = Path(sys.executable).parent / "ray"


def free_ports(n: int) -> list[int]:
    """Ports below those that Ray gives to its workers."""
    found = []
    for port in range(6391, 9999):
        with socket.socket() as probe:
            if len(found) < n and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


class Addresses(NamedTuple):
    driver: str
    client: str
    metrics: str


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head node with one core; its addresses for drivers and for Ray Client."""
    port, client_port, metrics_port = free_ports(3)
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--ray-client-server-port={client_port}"]
    command += ["--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--metrics-export-port={metrics_port}"]
    log = tmp_path_factory.mktemp("cluster") / "head.log"
    environment = {**os.environ, "RAY_metrics_report_interval_ms": "200"}
    with (
        open(log, "w") as file,
        subprocess.Popen(list(map(str, command)), stdout=file, stderr=file, env=environment) as head,
    ):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and "--block" not in log.read_text():
            assert head.poll() is None, log.read_text()
            time.sleep(0.2)
        yield Addresses(
            f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}", f"http://127.0.0.1:{metrics_port}/metrics"
        )
        for process in [*psutil.Process(head.pid).children(recursive=True), head]:
            process.kill()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_cluster_gives_the_same_bytes_by_either_address(cluster, pictures, tmp_path):
    driver, client, _ = cluster
    annotate(pictures, "--output", tmp_path / "driver", "--shard-size", 2, "--address", driver)
    annotate(pictures, "--output", tmp_path / "client", "--shard-size", 2, "--address", client, "--actors", 1)
    assert len(digests(tmp_path / "driver")) == 2
    assert digests(tmp_path / "client") == digests(tmp_path / "driver")


def scrape(url: str) -> str:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as page:
        return page.read().decode()
    return ""


def test_prometheus_is_told_how_a_job_goes(cluster, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        Image.fromarray(np.full((40, 60, 3), i, np.uint8)).save(tmp_path / f"pictures/{i}.png")
    output, found = tmp_path / "out", ""
    job = threading.Thread(
        target=annotate,
        args=(tmp_path / "pictures", "--output", output, "--shard-size", 4, "--address", cluster.driver),
    )
    job.start()
    while job.is_alive():
        found = max(found, scrape(cluster.metrics), key=lambda page: page.count(f'output="{output}"'))
        time.sleep(0.3)
    job.join()
    named = set(re.findall(rf'^ray_(escnet_\w+?)(?:_total)?{{[^}}]*output="{output}"', found, re.MULTILINE))
    assert named == {name.removesuffix("_total") for name in METRICS_DRAWN}
    labelled = re.findall(rf'^ray_escnet_pictures_total{{[^}}]*output="{output}"[^}}]*}} (\S+)', found, re.MULTILINE)
    assert 4 <= float(labelled[0]) <= 40
    assert re.search(r'^ray_escnet_stage_seconds_total{[^}]*stage="segment"', found, re.MULTILINE)


def test_an_actor_that_no_node_can_hold_is_refused(cluster, pictures, tmp_path):
    cores = ["--cpus-per-actor", 2]
    done = annotate(pictures, "--output", tmp_path / "out", "--address", cluster.driver, *cores, code=2)
    assert "an actor with 2 CPU and 0 GPU fits no node" in done.stderr
    assert os.listdir(tmp_path) == []
