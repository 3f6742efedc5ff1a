"""One actor of a job as its driver sees it, and what Ray says when it dies."""

import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.actors.actor import SHARDS_AT_ONCE, Replica
from pipeline.actors.orders import RunnerReport
from pipeline.actors.placement import Placement
from pipeline.actors.shard_work import ShardWork
from schemas.errors import EscnetError, JobFailedError

COUNTED_AT_ONCE = 100  # actors whose restarts are asked for
MAX_TRIES = 3  # a model whose actor died this often is not tried again


@dataclass(eq=False)
class Worker:
    """One actor as the driver sees it. What follows `actor` belongs to its present life and ends with it."""

    number: int
    actor: Any
    warm_up_at: float = 0.0  # when to ask for it
    is_placed: bool = False
    is_ready: bool = False
    at_hand: dict[Any, ShardWork] = field(default_factory=dict)  # by call, in the order they were handed out
    asked_at: float | None = None  # for the report that has not come yet
    report: RunnerReport = field(default_factory=RunnerReport)
    is_ended: bool = False  # by the driver, since the model was stuck
    is_gone: bool = False  # this life is over
    has_loaded: bool = False  # its model, in this life or an earlier one
    n_deaths_loading: int = 0  # in a row, over several lives
    n_restarts: int = 0  # Ray's count of them when its model was last ready


def actor_class(ray: Any, placement: Placement) -> Any:
    """Ray's class of replicas, to be made with `.remote(setup)`."""
    ray.method(concurrency_group="reports")(Replica.report)  # answers while shards are at work
    return ray.remote(
        num_cpus=placement.cpus_per_actor,
        num_gpus=placement.gpus_per_actor,
        label_selector=dict(label.split("=", 1) for label in placement.node_labels),
        accelerator_type=placement.accelerator_type,
        max_restarts=-1,
        max_task_retries=0,  # the driver does a lost shard again itself, and counts how often
        max_concurrency=SHARDS_AT_ONCE,
        concurrency_groups={"reports": 1},
    )(Replica)


def cause(error: Any) -> Exception:
    """What an actor really raised: an error with one clear line stays one."""
    cause = error.cause
    if isinstance(cause, EscnetError):
        return cause
    line = " ".join(str(cause).split())[:300]
    return JobFailedError(f"a worker failed with {type(cause).__name__}: {line}; please report it")


def n_restarts(ray: Any, actor: Any) -> int:
    """How often Ray has restarted an actor, which no call to it tells; 0 where a Ray client cannot ask."""
    with suppress(AttributeError, ray.exceptions.RaySystemError):
        return int(ray._private.state.actors(actor._actor_id.hex()).get("NumRestarts", 0))
    return 0


def why_not_created(error: Exception) -> str:
    """The last line of what an actor's creation raised; "" if it was created."""
    said = str(error).strip()
    return said.splitlines()[-1].strip() if "creation" in said.partition("\n")[0].lower() else ""


def check_loading(
    ray: Any, suspects: Iterable[Worker], workers: Iterable[Worker], error: Exception | None = None
) -> None:
    """Has one of the suspects died too often as it loaded the model? Of many, some are looked at.

    That ends the job unless another of the workers can load it: it may well be the node. One that could may be
    starting anew just now, since a picture ended it.

    Raises:
        JobFailedError: it has, and none can.
    """
    waiting = [worker for worker in suspects if not worker.is_ready]
    some = random.sample(waiting, min(len(waiting), COUNTED_AT_ONCE))
    n_deaths = max((_n_deaths_at_loading(ray, worker) for worker in some), default=0)
    if n_deaths >= MAX_TRIES:
        give_up_if(not any(_can_load(ray, worker) for worker in workers), n_deaths, "loading the model", error)


def _can_load(ray: Any, worker: Worker) -> bool:
    return worker.is_ready or (worker.has_loaded and _n_deaths_at_loading(ray, worker) < MAX_TRIES)


def _n_deaths_at_loading(ray: Any, worker: Worker) -> int:
    """Those that calls told of, or that Ray counted: it may die before it answers at all."""
    return max(worker.n_deaths_loading, n_restarts(ray, worker.actor) - worker.n_restarts)


def give_up_if(is_hopeless: bool, n_deaths: int, doing: str, error: Exception | None = None) -> None:
    """Raises:
    JobFailedError: processes keep dying, and nothing else helps.
    """
    if is_hopeless:
        why = why_not_created(error) if error else ""
        why = why or "the machine may be out of memory, or --timeout too short: try fewer --actors, more time"
        raise JobFailedError(f"a worker process died {n_deaths} times at {doing}; {why}") from error
