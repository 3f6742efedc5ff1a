import pytest

from escnet.models import resolve_model
from pipeline.actors import placement
from pipeline.actors.placement import (
    Placement,
    check_placement,
    ray_cluster,
    replica_bytes,
    resolve_placement,
    this_machine,
)
from schemas.errors import PlacementError
from schemas.job import JobRequest

NANO = resolve_model("escnet-nano", allow_random_weights=True)
L14 = resolve_model("escnet-l14", allow_random_weights=True)
NANO_BYTES, L14_BYTES = replica_bytes(NANO), replica_bytes(L14)
GIB = 2**30


def request(**options) -> JobRequest:
    return JobRequest(sources=("s",), vocabularies=("v",), model="m", output="o", **options)


@pytest.mark.parametrize(
    ("options", "nodes", "expected"),
    [
        ({}, [{"CPU": 4, "memory": 64 * GIB}], Placement(4, 1, 0)),
        ({"cpus_per_actor": 2}, [{"CPU": 5, "memory": 64 * GIB}], Placement(2, 2, 0)),
        ({"cpus_per_actor": 2}, [{"CPU": 5}, {"CPU": 3}], Placement(3, 2, 0)),
        ({}, [{"CPU": 16, "GPU": 2, "memory": 1 * GIB}], Placement(2, 1, 1)),
        ({"gpus_per_actor": 0.25}, [{"CPU": 16, "GPU": 2}], Placement(8, 1, 0.25)),
        ({"gpus_per_actor": 0.1}, [{"CPU": 16, "GPU": 1}], Placement(10, 1, 0.1)),
        ({"gpus_per_actor": 0.6}, [{"CPU": 16, "GPU": 5}], Placement(5, 1, 0.6)),
        ({"gpus_per_actor": 0.25}, [{"CPU": 3, "GPU": 2}], Placement(3, 1, 0.25)),
        ({"gpus_per_actor": 0}, [{"CPU": 3, "GPU": 2, "memory": 64 * GIB}], Placement(3, 1, 0)),
        ({"actors": 7}, [{"CPU": 2, "memory": 1 * GIB}], Placement(7, 1, 0)),
        ({}, [{"CPU": 64, "memory": 1 * GIB}], Placement(1, 1, 0)),
    ],
)
def test_an_actor_a_gpu_or_a_core_as_far_as_memory_allows(options, nodes, expected):
    assert resolve_placement(request(**options), nodes, NANO_BYTES) == expected


def test_larger_weights_allow_fewer_actors():
    nodes = [{"CPU": 64, "memory": 32 * GIB}]
    assert (
        resolve_placement(request(), nodes, L14_BYTES).n_actors
        < resolve_placement(request(), nodes, NANO_BYTES).n_actors
    )
    assert 2 * 4 * 400e6 < L14_BYTES - NANO_BYTES < 2 * 4 * 450e6  # the paper: 451 M parameters


@pytest.mark.parametrize(
    ("placement", "nodes", "said"),
    [
        (
            Placement(3, 1, 0),
            [{"CPU": 2}],
            "3 actors with 1 CPU and 0 GPU each do not fit: here has 2 CPU .* room for 2",
        ),
        (Placement(1, 4, 0), [{"CPU": 2}], "an actor with 4 CPU and 0 GPU fits no node: here has 2 CPU and 0 GPU"),
        (Placement(1, 2, 0), [{"CPU": 1}, {"CPU": 1}], "fits no node: here has 1 CPU and 0 GPU \\+ 1 CPU and 0 GPU"),
        (Placement(1, 1, 0.5), [{"CPU": 2, "GPU": 0}], "with 1 CPU and 0.5 GPU fits no node"),
        (Placement(2, 1, 0.6), [{"CPU": 2, "GPU": 1}], "room for 1"),
        (Placement(1, 1, 1.5), [{"CPU": 2, "GPU": 4}], "--gpus-per-actor 1.5: expected a whole number"),
    ],
)
def test_what_can_never_be_placed_is_refused(placement, nodes, said):
    with pytest.raises(PlacementError, match=said):
        check_placement(placement, nodes, where="here", can_grow=False)


def test_a_cluster_that_can_grow_is_asked_for_more_than_it_has():
    check_placement(Placement(30, 1, 0), [{"CPU": 2}], where="there", can_grow=True)
    with pytest.raises(PlacementError, match="fits no node"):
        check_placement(Placement(1, 4, 0), [{"CPU": 2}], where="there", can_grow=True)


