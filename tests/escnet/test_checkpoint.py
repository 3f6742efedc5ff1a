import json
import os
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from escnet.checkpoint import fingerprint_of, load_checkpoint, read_header, save_checkpoint
from escnet.checkpoint_header import FORMAT
from escnet.config import preset_config
from escnet.models import build_random
from schemas.errors import ModelError, OutputError
from schemas.fingerprint import canonical_json
from tests.escnet.model_files import tiny_config


@pytest.fixture(scope="module")
def network():
    return build_random(tiny_config()).eval()


@pytest.fixture
def checkpoint(network, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(network, path, {})
    return path


def rewrite(path, change_tensors=lambda t: t, **metadata):
    """Write the checkpoint anew with other tensors or metadata, as a foreign tool could."""
    info = read_header(path)
    kept = {
        "format": FORMAT,
        "config": info.config_json,
        "fingerprint": info.fingerprint,
        "provenance": canonical_json(info.provenance),
    }
    kept = {key: value for key, value in {**kept, **metadata}.items() if value is not None}
    save_file(change_tensors(load_file(path)), path, kept)


@pytest.mark.parametrize("config", [tiny_config(), preset_config("escnet-nano")], ids=["tiny", "nano"])
def test_a_loaded_network_computes_what_the_saved_one_did(config, tmp_path):
    network = build_random(config).eval()
    save_checkpoint(network, tmp_path / "a.safetensors", {})
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, config.image_size, config.image_size, generator=generator)
    words = torch.randn(3, config.clip["embed_dim"], generator=generator)
    with torch.no_grad():
        assert torch.equal(network(pixels, words), loaded(pixels, words))
    assert loaded.config == config
    assert not loaded.training


def test_loading_restores_stored_tensors_computed_buffers_and_what_is_frozen(network, checkpoint):
    loaded = load_checkpoint(checkpoint)
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in network.named_parameters()
    }
    ours, theirs = dict(network.named_buffers()), dict(loaded.named_buffers())
    assert set(ours) - set(network.state_dict())  # some are computed, not stored: the ones a cheap build gets wrong
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


def test_a_loaded_network_does_not_hang_on_the_file(network, checkpoint):
    loaded = load_checkpoint(checkpoint)
    with checkpoint.open("r+b") as file:
        file.truncate(100)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_the_header_tells_all_without_reading_weights(network, checkpoint):
    info = read_header(checkpoint)
    assert info.config == network.config
    assert info.fingerprint == fingerprint_of(network.state_dict(), network.config)
    assert info.n_parameters == sum(tensor.numel() for tensor in network.state_dict().values())
    assert info.size_bytes == checkpoint.stat().st_size
    assert info.is_trained


def test_untrained_parts_make_a_checkpoint_untrained(network, tmp_path):
    info = save_checkpoint(network, tmp_path / "a.safetensors", {"untrained_parts": ["decoder"], "notes": "é"})
    assert info.provenance == {"untrained_parts": ["decoder"], "notes": "é"}
    assert not info.is_trained
    assert info.untrained_parts == ("decoder",)


def test_one_bit_one_name_or_one_setting_changes_the_fingerprint(network):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    before = fingerprint_of(state, network.config)
    assert len(before) == 32
    assert before == fingerprint_of(dict(reversed(state.items())), network.config)

    assert before != fingerprint_of(state, tiny_config(temperature=2.0))
    name = "clip.visual.ln_post.weight"
    renamed = {("other" if key == name else key): tensor for key, tensor in state.items()}
    assert before != fingerprint_of(renamed, network.config)
    assert before != fingerprint_of({**state, name: state[name].half()}, network.config)
    assert before != fingerprint_of({**state, name: state[name][None]}, network.config)
    state[name].view(torch.uint8)[0] ^= 1
    assert before != fingerprint_of(state, network.config)


@pytest.mark.parametrize("where", [-1, -1000])
def test_a_flipped_byte_is_found(checkpoint, where):
    content = bytearray(checkpoint.read_bytes())
    content[where] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ModelError, match=r"tiny\.safetensors: the content does not match its fingerprint"):
        load_checkpoint(checkpoint)


def test_a_changed_setting_is_found(checkpoint):
    rewrite(checkpoint, config=canonical_json(tiny_config(temperature=2.0).model_dump(mode="json")))
    with pytest.raises(ModelError, match="does not match its fingerprint"):
        load_checkpoint(checkpoint)


def test_a_setting_added_to_the_program_later_leaves_old_checkpoints_valid(network, checkpoint):
    """An old file lacks the new key; its fingerprint covers the text it has."""
    import hashlib

    from escnet.checkpoint import _add_tensor

    old_config = network.config.model_dump(mode="json")
    del old_config["temperature"]
    digest = hashlib.sha256(canonical_json(old_config).encode())
    for name in sorted(network.state_dict()):
        _add_tensor(digest, name, network.state_dict()[name])
    rewrite(checkpoint, config=canonical_json(old_config), fingerprint=digest.hexdigest()[:32])
    assert load_checkpoint(checkpoint).config.temperature == 1.0


