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


def most_unseen_deaths(ray: Any, workers: Iterable[Worker]) -> int:
    """How often the worst of the workers that are not ready died since its model was; of many, some are asked for."""
    waiting = [worker for worker in workers if not worker.is_ready]
    some = random.sample(waiting, min(len(waiting), COUNTED_AT_ONCE))
    return max((n_restarts(ray, worker.actor) - worker.n_restarts for worker in some), default=0)


def give_up_if(is_hopeless: bool, n_deaths: int, doing: str, error: Exception | None = None) -> None:
    """Raises:
    JobFailedError: processes keep dying, and nothing else helps.
    """
    if is_hopeless:
        why = why_not_created(error) if error else ""
        why = why or "the machine may be out of memory, or --timeout too short: try fewer --actors, more time"
        raise JobFailedError(f"a worker process died {n_deaths} times at {doing}; {why}") from error
