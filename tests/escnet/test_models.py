import subprocess
import sys

import pytest
import torch

from escnet import models
from escnet.checkpoint import read_header, save_checkpoint
from escnet.config import PRESET_NAMES, preset_config
from escnet.models import PRESET_PARAMETERS, ResolvedModel, build_random, load_model, parameters_by_part, resolve_model
from schemas.errors import ModelError
from schemas.fingerprint import fingerprint
from tests.escnet.model_files import tiny_config


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(build_random(tiny_config()), path, {})
    return path


@pytest.fixture
def untrained(tmp_path):
    path = tmp_path / "start.safetensors"
    save_checkpoint(build_random(tiny_config()), path, {"untrained_parts": ["decoder"]})
    return path


@pytest.fixture
def no_weights_in_the_box(monkeypatch):
    monkeypatch.setattr(models, "bundled_weights", lambda _: None)


@pytest.fixture
def nano_in_the_box(tmp_path, monkeypatch):
    """The package as it is once trained weights of escnet-nano come with it."""
    (tmp_path / "weights").mkdir()
    save_checkpoint(build_random(preset_config("escnet-nano")), tmp_path / "weights" / "escnet-nano.safetensors", {})
    monkeypatch.setattr(models.resources, "files", lambda _: tmp_path)
    return tmp_path / "weights" / "escnet-nano.safetensors"


@pytest.mark.parametrize("name", PRESET_NAMES)
@pytest.mark.usefixtures("no_weights_in_the_box")
def test_a_preset_without_weights_is_refused_unless_random_ones_are_allowed(name):
    with pytest.raises(ModelError, match=rf"{name}: .*path of a trained checkpoint.*--allow-random-weights"):
        resolve_model(name)
    resolved = resolve_model(name, allow_random_weights=True)
    assert (resolved.name, resolved.config, resolved.path, resolved.is_random) == (
        name,
        preset_config(name),
        None,
        True,
    )
    assert len(resolved.fingerprint) == 32


@pytest.mark.usefixtures("no_weights_in_the_box")
def test_presets_with_random_weights_have_fingerprints_of_their_own():
    assert len({resolve_model(name, True).fingerprint for name in PRESET_NAMES}) == len(PRESET_NAMES)
    config = preset_config("escnet-nano")
    assert resolve_model("escnet-nano", True).fingerprint != fingerprint(config.model_dump(mode="json"))


@pytest.mark.parametrize("allow", [False, True])
def test_weights_in_the_box_are_used_whatever_the_flag(nano_in_the_box, allow):
    resolved = resolve_model("escnet-nano", allow)
    info = read_header(nano_in_the_box)
    assert resolved == ResolvedModel("escnet-nano", info.config, info.fingerprint, nano_in_the_box, is_random=False)


@pytest.mark.parametrize("allow", [False, True])
def test_a_checkpoint_is_used_whatever_the_flag(checkpoint, allow):
    info = read_header(checkpoint)
    expected = ResolvedModel("mine.safetensors", info.config, info.fingerprint, checkpoint, is_random=False)
    assert resolve_model(str(checkpoint), allow) == expected


def test_a_relative_path_is_resolved_for_workers_elsewhere(checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    assert resolve_model("mine.safetensors").path == checkpoint


def test_a_partly_untrained_checkpoint_counts_as_random(untrained):
    with pytest.raises(ModelError, match=r"untrained parts .*\(decoder\).*--allow-random-weights"):
        resolve_model(str(untrained))
    resolved = resolve_model(str(untrained), allow_random_weights=True)
    assert resolved.is_random
    assert resolved.path == untrained


@pytest.mark.parametrize("allow", [False, True])
def test_an_unknown_name_lists_the_presets(allow):
    with pytest.raises(ModelError, match=rf"escnet-b17: neither a preset \({', '.join(PRESET_NAMES)}\) nor"):
        resolve_model("escnet-b17", allow)


def test_loading_gives_the_network_that_was_resolved(checkpoint):
    network = load_model(resolve_model(str(checkpoint)))
    expected = build_random(tiny_config()).state_dict()
    assert not network.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def test_a_checkpoint_replaced_after_resolving_is_refused(checkpoint):
    resolved = resolve_model(str(checkpoint))
    save_checkpoint(build_random(tiny_config(temperature=2.0)), checkpoint, {}, overwrite=True)
    with pytest.raises(ModelError, match="the file was replaced"):
        load_model(resolved)


@pytest.mark.usefixtures("no_weights_in_the_box")
def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    resolved = resolve_model("escnet-nano", allow_random_weights=True)
    torch.manual_seed(1)
    expected_next = torch.rand(1)
    torch.manual_seed(1)
    first = load_model(resolved)
    assert torch.equal(torch.rand(1), expected_next)
    second = load_model(resolved)
    assert not first.training
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_the_parameters_written_down_are_the_networks(name):
    assert sum(parameters_by_part(preset_config(name)).values()) == PRESET_PARAMETERS[name]


def test_resolving_loads_no_torch(checkpoint):
    code = (
        "import sys; from escnet.models import resolve_model\n"
        "for name in sys.argv[1:]:\n    resolve_model(name, allow_random_weights=True)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "escnet-l14", "escnet-nano", str(checkpoint)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
