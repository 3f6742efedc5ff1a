"""A training run from a recipe to a checkpoint, on Ray Train: one process or many, on CPUs or GPUs.

The driver checks everything that can be checked first, starts the workers, and shows what they write into the run's
folder. Started again after a stop, of any kind, a run goes on from its last state.
"""

import importlib.util
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from escnet.checkpoint_header import read_header
from pipeline.actors.placement import Node, ray_cluster, this_machine
from pipeline.output import storing
from pipeline.signals import Wishes, answered, stop_error
from pipeline.storage import StorageOptions
from pipeline.storage.lock import lock_output
from pipeline.training import run_folder
from pipeline.training.config import TrainingConfig
from pipeline.training.config_file import model_config
from pipeline.training.curves import SCORES, Record, read_curves
from pipeline.training.identity import describe_data, identity_of, with_absolute_places
from pipeline.training.progress import TrainingProgress
from pipeline.training.sources import CroppedPictures, open_sources, open_validation
from pipeline.training.task import Task
from pipeline.training.worker import run_worker
from pipeline.training.workers import Workers, check_batches, fit_workers, room_for
from schemas.errors import InputError, JobFailedError

MAX_FAILURES = 3  # times that dead workers are replaced
_LOOK_EVERY_S = 0.3
_GROUP_TIMEOUT_S = 12 * 3600  # that workers wait for the first one while it measures
_NEEDED = ("matplotlib", "pandas", "tensorboardX")  # Ray Train wants the last two


@dataclass(frozen=True)
class TrainingReport:
    """What became of a run. `scores` are the last ones measured, by name, in [0, 1]."""

    folder: str
    checkpoint: str
    fingerprint: str
    n_steps: int
    n_steps_before: int
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)


def train(
    config: TrainingConfig,
    output: str,
    *,
    workers: Workers | None = None,
    storage: StorageOptions | None = None,
    overwrite: bool = False,
) -> TrainingReport:
    """Train, or go on training, to the end of a recipe; does nothing if it is reached.

    Args:
        output: a local folder; on a cluster, one that all its machines share.
        storage: how to reach data in object storage.
        overwrite: do away with a run in the folder, finished or not.

    Raises:
        InputError: data, a model, an output or a placement that cannot be used.
        StoppedError: by Ctrl-C; a state was saved.
        JobFailedError: by SIGTERM or SIGHUP, a state was saved; or workers died again and again. The same call goes on
            from the last state.
    """
    started = time.monotonic()
    _check_installed()
    workers, storage = workers or Workers(), storage or StorageOptions()
    folder = run_folder.run_folder_path(output)
    placed = with_absolute_places(config, storage)
    model = model_config(placed.model)
    sources = open_sources(placed, model, storage, unpacks=False)
    _try_data(placed, sources, model.image_size, storage)
    identity = identity_of(placed, model, sources)
    with ExitStack() as stack:
        with storing(folder):
            stack.enter_context(lock_output(folder, StorageOptions()))
        stack.callback(run_folder.forget_messages, folder)
        if not overwrite and run_folder.is_finished(folder, config, identity):
            return _report(folder, config, config.n_steps, started)
        nodes = this_machine() if workers.address is None else stack.enter_context(ray_cluster(workers.address))
        fitted = fit_workers(workers, nodes)
        check_batches(config, fitted)
        step = run_folder.begin(folder, config, identity, overwrite=overwrite)
        task = Task(
            config=placed,
            recipe=config.model_dump(mode="json", exclude={"name", "description"}),
            data=describe_data(config, sources),
            folder=folder,
            identity=identity,
            storage=storage,
            uses_gpu=fitted.device == "cuda",
            n_threads=fitted.cpus or 1,
            n_loader_processes=fitted.loader_processes or 0,
        )
        if workers.address is None:
            stack.enter_context(ray_cluster(None))
        _run(task, fitted, nodes, step)
    return _report(folder, config, step, started)


def _report(folder: str, config: TrainingConfig, n_steps_before: int, started: float) -> TrainingReport:
    """Of a run whose network is there."""
    path = run_folder.checkpoint_path(folder, config)
    measured: list[Record] = [record for record in read_curves(folder) if any(name in record for name in SCORES)]
    scores = {name: float(measured[-1][name]) for name in SCORES if measured and name in measured[-1]}
    seconds = time.monotonic() - started
    return TrainingReport(folder, path, read_header(path).fingerprint, config.n_steps, n_steps_before, seconds, scores)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"training needs {', '.join(missing)}, not installed here; pip install 'escnet-pipeline[train]'"
        )


