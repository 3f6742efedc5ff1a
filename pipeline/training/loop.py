"""The training loop that every worker runs: steps, curves, validation and checkpoints, from wherever it stopped.

A run is decided by its configuration and the number of workers alone: data and words by number, rates by step. So a
run that was killed goes on from its last checkpoint on the same curve (on a CPU to the bit, with the same threads).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from escnet.config import ModelConfig
from escnet.network import EscNet
from escnet.training import LossWeights, TrainingBatch, TrainingModel, parameter_groups
from pipeline.training.batches import MicroBatches, Worker, load
from pipeline.training.config import Stage, TrainingConfig
from pipeline.training.samples import SampleSource
from pipeline.training.validation import Validator
from schemas.errors import ModelError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Record = dict[str, float | int | str]


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: `record` with a line of the curve, `save` with a state at a step."""

    record: Callable[[Record], None]
    save: Callable[[int, dict[str, Any]], None]


class Trainer:
    """One worker's part of a run.

    Args:
        config: the run.
        network: as training starts; moved to `device`.
        sources: for each stage its sources, in the order of its `data`.
        wrap: makes the model data-parallel, where there are several workers.
    """

    def __init__(
        self,
        config: TrainingConfig,
        network: EscNet,
        sources: list[list[SampleSource]],
        *,
        device: torch.device,
        worker: Worker = Worker(),
        n_loader_processes: int = 0,
        validator: Validator | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        self.config, self.device, self.worker = config, device, worker
        self.network = network.to(device).train()
        self._sources, self._n_loader_processes, self._validator = sources, n_loader_processes, validator
        groups = parameter_groups(
            self.network,
            config.trainable,
            learning_rate=1.0,
            clip_sam_learning_rate=config.clip_sam_rate,
            weight_decay=config.weight_decay,
        )
        self._rates = [group["lr"] for group in groups]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.model = wrap(TrainingModel(self.network))
        self._average = _average(self.network, config.ema_decay)
        self.step = 0  # steps done

    @property
    def trained(self) -> EscNet:
        """The network to keep: the average where one is kept."""
        return self.network if self._average is None else self._average.module

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.step = state["step"]

    def run(self, hooks: Hooks) -> None:
        """Train to the end.

        Raises:
            ModelError: the loss is no number any more.
        """
        while self.step < self.config.n_steps:
            stage_index, first = self.config.stage_at(self.step)
            self._run_stage(stage_index, first, hooks)

    def _run_stage(self, stage_index: int, first: int, hooks: Hooks) -> None:
        stage = self.config.stages[stage_index]
        batches = MicroBatches(self.config, stage_index, self.network.config, self._sources[stage_index], self.worker)
        micro_batches = load(batches, first, self._n_loader_processes)
        sums: dict[str, float] = defaultdict(float)
        since, started = 0, time.monotonic()
        for step in range(first, stage.steps):
            for name, value in self._train_step(stage, step, islice(micro_batches, batches.n_a_step)).items():
                sums[name] += value
            self.step += 1
            since += 1
            is_last = self.step == self.config.n_steps
            if self.step % self.config.log_every == 0 or is_last:
                pace = since * stage.batch_size / max(time.monotonic() - started, 1e-9)
                hooks.record(self._record(stage, step, {name: total / since for name, total in sums.items()}, pace))
                sums.clear()
                since, started = 0, time.monotonic()
            if self._is_due(is_last, stage, step):
                hooks.record(self._validate(stage))
                started = time.monotonic()
            if self.step % self.config.checkpoint_every == 0 or is_last:
                hooks.save(self.step, self.state())

    def _train_step(self, stage: Stage, step: int, batches: Iterator[TrainingBatch]) -> dict[str, float]:
        """One optimiser step over the micro-batches; returns the mean of each loss."""
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * stage.learning_rate * stage.rate(step)
        weights = LossWeights(stage.losses.segmentation, stage.losses.alignment, stage.classes_per_picture)
        losses: dict[str, float] = defaultdict(float)
        n_batches = stage.batch_size // stage.micro_batch_size // self.worker.n_workers
        for batch in batches:
            with torch.autocast(self.device.type, _DTYPES[self.config.precision], self.config.precision != "float32"):
                found = self.model(batch.to(self.device), weights)
            total = sum(loss * getattr(weights, name) for name, loss in found.items()) / n_batches
            self._scaler.scale(total).backward()
            for name, loss in (found | {"loss": total * n_batches}).items():
                losses[name] += float(loss.detach()) / n_batches
        if not torch.isfinite(torch.tensor(losses["loss"])) and self.config.precision != "float16":
            raise ModelError(
                f"training stopped at step {self.step + 1}: the loss is no finite number; "
                "lower learning_rate, or train in float32"
            )
        self._scaler.unscale_(self.optimiser)
        learning = [p for group in self.optimiser.param_groups for p in group["params"] if p.grad is not None]
        nn.utils.clip_grad_norm_(learning, self.config.clip_norm)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.network)
        return losses

    def _is_due(self, is_last: bool, stage: Stage, step: int) -> bool:
        if self._validator is None or self.worker.rank:
            return False
        return is_last or step == stage.steps - 1 or self.step % self._validator.every == 0

    def _record(self, stage: Stage, step: int, losses: dict[str, float], pace: float) -> Record:
        rate = stage.learning_rate * stage.rate(step)
        return {"step": self.step, "stage": stage.name, "learning_rate": rate, "pictures_a_second": pace, **losses}

    def _validate(self, stage: Stage) -> Record:
        assert self._validator is not None
        scores = self._validator.measure(self.trained, segments=bool(stage.losses.segmentation))
        self.network.train()
        return {"step": self.step, "stage": stage.name, **scores}


def build_network(config: ModelConfig, seed: int) -> EscNet:
    """A network with the random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EscNet(config)


def _average(network: EscNet, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights; `use_buffers` is off: buffers are constants here."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
