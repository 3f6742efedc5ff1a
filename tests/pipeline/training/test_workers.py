"""How many processes train together, and which numbers can never be."""

import pytest

from pipeline.actors.placement import local_cpus
from pipeline.training.config import TrainingConfig
from pipeline.training.workers import Workers, check_batches, fit_workers
from schemas.errors import InputError, PlacementError

LAPTOP = [{"CPU": local_cpus(), "GPU": 0}]
SERVER = [{"CPU": 64, "GPU": 4}]
CLUSTER = [{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}]


def recipe(**stage) -> TrainingConfig:
    stages = [{"name": "one", "steps": 1, "data": [{"demo_world": "scenes"}], **stage}]
    return TrainingConfig(name="n", model={"preset": "escnet-nano"}, stages=stages, precision="float16")


@pytest.mark.parametrize(
    ("asked", "nodes", "expected"),
    [
        (Workers(), LAPTOP, Workers(1, local_cpus(), "cpu", 1)),
        (Workers(), SERVER, Workers(4, 1, "cuda", 4)),
        (Workers(n=2, cpus=3, loader_processes=0), SERVER, Workers(2, 3, "cuda", 0)),
        (Workers(device="cpu", address="a:1"), CLUSTER, Workers(1, 1, "cpu", 1, "a:1")),
        (Workers(address="a:1"), CLUSTER, Workers(4, 1, "cuda", 4, "a:1")),
        (Workers(n=6, address="a:1"), CLUSTER, Workers(6, 1, "cuda", 4, "a:1")),  # it may grow
    ],
)
def test_defaults_fill_what_there_is(asked, nodes, expected):
    assert fit_workers(asked, nodes) == expected


@pytest.mark.parametrize(
    ("asked", "nodes", "said"),
    [
        (
            Workers(n=5),
            SERVER,
            "5 workers with 1 CPU and 1 GPU each do not fit: this machine has 64 CPU and 4 GPU, room f",
        ),
        (Workers(device="cuda"), LAPTOP, "1 workers with 1 CPU and 1 GPU each do not fit"),
        (Workers(cpus=9, address="a:1"), CLUSTER, "the cluster at a:1 has 8 CPU and 2 GPU + 8 CPU and 2 GPU, room"),
    ],
)
def test_workers_that_can_never_be_placed_are_refused(asked, nodes, said):
    with pytest.raises(PlacementError) as caught:
        fit_workers(asked, nodes)
    assert said in str(caught.value)


def test_a_batch_that_workers_cannot_share_out_is_refused():
    check_batches(recipe(batch_size=12, micro_batch_size=2), Workers(3, 1, "cuda", 0))
    with pytest.raises(InputError) as caught:
        check_batches(recipe(batch_size=12, micro_batch_size=2), Workers(4, 1, "cuda", 0))
    assert str(caught.value) == (
        "stage 'one': found batch_size 12, expected a multiple of 8: micro_batch_size 2 times 4 workers; "
        "change one of the three"
    )


def test_half_precision_without_a_gpu_is_refused():
    with pytest.raises(InputError, match="precision: found float16, which needs a GPU"):
        check_batches(recipe(), Workers(1, 1, "cpu", 0))
