"""Where actors go: what a job asks of a cluster, what its nodes have, and the cluster itself."""

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from escnet.models import ResolvedModel
from pipeline.actors.forks import SAFE_FORKS
from pipeline.actors.process_groups import apart
from schemas.errors import PlacementError
from schemas.job import JobRequest

Node = dict[str, float]  # resources of one node by Ray's names: CPU, GPU, memory in bytes; labels as `label:key=value`

WORKING_BYTES = 3 * 2**29  # what a replica needs beside its weights: libraries, one picture's tensors, label maps
OBJECT_STORE_BYTES = 100 * 2**20  # shard references only: pictures never pass through the object store
KNOCK_TIMEOUT_S = 5.0
CLIENT_TRIES = 3  # with ray://
MOST_NAMED = 4  # nodes
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Placement:
    """How many actors, what each of them takes, and which nodes may hold them.

    node_labels: "key=value" each; a node must have all of them.
    accelerator_type: by Ray's name, such as A100; None for any.
    """

    n_actors: int
    cpus_per_actor: int
    gpus_per_actor: float
    node_labels: tuple[str, ...] = ()
    accelerator_type: str | None = None

    @property
    def each(self) -> str:
        """What one actor asks for, in words."""
        asked = f"{self.cpus_per_actor} CPU and {self.gpus_per_actor:g} GPU"
        asked += f" of type {self.accelerator_type}" if self.accelerator_type else ""
        return asked + (f" on a node labelled {', '.join(self.node_labels)}" if self.node_labels else "")

    @property
    def marks(self) -> set[str]:
        """Keys that a node must have."""
        types = {f"accelerator_type:{self.accelerator_type}"} if self.accelerator_type else set()
        return {f"label:{label}" for label in self.node_labels} | types


def this_machine() -> list[Node]:
    """The one node of an embedded cluster: what this process may use, in a container what the container may."""
    memory = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no cgroup, or "max"
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        memory = min(memory, max(0, limit - used + _idle_cache()))
    return [{"CPU": local_cpus(), "GPU": local_gpus(), "memory": memory}]


def _idle_cache() -> int:
    """Bytes of files that were read and are in nobody's way: a container's use counts them, and gives them up first."""
    with suppress(OSError):
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    return 0


def local_cpus() -> int:
    """CPU cores this process may use, at least 1."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup, or "max"
        quota, period = map(int, (_CGROUP / "cpu.max").read_text().split())
        n_cpus = min(n_cpus, quota // period)
    return max(1, n_cpus)


def local_gpus() -> int:
    """CUDA devices of this machine; torch is asked only where a driver is present."""
    if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_placement(request: JobRequest, nodes: Sequence[Node], actor_bytes: int) -> Placement:
    """What the user asked for, and defaults for the rest: an actor a GPU, or a core as far as memory allows.

    Args:
        actor_bytes: memory that one actor needs on a CPU.
    """
    gpus = request.gpus_per_actor
    if gpus is None:
        gpus = float(request.accelerator_type is not None or any(node.get("GPU", 0) >= 1 for node in nodes))
    where = (request.node_labels, request.accelerator_type)
    asked = Placement(request.actors or 1, request.cpus_per_actor, gpus, *where)
    if request.actors is not None:
        return asked
    by_memory = [math.inf if gpus else node.get("memory", math.inf) // actor_bytes for node in nodes]
    n_actors = sum(min(_room(node, asked), most) for node, most in zip(nodes, by_memory, strict=True))
    return replace(asked, n_actors=max(1, int(n_actors)))


def check_placement(
    placement: Placement, nodes: Sequence[Node], *, where: str, can_grow: bool, more_to_come: bool = False
) -> None:
    """Refuse what can never be placed.

    Args:
        can_grow: a cluster, to which nodes may be added: only an actor that no node could hold is refused.
        more_to_come: nodes of other kinds will be added, so no actor is refused.

    Raises:
        PlacementError: says what was asked for and what there is.
    """
    if placement.gpus_per_actor > 1 and placement.gpus_per_actor % 1:
        raise PlacementError(f"--gpus-per-actor {placement.gpus_per_actor:g}: expected a whole number, or less than 1")
    room = sum(_room(node, placement) for node in nodes)
    has = describe_nodes(nodes)
    if room == 0 and not more_to_come:
        wait = ", or --wait-for-nodes if nodes that can are still to come" if can_grow else ""
        change = " or ask for other nodes" if placement.marks else ""
        raise PlacementError(
            f"an actor with {placement.each} fits no node: {where} has {has}; "
            f"lower --cpus-per-actor or --gpus-per-actor{change}{wait}"
        )
    if placement.n_actors > room and not can_grow:
        raise PlacementError(
            f"{placement.n_actors} actors with {placement.each} each do not fit: {where} has {has}, "
            f"room for {room}; lower --actors, --cpus-per-actor or --gpus-per-actor"
        )


def describe_nodes(nodes: Sequence[Node]) -> str:
    """What there is, node by node: cores, GPUs and their type, labels that people gave."""
    has = " + ".join(map(_describe_node, nodes[:MOST_NAMED])) or "no node"
    return has + (f" and {len(nodes) - MOST_NAMED} nodes more" if len(nodes) > MOST_NAMED else "")


def _describe_node(node: Node) -> str:
    has = f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU"
    types = [key.partition(":")[2] for key in node if key.startswith("accelerator_type:")]
    labels = [label for key in node if (label := key.removeprefix("label:")) != key and not label.startswith("ray.io/")]
    has += f" of type {', '.join(types)}" if types else ""
    return has + (f" ({', '.join(labels)})" if labels else "")


def cluster_nodes(ray: Any) -> list[Node]:
    """The nodes of the cluster that this process is connected to."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    labels = [{f"label:{key}={value}": 1.0 for key, value in node.get("Labels", {}).items()} for node in alive]
    return [{**node["Resources"], **marks} for node, marks in zip(alive, labels, strict=True)]