def test_thirds_of_a_gpu_fit_three_times():
    check_placement(Placement(3, 1, 1 / 3), [{"CPU": 3, "GPU": 1}], where="here", can_grow=False)


def test_in_a_container_memory_is_what_is_left_of_its_limit_and_cache_is_no_use(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("90000\n")
    (tmp_path / "memory.current").write_text("80000\n")
    assert this_machine()[0]["memory"] == 10_000
    (tmp_path / "memory.stat").write_text("anon 7000\nfile 70000\ninactive_file 50000\n")
    assert this_machine()[0]["memory"] == 60_000
    (tmp_path / "memory.max").write_text("max\n")
    assert this_machine()[0]["memory"] > 90_000


def test_this_machine_has_a_core_and_memory():
    (node,) = this_machine()
    assert node["CPU"] >= 1
    assert node["memory"] > 2**20


ZONES = [{"CPU": 4, "label:zone=a": 1.0}, {"CPU": 2, "label:zone=b": 1.0, "label:ray.io/node-id=1": 1.0}]


def test_actors_go_only_to_nodes_with_the_labels_and_gpus_asked_for():
    assert resolve_placement(request(node_labels=("zone=b",)), ZONES, NANO_BYTES) == Placement(2, 1, 0, ("zone=b",))
    nodes = [{"CPU": 8, "GPU": 4, "accelerator_type:T4": 1}, {"CPU": 8, "GPU": 2, "accelerator_type:A100": 1}]
    asked = request(accelerator_type="A100")
    assert resolve_placement(asked, nodes, NANO_BYTES) == Placement(2, 1, 1, accelerator_type="A100")


def test_nodes_that_will_come_are_asked_for_by_name():
    placement = Placement(1, 1, 1, ("zone=c",), "A100")
    with pytest.raises(PlacementError) as refused:
        check_placement(placement, ZONES, where="there", can_grow=True)
    assert str(refused.value) == (
        "an actor with 1 CPU and 1 GPU of type A100 on a node labelled zone=c fits no node: there has "
        "4 CPU and 0 GPU (zone=a) + 2 CPU and 0 GPU (zone=b); lower --cpus-per-actor or --gpus-per-actor or ask for "
        "other nodes, or --wait-for-nodes if nodes that can are still to come"
    )
    check_placement(placement, ZONES, where="there", can_grow=True, more_to_come=True)


def test_a_cluster_of_other_versions_is_said_in_one_line(monkeypatch):
    def refuse(**_):
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.51.0\n    Python: 3.12.1\nThis process"
        )

    monkeypatch.setattr("ray.init", refuse)
    said = (
        "^--address auto: Version mismatch: The cluster was started with: Ray: 2.51.0 Python: 3.12.1 This process; inst"
    )
    with pytest.raises(PlacementError, match=said), ray_cluster("auto"):
        pass


class Head:
    """A Ray whose head loses the servers of its first clients, as it says `Initialization failure`."""

    def __init__(self, monkeypatch, n_lost):
        self.n_asked, self.n_lost = 0, n_lost
        monkeypatch.setattr("pipeline.actors.placement._knock", lambda _: None)
        monkeypatch.setattr("pipeline.actors.placement.cluster_nodes", lambda _: [{"CPU": 1}])
        monkeypatch.setattr("ray.init", self.init)

    def init(self, **_):
        self.n_asked += 1
        if self.n_asked <= self.n_lost:
            raise ConnectionAbortedError(
                "Initialization failure from server:\nTraceback\n  File x\nError: it did not start"
            )


def test_a_client_whose_server_on_the_head_died_asks_for_another(monkeypatch):
    head = Head(monkeypatch, n_lost=2)
    with ray_cluster("ray://head:1") as nodes:
        assert (nodes, head.n_asked) == ([{"CPU": 1}], 3)


@pytest.mark.parametrize(("address", "n_asked"), [("ray://head:1", 3), ("head:1", 1)])
def test_a_head_that_gives_a_client_no_server_says_why(monkeypatch, address, n_asked):
    head = Head(monkeypatch, n_lost=9)
    said = r"answers there \(Initialization failure from server: Error: it did not start\); "
    with pytest.raises(PlacementError, match=said), ray_cluster(address):
        pass
    assert head.n_asked == n_asked
