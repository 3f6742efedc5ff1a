"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline.actors.forks import SAFE_FORKS
from tests.s3 import ceph, s3, s3_server

__all__ = ["ceph", "s3", "s3_server", "shared_data"]

# Small tensors gain nothing from threads, and Ray's workers of the e2e tests want the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A token that Ray keeps in this user's home is no business of the tests: those of clusters with one bring their own.
os.environ["RAY_AUTH_MODE"] = "disabled"
# So that Ray's own processes, of the clusters that tests start too, live through a fork, as docs/cluster.md advises.
os.environ.update(SAFE_FORKS)

# The same examples every time, and as much time for each as a slow machine takes.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever programs under test keep for later lies apart from what this user has."""
    os.environ.setdefault("ESCNET_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs with ground truth and hostile files, which lie beside the checkout where they are at hand."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the photographs beside the checkout, in ../shared/data (looked in {path})")
    return path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` run where there is one."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
