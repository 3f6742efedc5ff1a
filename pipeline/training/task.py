"""What the driver hands to Ray Train for its workers. Light to import: Ray's controller unpacks it too."""

from dataclasses import dataclass
from typing import Any

from pipeline.storage import StorageOptions
from pipeline.training.config import TrainingConfig


@dataclass(frozen=True)
class Task:
    """A run as its workers are given it. Local names in `config` are absolute.

    recipe: as it was written; goes into the checkpoint.
    data: what its sources came to, likewise.
    identity: see `Checkpoints`.
    """

    config: TrainingConfig
    recipe: dict[str, Any]
    folder: str
    identity: dict[str, Any]
    data: list[dict[str, Any]]
    storage: StorageOptions
    uses_gpu: bool
    n_threads: int
    n_loader_processes: int
