"""`escnet train` on Ray Train: stopped, killed and gone on with; two workers; then labelled with."""

import os
import re
import signal
import subprocess
import time
from itertools import count

import psutil
import pytest
import torch
import yaml

from escnet.checkpoint import load_checkpoint, save_checkpoint
from escnet.checkpoint_header import read_header
from pipeline.actors.placement import local_cpus
from pipeline.storage import StorageOptions
from pipeline.training.config_file import model_config, read_config
from pipeline.training.curves import read_curves
from pipeline.training.loop import Hooks, Trainer
from pipeline.training.run_folder import is_asked_to_stop, told_step
from pipeline.training.sources import open_sources
from pipeline.training.worker import start_network
from tests.e2e.command import ESCNET, escnet
from tests.e2e.picture_server import picture_server
from tests.e2e.terminal import in_terminal
from tests.escnet.tiny import tiny_network
from tests.pipeline.training.pictures_of import write_pictures

N_STEPS = 24
PICTURES_A_STEP = 4
ONE_CORE = ("--device", "cpu", "--cpus-per-worker", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def server(folder):
    """Gives the pictures."""
    with picture_server(folder / "pictures") as server:
        yield server


def hold_after(server, n_steps: int) -> None:
    """Give pictures for so many steps from now on, and no more."""
    asked = count(1)
    server.hold(lambda _: next(asked) > n_steps * PICTURES_A_STEP)


@pytest.fixture(scope="module")
def recipe(folder, server):
    """A recipe of a few seconds that writes a state at every third step."""
    manifest = write_pictures(folder)
    manifest.write_text(manifest.read_text().replace("pictures/", f"{server.address}/"))
    data = {"manifest": str(manifest), "vocabulary": str(folder / "words.txt"), "split": "train"}
    start = tiny_network(n_blocks=2, trained_tokens=(320, 530))
    save_checkpoint(start, folder / "start.safetensors", {"untrained_parts": ["decoder"]})
    stage = {"name": "one", "steps": N_STEPS, "data": [data], "learning_rate": 2e-3, "warmup_steps": 2}
    values = {
        "name": "tiny",
        "model": {"checkpoint": str(folder / "start.safetensors")},
        "trainable": "all",
        "precision": "float32",
        "ema_decay": 0.9,
        "checkpoint_every": 3,
        "log_every": 2,
        "validation": {"data": {**data, "split": "val"}, "every": 12},
        "stages": [stage | {"batch_size": PICTURES_A_STEP, "micro_batch_size": 2}],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def undisturbed(recipe):
    """Losses by step, and the weights, of the same run in this process."""
    torch.set_num_threads(1)
    config = read_config(str(recipe))
    model = model_config(config.model)
    sources = open_sources(config, model, StorageOptions())
    one = Trainer(config, start_network(config, model), sources, device=torch.device("cpu"))
    losses = {}
    one.run(Hooks(lambda record: losses.update({record["step"]: record["loss"]}), lambda *_: None))
    return losses, {name: tensor.clone() for name, tensor in one.trained.state_dict().items()}


def losses_of(output):
    return {record["step"]: record["loss"] for record in read_curves(str(output)) if "loss" in record}


def begin(recipe, output, *more, **options) -> subprocess.Popen:
    command = list(map(str, [ESCNET, "train", recipe, "--output", output, *more]))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def newest_state(output) -> int:
    return max((int(path.stem[-9:]) for path in (output / "checkpoints").glob("step-*.pt")), default=0)


def wait_for_state(output, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        if newest_state(output) >= step:
            return
        time.sleep(0.05)
    pytest.fail(f"no state of step {step}")


def let_go_when_it_stops(server, output, process: subprocess.Popen) -> None:
    """Let a held run that was given a signal go on, once its workers will see that they are to stop."""
    while process.poll() is None and not is_asked_to_stop(str(output)):
        time.sleep(0.05)
    server.let_go()


def assert_kept_where_it_stopped(said: str, output) -> None:
    """The newest state is that of the step that was said, and the curve, a line every two steps, goes no further."""
    kept = int(re.search(rf"stopped; (\d+) of {N_STEPS} steps are done and kept, the same command goes on", said)[1])
    assert newest_state(output) == kept
    assert max(losses_of(output)) == kept - kept % 2


def training_processes(driver: subprocess.Popen) -> list[psutil.Process]:
    """Ray Train's workers and their loader processes."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if "RayTrainWorker" in "".join(child.cmdline())]


def test_a_run_that_is_killed_ends_as_if_it_had_not_been(recipe, server, undisturbed, tmp_path):
    output = tmp_path / "run"
    hold_after(server, 8)  # some of them are read ahead
    process = begin(recipe, output, *ONE_CORE)
    wait_for_state(output, 3, process)
    assert told_step(str(output)) >= 3
    process.send_signal(signal.SIGINT)
    let_go_when_it_stops(server, output, process)
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 130, said
    assert_kept_where_it_stopped(said, output)

    hold_after(server, 9)
    process = begin(recipe, output, *ONE_CORE)
    wait_for_state(output, newest_state(output) + 1, process)
    workers = training_processes(process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=500)
    assert len(workers) >= 1
    assert psutil.wait_procs(workers, timeout=100)[1] == []  # none goes on without its driver
    server.let_go()

    done = escnet("train", recipe, "--output", output, *ONE_CORE)
    assert "tiny: going on from step " in done.stderr
    losses, weights = undisturbed
    assert losses_of(output) == losses
    found = load_checkpoint(output / "tiny.safetensors").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert sorted(path.name for path in output.iterdir() if path.name != ".lock") == [
        "checkpoints", "curves.csv", "curves.png", "tiny.safetensors", "training.json",
    ]  # fmt: skip
    said = escnet("model", "show", output / "tiny.safetensors").stdout
    assert "trained       yes" in said
    again = escnet("train", recipe, "--output", output, *ONE_CORE).stdout
    assert f"{N_STEPS} steps, all of them before: nothing is left to do" in again
    assert f"fingerprint {read_header(output / 'tiny.safetensors').fingerprint}" in again
    pictures = recipe.parent / "pictures"
    trained = ("--model", output / "tiny.safetensors", "--vocabulary", recipe.parent / "words.txt")
    escnet("annotate", pictures, *trained, "--output", tmp_path / "labels", "--actors", 1)


@pytest.mark.skipif(local_cpus() < 2, reason="needs a core for each of two workers")
def test_two_workers_take_the_same_way_though_one_dies_until_they_are_stopped(recipe, server, undisturbed, tmp_path):
    output = tmp_path / "run"
    hold_after(server, 8)
    process = begin(recipe, output, "--device", "cpu", "--cpus-per-worker", 1, "--workers", 2, start_new_session=True)
    wait_for_state(output, 3, process)
    named = training_processes(process)
    _, second = (child for child in named if child.parent() not in named)  # without their loader processes
    second.kill()
    hold_after(server, 15)
    wait_for_state(output, 9, process)
    process.send_signal(signal.SIGTERM)  # to it, and then to its whole group, as `timeout` does
    os.killpg(process.pid, signal.SIGTERM)
    let_go_when_it_stops(server, output, process)
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 1, said
    assert "stopping: a state is being saved" in said
    assert_kept_where_it_stopped(said, output)
    losses, found = undisturbed[0], losses_of(output)
    assert list(found) == list(losses)[: len(found)]
    assert list(found.values()) == pytest.approx(list(losses.values())[: len(found)], rel=0.02)


def test_a_terminal_that_is_closed_stops_a_run_with_a_state(recipe, server, tmp_path):
    output = tmp_path / "run"
    hold_after(server, 8)
    with in_terminal([str(ESCNET), "train", str(recipe), "--output", str(output), *map(str, ONE_CORE)]) as opened:
        process, terminal = opened
        wait_for_state(output, 3, process)
        os.close(terminal)
        let_go_when_it_stops(server, output, process)
        assert process.wait(timeout=500) == 1
    assert 0 <= newest_state(output) - max(losses_of(output)) <= 1  # of the step at hand: a loss every second step
    assert not (output / "tiny.safetensors").exists()
