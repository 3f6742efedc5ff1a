import pytest
import torch
from click.testing import CliRunner

from escnet import models
from escnet.checkpoint import load_checkpoint, read_header, save_checkpoint
from escnet.models import build_random, resolve_model
from jobs.main import cli
from schemas.errors import ModelError, OutputError
from tests.escnet.catseg.official import tiny_config as cat_seg_config
from tests.escnet.model_files import (
    TINY_CLIP,
    clip_weights,
    register_tiny_clips,
    sam_weights,
    tiny_config,
    unregister_tiny_clips,
)


def run(*arguments) -> str:
    """Output of `escnet model ...`; an error it ends with is raised."""
    result = CliRunner().invoke(cli, ["model", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(build_random(tiny_config()), path, {"notes": "made by hand"})
    return path


@pytest.fixture
def official(tmp_path):
    """--clip, --clip-pretrained and --sam for files with random values."""
    register_tiny_clips(tmp_path)
    torch.save(clip_weights("tiny-clip"), tmp_path / "clip.pt")
    torch.save(sam_weights(), tmp_path / "sam.pth")
    yield ["--clip", "tiny-clip", "--clip-pretrained", tmp_path / "clip.pt", "--sam", tmp_path / "sam.pth"]
    unregister_tiny_clips()


def test_list_shows_every_preset_with_size_input_and_weights(monkeypatch):
    monkeypatch.setattr(models, "bundled_weights", lambda name: "here" if name == "escnet-nano" else None)
    lines = [line.split() for line in run("list").splitlines()]
    assert [line[:6] for line in lines[1:]] == [
        ["escnet-b16", "169.5", "M", "384", "x", "384"],
        ["escnet-l14", "448.9", "M", "336", "x", "336"],
        ["escnet-small", "10.9", "M", "256", "x", "256"],
        ["escnet-nano", "2.1", "M", "192", "x", "192"],
        ["cat-seg-b16", "154.6", "M", "384", "x", "384"],
        ["cat-seg-l14", "433.7", "M", "336", "x", "336"],
    ]
    made_by = [
        "`escnet train`",
        "`escnet train`",
        "`escnet train`",
        None,
        "`escnet model import`",
        "`escnet model import`",
    ]
    for line, command in zip(lines[1:], made_by, strict=True):
        assert " ".join(line[6:]).startswith("in the box" if command is None else f"none: {command}")


def test_show_describes_a_checkpoint(checkpoint):
    output = run("show", checkpoint)
    info = read_header(checkpoint)
    assert f"fingerprint   {info.fingerprint}\n" in output
    assert "trained       yes\n" in output
    assert "input         32 x 32 pixels, 4 x 4 patches of 8\n" in output
    assert "  notes: made by hand\n" in output
    assert "  temperature: 1.0\n" in output
    parts = output.partition("parameters")[2].partition("provenance")[0].splitlines()[1:]
    counted = sum(int(line.split()[0].replace(",", "")) for line in parts)
    assert counted == sum(p.numel() for p in build_random(tiny_config()).parameters())


def test_show_describes_a_preset_without_weights(monkeypatch):
    monkeypatch.setattr(models, "bundled_weights", lambda _: None)
    output = run("show", "escnet-b16")
    assert "weights       none in the box; random with --allow-random-weights\n" in output
    assert "trained       no, random numbers in: all\n" in output
    assert "  clip_arch: ViT-B-16-quickgelu\n" in output


def test_show_describes_a_checkpoint_in_a_bucket_as_the_file_it_is(checkpoint, s3, tmp_path, monkeypatch):
    uri = s3.put("models/mine.safetensors", checkpoint.read_bytes())
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    _, found = (run("show", uri, "--endpoint-url", s3.endpoint) for _ in range(2))  # the first says that it fetches
    size = f"{checkpoint.stat().st_size / 1e6:.1f} MB"
    of_file = run("show", checkpoint)
    expected = of_file.replace("model         mine.safetensors", f"model         {uri}").replace(str(checkpoint), uri)
    assert found == expected
    assert f"weights       {uri} ({size})\n" in found


def test_show_of_something_unknown_is_an_error():
    with pytest.raises(ModelError, match="nothing: neither a preset"):
        run("show", "nothing")


def test_import_writes_an_untrained_checkpoint_and_says_so(official, tmp_path):
    output = run("import", *official, "--image-size", 48, "--output", tmp_path / "out.safetensors")
    info = read_header(tmp_path / "out.safetensors")
    assert info.config.image_size == 48
    assert not info.is_trained
    assert f"fingerprint {info.fingerprint}" in output
    assert f"Untrained, to be trained before its labels mean anything: {', '.join(info.untrained_parts)}" in output
    assert f"trained       no, random numbers in: {', '.join(info.untrained_parts)}" in run(
        "show", tmp_path / "out.safetensors"
    )


@pytest.fixture
def small_cat_seg(official, monkeypatch):
    """The preset cat-seg-b16 with small widths on a small CLIP; and its command, without --output."""
    clip = {**TINY_CLIP, "quick_gelu": True}
    config = cat_seg_config(clip_arch="tiny-clip-quickgelu", clip=clip, image_size=48, tap_layers=(0, 1))
    monkeypatch.setattr("escnet.config.preset_config", lambda name: {"cat-seg-b16": config}[name])
    return config, ["import", "--preset", "cat-seg-b16", "--clip-pretrained", official[3]]


def test_import_of_a_start_for_cat_seg_has_clips_weights_and_says_what_is_untrained(small_cat_seg, tmp_path):
    config, command = small_cat_seg
    output = run(*command, "--output", tmp_path / "start.safetensors")
    info = read_header(tmp_path / "start.safetensors")
    assert info.config == config
    assert info.provenance["imported_from"]["clip"]["weights"] == "clip.pt"
    assert info.untrained_parts == (
        "decoder", "embed", "image_guidance", "layers", "text_guidance",
    )  # fmt: skip
    assert f"Untrained, to be trained before its labels mean anything: {', '.join(info.untrained_parts)}" in output
    ours, theirs = load_checkpoint(tmp_path / "start.safetensors"), torch.load(tmp_path / "clip.pt", weights_only=True)
    for name, tensor in theirs.items():
        if name != "visual.positional_embedding":  # of 4 x 4 patches there, of 6 x 6 here
            assert torch.equal(ours.clip.state_dict()[name], tensor), name
    assert torch.equal(ours.clip.visual.positional_embedding[0], theirs["visual.positional_embedding"][0])


def test_a_start_for_cat_seg_is_the_same_every_time_and_labels_nothing_yet(small_cat_seg, tmp_path):
    _, command = small_cat_seg
    for name in "ab":
        run(*command, "--output", tmp_path / f"{name}.safetensors")
    a, b = (read_header(tmp_path / f"{name}.safetensors").fingerprint for name in "ab")
    assert a == b
    with pytest.raises(ModelError, match=r"a\.safetensors: untrained parts hold random numbers \(decoder, embed, "):
        resolve_model(str(tmp_path / "a.safetensors"))


def test_a_start_for_cat_seg_needs_a_clip_that_fits(small_cat_seg, tmp_path):
    _, command = small_cat_seg
    weights = clip_weights("tiny-clip")
    del weights["text_projection"]
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(ModelError, match=r"clip\.pt: .*text_projection"):
        run(*command, "--output", tmp_path / "start.safetensors")
    assert not (tmp_path / "start.safetensors").exists()


def test_import_refuses_an_existing_output_before_it_reads_anything(checkpoint, tmp_path):
    arguments = ["--preset", "escnet-b16", "--sam", tmp_path / "none.pth", "--output", checkpoint]
    with pytest.raises(OutputError, match="exists already"):
        run("import", *arguments)
    with pytest.raises(ModelError, match=r"none\.pth: no such file"):
        run("import", *arguments, "--overwrite")


def test_import_overwrites_when_told(official, checkpoint):
    run("import", *official, "--image-size", 32, "--output", checkpoint, "--overwrite")
    assert not read_header(checkpoint).is_trained


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --cat-seg, --preset and --clip"),
        (["--preset", "escnet-b16", "--clip", "ViT-B-16"], "give one of --cat-seg, --preset and --clip"),
        (["--preset", "escnet-b16", "--cat-seg", "model_base.pth"], "give one of --cat-seg, --preset and --clip"),
        (["--preset", "escnet-b16", "--arch", "ViT-B/16"], "--arch goes with --cat-seg"),
        (["--cat-seg", "model_base.pth"], "--sam has no effect on a CAT-Seg that is trained"),
        (["--preset", "cat-seg-b16"], "--sam has no effect on a CAT-Seg"),
        (["--clip", "ViT-B-16"], "--clip needs --clip-pretrained"),
    ],
)
def test_import_needs_one_clip(arguments, message, tmp_path):
    result = CliRunner().invoke(cli, ["model", "import", *arguments, "--sam", "x", "--output", str(tmp_path / "y")])
    assert result.exit_code == 2
    assert message in result.output


def test_import_of_the_small_preset_is_refused(tmp_path):
    with pytest.raises(ModelError, match="nothing to import"):
        run("import", "--preset", "escnet-nano", "--sam", "x", "--output", tmp_path / "y.safetensors")
