"""What each process of a run does, once Ray Train has put it in its place."""

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import distributed

from escnet.base_config import ModelConfig
from escnet.base_network import Network
from escnet.checkpoint import describe_mismatch, load_checkpoint, save_checkpoint
from escnet.checkpoint_header import UNTRAINED_PARTS, read_header
from escnet.clip import build_tokenizer
from escnet.segmenter import Dtype
from escnet.training import spread_names
from pipeline.training.batches import Worker
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.config import TrainingConfig
from pipeline.training.config_file import model_config
from pipeline.training.curves import SCORES, Curves, Record, read_curves
from pipeline.training.loop import Hooks, Trainer, build_network
from pipeline.training.run_folder import checkpoint_path, found_failure, is_asked_to_stop, leave_failure, tell_step
from pipeline.training.samples import SampleSource
from pipeline.training.sources import open_sources, open_validation
from pipeline.training.task import Task
from pipeline.training.validation import Validator
from schemas.errors import EscnetError, JobFailedError, ModelError


def run_worker(settings: dict[str, Task]) -> None:
    """Train to the end, or until asked to stop; the first worker writes curves, states and the trained network.

    Raises:
        EscnetError: what the user must mend; it also lies in the run's folder for the driver.
    """
    task = settings["task"]
    failure = found_failure(task.folder)
    if failure is not None:
        raise failure
    try:
        _train(task)
    except torch.OutOfMemoryError as error:
        failure = JobFailedError(
            "the GPU's memory is full; lower micro_batch_size (batch_size may stay), or set classes_per_picture"
        )
        leave_failure(task.folder, failure)
        raise failure from error
    except EscnetError as error:
        leave_failure(task.folder, error)
        raise


def _train(task: Task) -> None:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device() if task.uses_gpu else torch.device("cpu")
    torch.set_num_threads(task.n_threads)
    model = model_config(task.config.model)
    sources = open_sources(task.config, model, task.storage)
    network = start_network(task.config, model)
    if task.config.spread_names:
        _spread_names(network, task.config, sources)
    trainer = Trainer(
        task.config,
        network,
        sources,
        device=device,
        worker=worker,
        n_loader_processes=task.n_loader_processes,
        validator=_validator(task, model, device) if worker.rank == 0 else None,
        wrap=partial(
            ray.train.torch.prepare_model,
            move_to_device=device,
            parallel_strategy_kwargs={"find_unused_parameters": True},  # a stage may leave the blocks out
        ),
    )
    states = Checkpoints(task.folder, task.identity)
    _restore(trainer, states)
    curves = Curves(task.folder, trainer.step) if worker.rank == 0 else None
    record: Callable[[Record], None] = curves.add if curves else lambda _: None
    is_done = trainer.run(Hooks(record, states.save, partial(_must_stop, task.folder, worker, device)))
    if curves:
        curves.draw()
        if is_done:
            save_checkpoint(
                trainer.trained, checkpoint_path(task.folder, task.config), _provenance(task, network), overwrite=True
            )


def _restore(trainer: Trainer, states: Checkpoints) -> None:
    """Go on from the last state, if there is one: three times the weights, and held no longer than this takes."""
    state = states.load()
    if state is not None:
        trainer.restore(state)


def start_network(config: TrainingConfig, model: ModelConfig) -> Network:
    """The network that a run begins with: a checkpoint, or random weights of the run's seed, on another one's CLIP.

    Raises:
        ModelError: a checkpoint is damaged, or its CLIP is another one than the preset's.
    """
    if config.model.checkpoint is not None:
        return load_checkpoint(config.model.checkpoint)
    network = build_network(model, config.seed)
    if config.model.clip_from is not None:
        given = load_checkpoint(config.model.clip_from).clip.state_dict()
        found, expected = (
            {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()}
            for state in (given, network.clip.state_dict())
        )
        if problem := describe_mismatch(found, expected):
            raise ModelError(f"{config.model.clip_from}: its CLIP is another one than the preset's: {problem}")
        network.clip.load_state_dict(given)
    return network


def _spread_names(network: Network, config: TrainingConfig, sources: Sequence[Sequence[SampleSource]]) -> None:
    """With the names of one batch that holds everything, from each source of the first stage, in all templates."""
    namings = [
        each for source in sources[0] for each in source.namer.name(random.Random(config.seed), source.namer.ids)
    ]
    names = [name for naming in namings for name in naming.names]
    tokens = build_tokenizer(network.config)([t.replace("{}", name) for t in config.templates for name in names])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        spread_names(network, tokens)


def _validator(task: Task, model: ModelConfig, device: torch.device) -> Validator | None:
    validation = task.config.validation
    if validation is None:
        return None
    samples, vocabulary = open_validation(validation, model.image_size, task.storage)
    dtype: Dtype = task.config.precision if device.type == "cuda" else "float32"
    return Validator(samples, vocabulary, validation.every, dtype)


def _must_stop(folder: str, worker: Worker, device: torch.device, step: int) -> bool:
    """The first worker tells where they are and looks, and all do what it says: they must end at the same step."""
    if worker.rank == 0:
        tell_step(folder, step)
    asked = torch.tensor([worker.rank == 0 and is_asked_to_stop(folder)], dtype=torch.int32, device=device)
    if worker.n_workers > 1:
        distributed.broadcast(asked, 0)
    return bool(asked.item())


def _provenance(task: Task, network: Network) -> dict[str, Any]:
    """What the checkpoint says of its making."""
    config = task.config
    measured = [record for record in read_curves(task.folder) if any(name in record for name in SCORES)]
    scores = {name: measured[-1][name] for name in SCORES if name in measured[-1]} if measured else {}
    start: dict[str, Any] = {"preset": config.model.preset, "random_weights_of_seed": config.seed}
    new = {name.partition(".")[0] for name in network.state_dict() if network.NEW_PARTS.match(name)}
    untrained = tuple(sorted(new))
    source = config.model.checkpoint or config.model.clip_from
    if config.model.checkpoint is not None:
        start, untrained = {}, read_header(config.model.checkpoint).untrained_parts
    if any(stage.losses.segmentation for stage in config.stages):
        untrained = ()
    if source is not None:
        info = read_header(source)
        start |= {"clip_from" if config.model.clip_from else "checkpoint": os.path.basename(source)}
        start |= {"fingerprint": info.fingerprint}
        start |= {"provenance": {name: value for name, value in info.provenance.items() if name != UNTRAINED_PARTS}}
    return {
        "name": config.name,
        "description": config.description,
        "start": start,
        "recipe": task.recipe,
        "data": task.data,
        "steps": config.n_steps,
        "pictures_seen": sum(stage.steps * stage.batch_size for stage in config.stages),
        "scores": scores,
        UNTRAINED_PARTS: list(untrained),
    }
