"""Where actors go: what a job asks of a cluster, what there is, and the cluster itself."""

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from escnet.models import ResolvedModel
from schemas.errors import PlacementError
from schemas.job import JobRequest

WORKING_BYTES = 3 * 2**29  # what a replica needs beside its weights: libraries, one picture's tensors, label maps
KNOCK_TIMEOUT_S = 5.0
OBJECT_STORE_BYTES = 100 * 2**20  # shard references only: pictures never pass through the object store


@dataclass(frozen=True)
class Placement:
    """How many actors, and what each of them takes."""

    n_actors: int
    cpus_per_actor: int
    gpus_per_actor: float


def this_machine() -> dict[str, float]:
    """The resources of this machine, by Ray's names."""
    return {"CPU": local_cpus(), "GPU": local_gpus(), "memory": psutil.virtual_memory().available}


def resolve_placement(request: JobRequest, resources: dict[str, float], model: ResolvedModel) -> Placement:
    """What the user asked for, and defaults for the rest: an actor a GPU, or a core as far as memory allows."""
    has_gpu = resources.get("GPU", 0) > 0
    gpus = request.gpus_per_actor if request.gpus_per_actor is not None else float(has_gpu)
    if request.actors is not None:
        return Placement(request.actors, request.cpus_per_actor, gpus)
    by_cpu = resources.get("CPU", 0) // request.cpus_per_actor
    by_gpu = resources.get("GPU", 0) // gpus if gpus else math.inf
    by_memory = resources.get("memory", math.inf) // replica_bytes(model) if not gpus else math.inf
    return Placement(max(1, int(min(by_cpu, by_gpu, by_memory))), request.cpus_per_actor, gpus)


def replica_bytes(model: ResolvedModel) -> int:
    """Memory to reckon with for one replica on a CPU: the weights twice, and room to work."""
    towers = (model.config.clip["vision_cfg"], model.config.clip["text_cfg"])
    n_weights = sum(12 * tower["layers"] * tower["width"] ** 2 for tower in towers)  # a transformer's matrices
    n_weights += towers[1]["vocab_size"] * towers[1]["width"]
    return WORKING_BYTES + 2 * 4 * n_weights


def local_cpus() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_gpus() -> int:
    """CUDA devices of this machine; torch is asked only where a driver is present."""
    if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextmanager
def ray_cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Connect to a cluster, or start an embedded one; yields its total resources.

    Raises:
        PlacementError: no cluster answers at `address`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        ray.init(
            address="local",
            num_cpus=local_cpus(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
    else:
        try:
            _knock(address)
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise PlacementError(
                f"--address {address}: no Ray cluster answers there ({reason}); "
                "start one with `ray start --head`, or leave --address out to use this machine"
            ) from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries an address that does not answer for minutes. Names such as `auto` have no port to knock at."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_TIMEOUT_S).close()


def check_placement(placement: Placement, resources: dict[str, float], where: str) -> None:
    """Refuse what can never be placed.

    Raises:
        PlacementError: says what was asked for and what there is.
    """
    for name, each in (("CPU", placement.cpus_per_actor), ("GPU", placement.gpus_per_actor)):
        asked, there = placement.n_actors * each, resources.get(name, 0)
        if asked > there + 1e-9:
            raise PlacementError(
                f"{placement.n_actors} actors with {each:g} {name} each need {asked:g} {name}s, {where} has {there:g}; "
                f"ask for at most {math.floor(there / each)} actors, or for fewer {name}s per actor"
            )