def _try_data(config: TrainingConfig, sources: Sequence[Sequence[Any]], side_px: int, storage: StorageOptions) -> None:
    """Read one picture and mask of each manifest, and look into the validation set, before anything is started."""
    opened = [each.pictures for row in sources for each in row if isinstance(each, CroppedPictures)]
    for data, pictures in zip([d for s in config.stages for d in s.data if not d.demo_world], opened, strict=True):
        if data.manifest is not None:
            pictures.read(0)
    if config.validation is not None and config.validation.data.demo_world is None:
        samples, _ = open_validation(config.validation, side_px, storage, unpacks=False)
        if config.validation.data.manifest is not None:
            samples[0]


def _run(task: Task, workers: Workers, nodes: Sequence[Node], step: int) -> None:
    """Start Ray Train and watch it to its end."""
    stops: list[int] = []
    wishes = Wishes()
    ended: dict[str, BaseException] = {}

    def fit() -> None:
        try:
            _trainer(task, workers).fit()
        except BaseException as error:  # handed to the thread that waits
            ended["error"] = error

    def note(number: int) -> None:
        if wishes.is_new():
            stops.append(number)

    with TrainingProgress(task.folder, task.config.n_steps, step) as progress, answered(note):
        progress.say(_start_line(task, workers, nodes, step))
        for path in _states(task).damaged():
            progress.say(f"{path}: is damaged and passed over; the state before it is whole")
        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        _watch(task, thread, progress, stops)
    if stops and not os.path.exists(run_folder.checkpoint_path(task.folder, task.config)):
        kept = _states(task).latest_step()
        line = (
            f"stopped; {kept:,} of {task.config.n_steps:,} steps are done and kept, the same command goes on from there"
        )
        raise stop_error(stops, line)
    if "error" in ended:
        raise JobFailedError(
            f"training failed after step {_states(task).latest_step():,} ({_reason(ended['error'])}); "
            "the same command goes on from there"
        ) from ended["error"]


def _watch(task: Task, thread: threading.Thread, progress: TrainingProgress, stops: list[int]) -> None:
    """Until the run ends: show progress, pass on the wish to stop. A second wish, or an error, does not wait.

    Raises:
        EscnetError: the one that a worker left.
    """
    n_heard = 0
    while thread.is_alive():
        thread.join(_LOOK_EVERY_S)
        progress.look()
        failure = run_folder.found_failure(task.folder)
        if failure is not None:
            raise failure
        if len(stops) > n_heard:
            n_heard = len(stops)
            if n_heard > 1:
                return
            run_folder.ask_to_stop(task.folder)
            progress.say("stopping: a state is being saved; once more stops at once, at the last state")
    progress.look(is_last=True)


def _start_line(task: Task, workers: Workers, nodes: Sequence[Node], step: int) -> str:
    at = f" on {workers.address}" if workers.address else ""
    each = "a GPU" if workers.device == "cuda" else f"{workers.cpus} CPU core{'s' if workers.cpus != 1 else ''}"
    who = f"{workers.n} worker{'s' if workers.n != 1 else ''} with {each} each{at}"
    waits = "; waiting until the cluster has room for all" if room_for(workers, nodes) < (workers.n or 1) else ""
    begun = f"going on from step {step:,} of" if step else "training"
    return f"{task.config.name}: {begun} {task.config.n_steps:,} steps, {task.config.precision}, {who}{waits}"


def _trainer(task: Task, workers: Workers) -> Any:
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # a worker stays where the driver is
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    uses_gpu = workers.device == "cuda"
    resources = {"CPU": float(workers.cpus or 1), "GPU": float(uses_gpu)}
    return TorchTrainer(
        run_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if uses_gpu else "gloo", timeout_s=_GROUP_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=workers.n or 1, use_gpu=uses_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name="run",
            storage_path=os.path.join(task.folder, run_folder.RAY_FOLDER),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _states(task: Task) -> Any:
    from pipeline.training.checkpoints import Checkpoints

    return Checkpoints(task.folder, task.identity)


def _reason(error: BaseException) -> str:
    """The last line of what the first failed worker said."""
    failures = getattr(error, "worker_failures", {})
    first = failures[min(failures)] if failures else error
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(first).__name__
