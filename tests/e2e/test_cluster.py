"""A job on a Ray cluster that is already there, by its address."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.e2e.command import annotate, digests
from tests.e2e.picture_server import picture_server
from tests.ports import free_ports

pytestmark = pytest.mark.cluster
_DRAWN = re.findall(r"ray_(escnet_\w+)", (Path(__file__).parents[2] / "docs/grafana.json").read_text())
METRICS_NAMED = {name.removesuffix("_total") for name in _DRAWN}
RAY = Path(sys.executable).parent / "ray"


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
        deadline = time.monotonic() + 240
        while "--block" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
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


class Metrics(NamedTuple):
    """A page of metrics, read for those of an output."""

    page: str
    output: Path

    @property
    def names(self) -> set[str]:
        return set(re.findall(rf'^ray_(escnet_\w+?)(?:_total)?{{[^}}]*output="{self.output}"', self.page, re.MULTILINE))

    @property
    def n_labelled(self) -> float:
        counts = rf'^ray_escnet_pictures_total{{[^}}]*output="{self.output}"[^}}]*}} (\S+)'
        return sum(map(float, re.findall(counts, self.page, re.MULTILINE)))


def test_prometheus_is_told_how_a_job_goes(cluster, tmp_path):
    (tmp_path / "pictures").mkdir()
    names = [f"{i:02}.png" for i in range(40)]
    for i, name in enumerate(names):
        Image.fromarray(np.full((40, 60, 3), i, np.uint8)).save(tmp_path / "pictures" / name)
    output, found = tmp_path / "out", Metrics("", tmp_path / "out")
    with picture_server(tmp_path / "pictures") as server, ThreadPoolExecutor(1) as pool:
        server.hold(lambda name: name == names[-1])  # the last shard waits while all is told of the others
        (tmp_path / "list.csv").write_text("\n".join(["uri", *(f"{server.address}/{name}" for name in names)]))
        arguments = (tmp_path / "list.csv", "--output", output, "--shard-size", 4, "--address", cluster.driver)
        job = pool.submit(annotate, *arguments)
        while not job.done() and not (found.names >= METRICS_NAMED and found.n_labelled >= 36):
            found = Metrics(scrape(cluster.metrics), output)
            time.sleep(0.3)
        server.let_go()
        job.result()
    assert found.names == METRICS_NAMED
    assert 36 <= found.n_labelled < 40
    assert re.search(r'^ray_escnet_stage_seconds_total{[^}]*stage="segment"', found.page, re.MULTILINE)


def test_an_actor_that_no_node_can_hold_is_refused(cluster, pictures, tmp_path):
    cores = ["--cpus-per-actor", 2]
    done = annotate(pictures, "--output", tmp_path / "out", "--address", cluster.driver, *cores, code=2)
    assert "an actor with 2 CPU and 0 GPU fits no node" in done.stderr
    assert os.listdir(tmp_path) == []