def replica_bytes(model: ResolvedModel) -> int:
    """Memory to reckon with for one replica on a CPU, beside its classes: the weights twice, and room to work."""
    config, text = model.config, model.config.clip["text_cfg"]
    n_tokens = text["vocab_size"] if config.trained_tokens is None else len(config.trained_tokens)
    n_weights = _transformer_weights(text) + n_tokens * text["width"]
    if config.pyramid is None:
        n_weights += _transformer_weights(config.clip["vision_cfg"])
    else:  # two 3 x 3 convolutions a block, and one block more on the way back
        stages = zip(config.pyramid.depths, config.pyramid.dims, strict=True)
        n_weights += sum((depth + 1) * 18 * dim**2 for depth, dim in stages)
    return WORKING_BYTES + 2 * 4 * n_weights


def _transformer_weights(tower: dict[str, Any]) -> int:
    return int(12 * tower["layers"] * tower["width"] ** 2)  # its matrices


@contextmanager
def ray_cluster(address: str | None) -> Iterator[list[Node]]:
    """Connect to a cluster, or start an embedded one; yields the resources of its nodes.

    Raises:
        PlacementError: no cluster answers at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name, value in SAFE_FORKS.items():
        os.environ.setdefault(name, value)
    if address is not None:
        bring_token()
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        local: dict[str, Any] = {
            "num_cpus": local_cpus(),
            "num_gpus": local_gpus(),  # those that torch can use, as `this_machine` says
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
        with apart():
            ray.init(address="local", **local, **quiet)
    else:
        try:
            _knock(address)
            _connect(ray, address, quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise PlacementError(_no_cluster(address, error)) from error
    _silence(ray)
    try:
        yield cluster_nodes(ray)
    finally:
        ray.shutdown()


def _room(node: Node, placement: Placement) -> int:
    """How many actors a node holds when it holds nothing else. A fraction of a GPU is a fraction of one GPU."""
    if not placement.marks <= node.keys():
        return 0
    by_cpu = int(node.get("CPU", 0) // placement.cpus_per_actor)
    gpus = placement.gpus_per_actor
    if not gpus:
        return by_cpu
    n_gpus = int(node.get("GPU", 0))
    return min(by_cpu, n_gpus // int(gpus) if gpus >= 1 else n_gpus * int(1 / gpus + 1e-9))


def _knock(address: str) -> None:
    """Ray itself tries an address that does not answer for minutes. Names such as `auto` have no port to knock at."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_TIMEOUT_S).close()


def _connect(ray: Any, address: str, options: dict[str, Any]) -> None:
    """The head forks a server for each client of ray://, which may die of it (see forks.py); another one may not."""
    for _ in range(CLIENT_TRIES - 1 if address.startswith("ray://") else 0):
        with suppress(ConnectionAbortedError):
            ray.init(address=address, **options)
            return
    ray.init(address=address, **options)


def bring_token() -> None:
    """Show a token that is at hand to any cluster, as Ray does by itself for `auto` alone; an open one ignores it."""
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if has_token or Path("~/.ray/auth_token").expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _no_cluster(address: str, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if "ersion mismatch" in said:  # Ray's words name both versions of Ray and of Python
        return f"--address {address}: {said[:500]}; install the cluster's versions here, or `escnet job submit` to it"
    lines = str(error).strip().splitlines() or [said]
    reason = f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]  # a traceback of the cluster's follows
    token = "" if os.environ.get("RAY_AUTH_MODE") == "token" else "set RAY_AUTH_TOKEN if it asks for a token, "
    return (
        f"--address {address}: no Ray cluster answers there ({reason}); "
        f"{token}start one with `ray start --head`, or leave --address out to use this machine"
    )


def _silence(ray: Any) -> None:
    """Ray tells the terminal of every process that dies, whatever its log level; the scheduler says it in a line."""
    with suppress(AttributeError):
        ray._private.worker.print_to_stdstream = lambda *_, **__: None


def waiting_line(ray: Any, n_waiting: int, n_actors: int, placement: Placement) -> str:
    """What a job waits for, and what its cluster has."""
    free, there = ray.available_resources(), describe_nodes(cluster_nodes(ray))
    return (
        f"waiting for {n_waiting} of {n_actors} actors, each with {placement.each}; "
        f"free on all nodes: {free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU; there is {there}"
    )
