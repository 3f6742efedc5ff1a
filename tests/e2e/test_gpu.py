"""The real command on one GPU: labels near a CPU's, and the same bytes from one actor and from two."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.picture.mask_file import read_mask
from tests.e2e.command import digests

pytestmark = pytest.mark.gpu

N = 12  # scenes


def run(*arguments: object) -> str:
    """`escnet` with these arguments, by the packages alone."""
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "world"
    run("demo-world", "--n", N, "--seed", 5, "--output", folder)
    return folder


def label(world: Path, name: str, *options: object) -> Path:
    output = world.parent / name
    run(
        "annotate", world / "manifest.parquet", "--vocabulary", world / "vocabulary.yaml", "--model", "escnet-nano",
        "--output", output, "--shard-size", 4, *options,
    )  # fmt: skip
    return output


@pytest.fixture(scope="module")
def on_gpu(world) -> Path:
    return label(world, "gpu")


def masks(output: Path) -> dict[str, np.ndarray]:
    rows = pq.read_table(output / "labels", columns=["image_id", "status", "mask"]).to_pylist()
    assert [row["status"] for row in rows] == ["labelled"] * N
    return {row["image_id"]: read_mask(row["mask"]) for row in rows}


def share_alike(one: Path, other: Path) -> float:
    found = masks(other)
    return float(np.mean([(mask == found[image_id]).mean() for image_id, mask in masks(one).items()]))


def test_labels_in_half_precision_are_nearly_those_of_a_cpu(world, on_gpu):
    """float32, which is nearer, is compared in tests/escnet/test_segmenter.py."""
    on_cpu = label(world, "cpu", "--gpus-per-actor", 0, "--actors", 1, "--cpus-per-actor", 4)
    assert share_alike(on_gpu, on_cpu) > 0.97


def test_two_actors_on_one_gpu_write_the_bytes_of_one(world, on_gpu):
    two = label(world, "two", "--actors", 2, "--gpus-per-actor", 0.5)
    assert digests(two) == digests(on_gpu)
    assert len(digests(two)) == N // 4


def test_labels_of_a_gpu_stand_up_to_verification_and_are_good(world, on_gpu):
    run("verify", on_gpu)
    said = run("evaluate", on_gpu, "--ground-truth", world / "manifest.parquet")
    assert "mIoU" in said
