import pytest

from escnet.models import resolve_model
from pipeline.placement import Placement, check_placement, replica_bytes, resolve_placement, this_machine
from schemas.errors import PlacementError
from schemas.job import JobRequest

NANO = resolve_model("escnet-nano", allow_random_weights=True)
L14 = resolve_model("escnet-l14", allow_random_weights=True)
GIB = 2**30


def request(**options) -> JobRequest:
    return JobRequest(sources=("s",), vocabularies=("v",), model="m", output="o", **options)


@pytest.mark.parametrize(
    ("options", "resources", "expected"),
    [
        ({}, {"CPU": 4, "memory": 64 * GIB}, Placement(4, 1, 0)),
        ({"cpus_per_actor": 2}, {"CPU": 5, "memory": 64 * GIB}, Placement(2, 2, 0)),
        ({}, {"CPU": 16, "GPU": 2, "memory": 1 * GIB}, Placement(2, 1, 1)),
        ({"gpus_per_actor": 0.25}, {"CPU": 16, "GPU": 2}, Placement(8, 1, 0.25)),
        ({"gpus_per_actor": 0.25}, {"CPU": 3, "GPU": 2}, Placement(3, 1, 0.25)),
        ({"gpus_per_actor": 0}, {"CPU": 3, "GPU": 2, "memory": 64 * GIB}, Placement(3, 1, 0)),
        ({"actors": 7}, {"CPU": 2, "memory": 1 * GIB}, Placement(7, 1, 0)),
        ({}, {"CPU": 64, "memory": 1 * GIB}, Placement(1, 1, 0)),
    ],
)
def test_an_actor_a_gpu_or_a_core_as_far_as_memory_allows(options, resources, expected):
    assert resolve_placement(request(**options), resources, NANO) == expected


def test_larger_weights_allow_fewer_actors():
    resources = {"CPU": 64, "memory": 32 * GIB}
    assert (
        resolve_placement(request(), resources, L14).n_actors < resolve_placement(request(), resources, NANO).n_actors
    )
    assert 2 * 4 * 400e6 < replica_bytes(L14) - replica_bytes(NANO) < 2 * 4 * 450e6  # the paper: 451 M parameters


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        (Placement(3, 1, 0), r"3 actors with 1 CPU each need 3 CPUs, this machine has 2; ask for at most 2 actors"),
        (Placement(1, 4, 0), r"1 actors with 4 CPU each need 4 CPUs, this machine has 2; ask for at most 0 actors"),
        (Placement(1, 1, 0.5), r"0\.5 GPU each need 0\.5 GPUs, this machine has 0"),
    ],
)
def test_what_can_never_be_placed_is_refused(placement, said):
    with pytest.raises(PlacementError, match=said):
        check_placement(placement, {"CPU": 2, "GPU": 0}, "this machine")


def test_thirds_of_a_gpu_fit_three_times():
    check_placement(Placement(3, 1, 1 / 3), {"CPU": 3, "GPU": 1}, "this machine")


def test_this_machine_has_a_core_and_memory():
    found = this_machine()
    assert found["CPU"] >= 1
    assert found["memory"] > 2**20
