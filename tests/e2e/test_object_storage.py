"""Whole jobs with pictures and labels in object storage, also where a tenth of all requests fails."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.e2e.command import annotate
from tests.e2e.fault_proxy import FAULTS, fault_proxy

N_PICTURES = 24
SHARD_SIZE = 2
OUTPUT = "out put/#1?ü%20+[a]*::b"

# A stalled request is given up after a second, and not after half a minute; Ray's workers read it as well.
QUICK_TO_GIVE_UP = """
from pipeline.storage.s3 import LiteralS3FileSystem
LiteralS3FileSystem.stall_s = 1.0
"""


@pytest.fixture
def pictures(s3) -> str:
    """A prefix with small pictures, no two alike, under names that trip up programs."""
    rng = np.random.default_rng(4)
    for number in range(N_PICTURES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file, "PNG")
        s3.put(f"pictures #1/{'a b' if number % 2 else 'ü%20+'}/{number}?x=1::[*].png", file.getvalue())
    return s3.uri("pictures #1")


def labels(s3, output: str) -> dict[str, bytes]:
    keys, prefix = s3.keys(), f"{output}/labels/"
    return {key.removeprefix(prefix): s3.get(key) for key in keys if key.startswith(prefix)}


def test_a_tenth_of_all_requests_fails_and_the_labels_are_the_same(s3, pictures, tmp_path):
    options = ("--shard-size", SHARD_SIZE, "--actors", 1)
    annotate(pictures, "--output", s3.uri(OUTPUT), *options)
    expected = labels(s3, OUTPUT)
    assert len(expected) == N_PICTURES / SHARD_SIZE
    (tmp_path / "sitecustomize.py").write_text(QUICK_TO_GIVE_UP)
    with fault_proxy(s3.endpoint) as proxy:
        environment = {"PYTHONPATH": str(tmp_path), "AWS_ENDPOINT_URL": proxy.endpoint}
        annotate(pictures, "--output", s3.uri("faulty"), *options, env=environment)
    assert labels(s3, "faulty") == expected
    assert set(proxy.faults) == set(FAULTS)
    assert proxy.faults.total() == proxy.n_requests // 10
    assert not any(key.endswith("/.lock") for key in list(s3.keys()))