def without(name):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("clip.visual.proj"), "missing clip.visual.proj"),
        (lambda t: {**t, "extra.weight": torch.ones(2)}, "surplus extra.weight"),
        (
            lambda t: {**t, "clip.visual.proj": torch.ones(31, 32)},
            "different clip.visual.proj is 31 x 32 F32, expected 32 x 32 F32",
        ),
        (lambda t: {**t, "clip.logit_scale": torch.ones((), dtype=torch.float64)}, "is one number F64"),
        (lambda _: {f"x.{i}": torch.ones(1) for i in range(5)}, "surplus x.0, x.1, x.2 and 2 more"),
    ],
    ids=["missing", "surplus", "shape", "type", "many"],
)
def test_weights_that_do_not_fit_are_refused_by_name(checkpoint, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(ModelError, match="do not fit") as caught:
        load_checkpoint(checkpoint)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "escnet-checkpoint/2"}, "format 'escnet-checkpoint/2', expected 'escnet-checkpoint/1'"),
        ({"format": None}, "without an ESC-Net configuration"),
        ({"config": None}, "lacks 'config'"),
        ({"fingerprint": None}, "lacks 'fingerprint'"),
        ({"provenance": None}, "lacks 'provenance'"),
        ({"provenance": "["}, "configuration or provenance is no JSON"),
        ({"provenance": "[]"}, "provenance is no JSON object"),
        ({"config": "{}"}, "its configuration is not one this version can use: clip_arch: Field required"),
        ({"config": "nonsense"}, "configuration or provenance is no JSON"),
        ({"config": "[]"}, "the whole: Input should be a valid dictionary"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(checkpoint, metadata, message):
    rewrite(checkpoint, **metadata)
    with pytest.raises(ModelError) as caught:
        read_header(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_blocks": 0}, "n_blocks: Input should be greater than or equal to 1, found 0"),
        ({"sam": {"embed_dim": 10, "num_heads": 4}}, "sam.embed_dim 10 must be a multiple of"),
        ({"wings": 2}, "wings: Extra inputs are not permitted"),
        ({"clip": {"vision_cfg": 3}}, "no integer layers"),
    ],
)
def test_a_setting_that_cannot_run_is_one_line_with_the_file(checkpoint, changes, message):
    config = json.loads(read_header(checkpoint).config_json)
    rewrite(checkpoint, config=json.dumps(config | changes))
    with pytest.raises(ModelError) as caught:
        read_header(checkpoint)
    assert str(caught.value).startswith(f"{checkpoint}: its configuration is not one this version can use: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "clip",
    [
        {**tiny_config().clip, "vision_cfg": {"layers": 2, "width": 32, "patch_size": 8, "nonsense": 1}},
        {**tiny_config().clip, "text_cfg": {"mlp_ratio": "wide"}},
    ],
)
def test_a_configuration_that_builds_nothing_is_one_line(checkpoint, clip):
    config = json.loads(read_header(checkpoint).config_json)
    rewrite(checkpoint, config=json.dumps({**config, "clip": clip, "tap_layers": [0, 0]}))
    with pytest.raises(ModelError, match="describes no network we can build") as caught:
        load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[:-3], "cut short"),
        (lambda data: data[:20], "cut short"),
        (lambda _: b"", "cut short"),
        (lambda _: b"just text, a few words of it", "no safetensors file"),
        (lambda _: b"PK\x03\x04 and so on", "a PyTorch file"),
        (lambda _: b"\x80\x02 and so on", "a PyTorch file"),
    ],
)
def test_files_of_other_kinds_are_refused(checkpoint, content, message):
    checkpoint.write_bytes(content(checkpoint.read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(network, tmp_path):
    """The file begins with the header's length, and safetensors pads it to a multiple of 8: 0x80 is one of 32."""
    for filling in range(0, 512, 4):
        path = tmp_path / f"{filling}.safetensors"
        save_checkpoint(network, path, {"note": "x" * filling})
        if path.read_bytes()[0] == 0x80:
            assert read_header(path).provenance == {"note": "x" * filling}
            return
    raise AssertionError("no header had the length looked for")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="a folder"):
        read_header(tmp_path)


def test_an_existing_file_is_replaced_only_when_told(network, checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        save_checkpoint(network, checkpoint, {"notes": "new"})
    assert checkpoint.read_bytes() == before
    save_checkpoint(network, checkpoint, {"notes": "new"}, overwrite=True)
    assert read_header(checkpoint).provenance == {"notes": "new"}


def test_a_failed_save_leaves_the_old_file_and_no_other(network, checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(network, checkpoint, {}, overwrite=True)
    assert checkpoint.read_bytes() == before
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


def test_a_checkpoint_has_the_mode_of_any_new_file(checkpoint):
    other = checkpoint.parent / "other"
    other.touch()
    assert stat.S_IMODE(checkpoint.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_missing_folder_is_said(network, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        save_checkpoint(network, tmp_path / "none" / "a.safetensors", {})


def test_a_file_replaced_since_it_was_resolved_is_refused(checkpoint):
    assert load_checkpoint(checkpoint, expected_fingerprint=read_header(checkpoint).fingerprint)
    with pytest.raises(ModelError, match="the file was replaced"):
        load_checkpoint(checkpoint, expected_fingerprint="0" * 32)
