"""How many processes train together, and what each of them takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.actors.placement import Node, local_cpus
from pipeline.training.config import TrainingConfig
from schemas.errors import InputError, PlacementError

_LOADERS = {"cuda": 4, "cpu": 1}


@dataclass(frozen=True)
class Workers:
    """Where a run runs.

    n: processes that train together; None for one a GPU, or one.
    cpus: cores of each; None for all of this machine shared out, or 1 on a cluster or beside a GPU.
    device: "cuda" with one GPU each, "cpu", or None for what there is.
    loader_processes: that make the pictures of each ready; None for 4 beside a GPU, else 1.
    address: of a Ray cluster; None for this machine.
    """

    n: int | None = None
    cpus: int | None = None
    device: str | None = None
    loader_processes: int | None = None
    address: str | None = None


def fit_workers(asked: Workers, nodes: Sequence[Node]) -> Workers:
    """Every choice made, and refused what can never run.

    Raises:
        PlacementError: says what was asked for and what there is.
    """
    n_gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    device = asked.device or ("cuda" if n_gpus else "cpu")
    n = asked.n or (max(1, n_gpus) if device == "cuda" else 1)
    cpus = asked.cpus or (max(1, local_cpus() // n) if device == "cpu" and asked.address is None else 1)
    loaders = _LOADERS[device] if asked.loader_processes is None else asked.loader_processes
    fitted = Workers(n, cpus, device, loaders, asked.address)
    room = room_for(fitted, nodes)
    if room == 0 or (room < n and asked.address is None):
        each = f"{cpus} CPU and {int(device == 'cuda')} GPU"
        has = " + ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes[:4])
        where = f"the cluster at {asked.address}" if asked.address else "this machine"
        raise PlacementError(
            f"{n} workers with {each} each do not fit: {where} has {has}, room for {room}; "
            "lower --workers or --cpus-per-worker, or choose another --device"
        )
    return fitted


def room_for(workers: Workers, nodes: Sequence[Node]) -> int:
    """How many workers the nodes hold when they hold nothing else."""
    by_cpu = [int(node.get("CPU", 0) // (workers.cpus or 1)) for node in nodes]
    if workers.device == "cpu":
        return sum(by_cpu)
    return sum(min(most, int(node.get("GPU", 0))) for most, node in zip(by_cpu, nodes, strict=True))


def check_batches(config: TrainingConfig, workers: Workers) -> None:
    """Refuse steps that the workers cannot share out, and a precision that the device lacks.

    Raises:
        InputError: names the stage, and what its batch must be a multiple of.
    """
    for stage in config.stages:
        at_once = stage.micro_batch_size * (workers.n or 1)
        if stage.batch_size % at_once:
            raise InputError(
                f"stage {stage.name!r}: found batch_size {stage.batch_size}, expected a multiple of {at_once}: "
                f"micro_batch_size {stage.micro_batch_size} times {workers.n} workers; change one of the three"
            )
    if config.precision == "float16" and workers.device == "cpu":
        raise InputError("precision: found float16, which needs a GPU; on a CPU use float32 or bfloat16")
