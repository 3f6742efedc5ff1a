"""The training loop that every worker runs: steps, curves, validation and checkpoints, from wherever it stopped.

A run is decided by its configuration alone, but for rounding also whatever the number of workers: data and words by
number, rates by step. So a run that was killed goes on from its last checkpoint on the same curve (on a CPU to the bit,
with the same threads). Only a measurement that was cut off after its state was saved is left out.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from escnet.base_config import ModelConfig
from escnet.base_network import Network
from escnet.training import LossWeights, TrainingBatch, TrainingModel, parameter_groups
from pipeline.training.batches import MicroBatches, Worker, load
from pipeline.training.config import Stage, TrainingConfig
from pipeline.training.samples import SampleSource
from pipeline.training.validation import Validator
from schemas.errors import ModelError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_STATISTICS = ("running_mean", "running_var")

_ALONE = Worker()

Record = dict[str, float | int | str]


@dataclass(frozen=True)
class Hooks:
    """What the loop calls on the first worker, and `must_stop` on all.

    record: takes a line of the curve.
    save: takes a state at a step.
    must_stop: asked after each step but the last, with how many are done; True saves a state and ends the run there.
    """

    record: Callable[[Record], None]
    save: Callable[[int, dict[str, Any]], None]
    must_stop: Callable[[int], bool] = lambda _: False


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
        network: Network,
        sources: list[list[SampleSource]],
        *,
        device: torch.device,
        worker: Worker = _ALONE,
        n_loader_processes: int = 0,
        validator: Validator | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        self.config, self.device, self.worker = config, device, worker
        self.network = network.to(device)
        self._set_training_mode()
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
        self._average = deepcopy(self.network).requires_grad_(False) if config.ema_decay else None
        self.step = 0  # steps done
        self._sums: dict[str, float] = {}  # losses since the last line of the curve
        self._n_summed = 0  # steps

    @property
    def trained(self) -> Network:
        """The network to keep: the average where one is kept."""
        return self.network if self._average is None else self._average

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sums": dict(self._sums),
            "n_summed": self._n_summed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        self._sums, self._n_summed = dict(state["sums"]), state["n_summed"]

    def run(self, hooks: Hooks) -> bool:
        """Train to the end; False if `must_stop` ended the run before.

        Raises:
            ModelError: the loss is no number any more.
            InputError: a picture or mask that cannot be used.
        """
        while self.step < self.config.n_steps:
            stage_index, first = self.config.stage_at(self.step)
            if not self._run_stage(stage_index, first, hooks):
                return False
        return True

    def _run_stage(self, stage_index: int, first: int, hooks: Hooks) -> bool:
        stage = self.config.stages[stage_index]
        batches = MicroBatches(self.config, stage_index, self.network.config, self._sources[stage_index], self.worker)
        micro_batches = load(batches, first, self._n_loader_processes)
        for parameter in (p for g in self.optimiser.param_groups if g.get("is_text") for p in g["params"]):
            parameter.requires_grad_(stage.text_rate > 0)
        n_timed, started = 0, time.monotonic()
        for step in range(first, stage.steps):
            for name, value in self._train_step(stage, step, islice(micro_batches, batches.n_a_step)).items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            self.step += 1
            self._n_summed += 1
            n_timed += 1
            is_last = step == stage.steps - 1
            is_line = self.step % self.config.log_every == 0 or is_last
            if is_line:
                pace = n_timed * stage.batch_size / max(time.monotonic() - started, 1e-9)
                self._record(stage, step, pace, hooks)
            must_stop = self.step < self.config.n_steps and hooks.must_stop(self.step)
            if self.step % self.config.checkpoint_every == 0 or is_last or must_stop:
                self._share_sums()
                if self.worker.rank == 0:
                    hooks.save(self.step, self.state())
            if self._is_due(is_last):  # after the state: to die here loses a measurement, and no step
                hooks.record(self._validate(stage))
            if must_stop:
                return False
            if is_line:
                n_timed, started = 0, time.monotonic()
        return True

    def _train_step(self, stage: Stage, step: int, batches: Iterator[TrainingBatch]) -> dict[str, float]:
        """One optimiser step over the micro-batches; returns the mean of each loss."""
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            of_stage = stage.text_rate if group.get("is_text") else 1.0
            group["lr"] = rate * of_stage * stage.learning_rate * stage.rate(step)
        weights = LossWeights(stage.losses.segmentation, stage.losses.alignment, stage.classes_per_picture)
        losses: dict[str, float] = defaultdict(float)
        n_batches = stage.batch_size // stage.micro_batch_size // self.worker.n_workers
        for place, batch in enumerate(batches):
            with self._together(place == n_batches - 1):
                with torch.autocast(
                    self.device.type, _DTYPES[self.config.precision], self.config.precision != "float32"
                ):
                    found = self.model(batch.to(self.device), weights)
                total = sum(loss * getattr(weights, name) for name, loss in found.items()) / n_batches
                self._scaler.scale(total).backward()
            for name, loss in (found | {"loss": total * n_batches}).items():
                losses[name] += float(loss.detach()) / n_batches
        self._scaler.unscale_(self.optimiser)
        learning = [p for group in self.optimiser.param_groups for p in group["params"] if p.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(learning, self.config.clip_norm))
        is_tolerated = self.config.precision == "float16" and math.isfinite(losses["loss"])  # the scaler skips the step
        if not math.isfinite(norm + losses["loss"]) and not is_tolerated:
            raise ModelError(
                f"training stopped at step {self.step + 1}: loss {losses['loss']:g} and gradient norm {norm:g}, "
                "expected finite numbers; lower learning_rate, or train in float32"
            )
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))  # at first little of the start
            _update_average(self._average, self.network, decay)
        return losses

    def _together(self, is_last: bool) -> AbstractContextManager[None]:
        """Workers exchange gradients in the last of a step's micro-batches alone."""
        if isinstance(self.model, DistributedDataParallel) and not is_last:
            return self.model.no_sync()
        return nullcontext()

    def _is_due(self, is_last: bool) -> bool:
        if self._validator is None or self.worker.rank:
            return False
        return is_last or self.step % self._validator.every == 0

    def _record(self, stage: Stage, step: int, pace: float, hooks: Hooks) -> None:
        """A line of the curve: losses since the last one, over all steps and workers."""
        self._share_sums()
        losses = {name: value / self._n_summed for name, value in self._sums.items()}
        self._sums, self._n_summed = {}, 0
        if self.worker.rank:
            return
        rate = stage.learning_rate * stage.rate(step)
        hooks.record(
            {"step": self.step, "stage": stage.name, "learning_rate": rate, "pictures_a_second": pace, **losses}
        )

    def _share_sums(self) -> None:
        """Give every worker the mean of all workers' sums: a state, which one writes, then speaks for all."""
        if self.worker.n_workers == 1 or not self._sums:
            return
        names = sorted(self._sums)
        sums = torch.tensor([self._sums[name] for name in names], dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        self._sums = dict(zip(names, (sums / self.worker.n_workers).tolist(), strict=True))

    def _validate(self, stage: Stage) -> Record:
        assert self._validator is not None
        scores = self._validator.measure(self.trained, segments=bool(stage.losses.segmentation))
        self._set_training_mode()
        return {"step": self.step, "stage": stage.name, **scores}

    def _set_training_mode(self) -> None:
        """A tower that is not trained keeps the statistics of its batch norms, too."""
        self.network.train()
        self.network.clip.train(self.config.trainable == "all")


def build_network(config: ModelConfig, seed: int) -> Network:
    """A network with the random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build()


@torch.no_grad()
def _update_average(average: Network, network: Network, decay: float) -> None:
    """The exponential moving average of weights, and of the statistics of batch norms, which belong to them."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for (name, mean), current in zip(average.named_buffers(), network.buffers(), strict=True):
        if name.endswith(_STATISTICS):
            mean.lerp_(current, 1 - decay)
        else:  # constants, some with infinite values, which have no mean
            mean.copy_(current)
