import io
import os
import pickle
import random
import zipfile

import open_clip
import pytest
import torch
from open_clip import pretrained
from safetensors.torch import save_file

from escnet.checkpoint import fingerprint_of, load_checkpoint, save_checkpoint
from escnet.config import preset_config
from escnet.importing import clip_of_preset, config_for_clip, import_escnet
from escnet.models import build_random
from escnet.weight_files import read_weights
from schemas.errors import ModelError
from tests.escnet.model_files import clip_weights, register_tiny_clips, sam_weights, unregister_tiny_clips

ARCH = "tiny-clip-quickgelu"
SIZE = 48  # the tiny CLIP was made for 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A CLIP file and a SAM file in their official layouts."""
    folder = tmp_path_factory.mktemp("official")
    register_tiny_clips(folder)
    torch.manual_seed(7)
    torch.save({"state_dict": clip_weights(ARCH), "epoch": 3}, folder / "clip.pt")
    torch.save(sam_weights(), folder / "sam_vit_b.pth")
    yield folder
    unregister_tiny_clips()


@pytest.fixture(scope="module")
def imported(files):
    return import_escnet(
        clip=ARCH, clip_pretrained=str(files / "clip.pt"), sam=files / "sam_vit_b.pth", image_size=SIZE
    )


def import_with(files, **changes):
    arguments = {"clip": ARCH, "clip_pretrained": str(files / "clip.pt"), "sam": files / "sam_vit_b.pth"}
    return import_escnet(**{**arguments, "image_size": SIZE, **changes})


def test_clip_is_what_open_clip_loads_itself(files, imported):
    """Position embeddings from 4 x 4 to 6 x 6 included."""
    network, _ = imported
    theirs = open_clip.create_model(ARCH, pretrained=str(files / "clip.pt"), force_image_size=SIZE)
    ours = network.clip.state_dict()
    assert ours["visual.positional_embedding"].shape == (6 * 6 + 1, 32)
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.state_dict().items())


def test_position_embeddings_go_from_224_to_384_pixels_at_full_size(files, tmp_path):
    """ViT-B/16 in half precision as OpenAI stores it; each tensor is one number repeated, so the file stays small."""
    arch = "ViT-B-16-quickgelu"
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in open_clip.CLIP(**open_clip.get_model_config(arch)).state_dict().items()}
    weights = {name: torch.tensor(0.01).half().expand(shape) for name, shape in shapes.items()}
    weights["visual.positional_embedding"] = torch.randn(14 * 14 + 1, 768).half()
    torch.save(weights, tmp_path / "ViT-B-16.pt")
    network, _ = import_escnet(clip=arch, clip_pretrained=str(tmp_path / "ViT-B-16.pt"), sam=files / "sam_vit_b.pth")
    positions = network.clip.visual.positional_embedding
    assert network.config == preset_config("escnet-b16")
    assert positions.dtype == torch.float32
    before, after = weights["visual.positional_embedding"].float(), positions.detach()
    assert torch.equal(after[0], before[0])
    grid = before[1:].T.reshape(1, 768, 14, 14)
    expected = torch.nn.functional.interpolate(grid, size=(24, 24), mode="bicubic", antialias=True)
    torch.testing.assert_close(after[1:], expected.flatten(2)[0].T)


def test_every_block_has_a_copy_of_its_own_of_sams_weights(files, imported):
    network, _ = imported
    sam = torch.load(files / "sam_vit_b.pth", weights_only=True)
    for name, tensor in network.prompt_encoder.state_dict().items():
        assert torch.equal(tensor, sam[f"prompt_encoder.{name}"]), name
    names = [name.removeprefix("mask_decoder.") for name in sam if name.startswith("mask_decoder.transformer.")]
    names += ["iou_token.weight", "mask_tokens.weight"]
    assert len(network.blocks) == 4
    for block in network.blocks:
        state = block.sam.state_dict()
        assert all(torch.equal(state[name], sam[f"mask_decoder.{name}"]) for name in names)
    for name in names:
        assert len({block.sam.state_dict()[name].data_ptr() for block in network.blocks}) == 4, name


def test_provenance_names_sources_and_everything_untrained(imported):
    network, provenance = imported
    assert provenance["imported_from"]["clip"]["architecture"] == ARCH
    assert provenance["imported_from"]["clip"]["weights"] == "clip.pt"
    assert provenance["imported_from"]["sam"]["weights"] == "sam_vit_b.pth"
    assert all(len(source["sha256"]) == 64 for source in provenance["imported_from"].values())
    assert provenance["untrained_parts"] == [
        "blocks.*.fuse",
        "blocks.*.sam.image_projection",
        "blocks.*.to_correlation",
        "blocks.*.vlf",
        "decoder",
    ]
    filled = ("clip", "prompt_encoder", "transformer", "iou_token", "mask_tokens")
    for name, tensor in build_random(network.config).state_dict().items():
        if not any(part in filled for part in name.split(".")):
            assert torch.equal(network.state_dict()[name], tensor), name


def test_an_import_is_repeatable_and_its_checkpoint_untrained(files, imported, tmp_path):
    network, provenance = imported
    again, _ = import_with(files)
    assert fingerprint_of(again.state_dict(), again.config) == fingerprint_of(network.state_dict(), network.config)
    info = save_checkpoint(network, tmp_path / "start.safetensors", provenance)
    assert not info.is_trained
    loaded = load_checkpoint(tmp_path / "start.safetensors").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


def save_safetensors(weights, path):
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("clip.safetensors", save_safetensors),
        ("clip.bin", torch.save),
        ("clip.pth", lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False)),
        ("clip.pt", lambda weights, path: torch.save({f"module.{k}": v for k, v in weights.items()}, path)),
        ("misnamed.pt", save_safetensors),
    ],
    ids=["safetensors", "zip", "legacy pickle", "module prefix", "safetensors called pt"],
)
def test_all_common_ways_to_keep_weights_give_the_same_network(files, imported, tmp_path, name, write):
    write(read_weights(files / "clip.pt"), tmp_path / name)
    network, _ = import_with(files, clip_pretrained=str(tmp_path / name))
    assert fingerprint_of(network.state_dict(), network.config) == fingerprint_of(
        imported[0].state_dict(), imported[0].config
    )


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("which", ["clip_pretrained", "sam"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(files, tmp_path, which, zipped):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    torch.save({"a": RunsCode(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"evil\.pt: .* could run code; refused") as caught:
        import_with(files, **{which: str(path)})
    assert not marker.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_torchscript_archive_is_named_as_what_it_is(files, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-16.pt"))
    with pytest.raises(ModelError, match=r"a TorchScript archive .*docs/models\.md"):
        import_with(files, clip_pretrained=str(tmp_path / "ViT-B-16.pt"))


def zip_without_weights() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "no weights here")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[:-200], "damaged"),
        (lambda _: b"", "neither safetensors nor a PyTorch file"),
        (lambda _: b"<html>404</html>", "neither safetensors nor a PyTorch file"),
        (lambda _: b"\x80\x02garbage", "damaged"),
        (lambda _: zip_without_weights(), "damaged"),
        (lambda _: pickle.dumps({"a": 1}, protocol=2), "damaged"),
        (lambda _: (8).to_bytes(8, "little") + b"{garbage", "damaged"),
    ],
)
def test_damaged_files_are_one_line(files, tmp_path, content, message):
    path = tmp_path / "sam.pth"
    path.write_bytes(content((files / "sam_vit_b.pth").read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes_give_weights_or_one_clear_error(tmp_path, zipped):
    path = tmp_path / "weights.pt"
    torch.save({"a.b": torch.ones(3, 4), "c": torch.arange(3)}, path, _use_new_zipfile_serialization=zipped)
    content, chance = path.read_bytes(), random.Random(1)
    errors = []
    for _ in range(300):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except ModelError as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert not [error for error in errors if "\n" in error]


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "holds nothing"), ([torch.ones(1)], "holds a list"), ({"a": 1}, "'a' is a int")],
)
def test_anything_but_tensors_by_name_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "x.pt")


def test_missing_files_are_named(files):
    with pytest.raises(ModelError, match=r"none\.pth: no such file"):
        import_with(files, sam="none.pth")
    with pytest.raises(ModelError, match="neither a file nor a pretrained tag of tiny-clip-quickgelu; its tags: none"):
        import_with(files, clip_pretrained="none.pt")
    with pytest.raises(ModelError, match=r"pretrained tag of ViT-B-16; its tags: openai, laion400m_e31"):
        import_with(files, clip="ViT-B-16", clip_pretrained="opnai", image_size=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("visual.proj"), "missing visual.proj"),
        (lambda w: w.update(extra=torch.ones(1)), "surplus extra"),
        (lambda w: w.update({"visual.proj": torch.ones(3, 2)}), "visual.proj is 3 x 2 float, expected 32 x 32 float"),
        (lambda w: w.update({"visual.positional_embedding": torch.ones(12, 32)}), "is 12 x 32 float, expected 37 x 32"),
    ],
)
def test_clip_weights_must_fit_exactly(files, tmp_path, change, message):
    weights = read_weights(files / "clip.pt")
    change(weights)
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(ModelError, match="not the weights of open_clip's tiny-clip-quickgelu") as caught:
        import_with(files, clip_pretrained=str(tmp_path / "clip.pt"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("prompt_encoder.no_mask_embed.weight"), "missing prompt_encoder.no_mask_embed.weight"),
        (lambda w: w.pop("mask_decoder.iou_token.weight"), "missing mask_decoder.iou_token.weight"),
        (lambda w: w.pop("mask_decoder.transformer.layers.1.norm4.bias"), "missing mask_decoder.transformer"),
        (lambda w: w.update({"mask_decoder.hf_token.weight": torch.ones(1)}), "surplus mask_decoder.hf_token.weight"),
        (
            lambda w: w.update({"mask_decoder.iou_token.weight": torch.ones(1, 128)}),
            "is 1 x 128 float, expected 1 x 256",
        ),
    ],
)
def test_sam_weights_must_fit_exactly(files, tmp_path, change, message):
    weights = read_weights(files / "sam_vit_b.pth")
    change(weights)
    torch.save(weights, tmp_path / "sam.pth")
    with pytest.raises(ModelError, match=r"not a SAM checkpoint in the layout of sam_vit_b_01ec64\.pth") as caught:
        import_with(files, sam=tmp_path / "sam.pth")
    assert message in str(caught.value)


def test_sam_parts_we_do_not_use_may_be_there_or_not(files, imported, tmp_path):
    weights = {k: v for k, v in read_weights(files / "sam_vit_b.pth").items() if not k.startswith("image_encoder.")}
    weights["image_encoder.blocks.31.norm1.weight"] = torch.ones(1280)  # as in vit_h
    del weights["mask_decoder.iou_prediction_head.layers.0.weight"]
    torch.save(weights, tmp_path / "sam_vit_h.pth")
    network, _ = import_with(files, sam=tmp_path / "sam_vit_h.pth")
    state = imported[0].state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def fail_to_download(*_, **__):
    raise FileNotFoundError("Failed to download file.\nLast error: no network")


@pytest.mark.parametrize(
    ("arch", "tag", "message"),
    [
        ("ViT-B-16", "openai", "was trained with QuickGELU; use ViT-B-16-quickgelu"),
        ("ViT-L-14-336", "openai", "was trained with QuickGELU; use ViT-L-14-336-quickgelu"),
        ("ViT-B-16", "metaclip_400m", "was trained with QuickGELU; use ViT-B-16-quickgelu"),
        ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", "neither a file nor a pretrained tag"),
        ("ViT-B-16-quickgelu", "openai", "could not be downloaded (Failed to download file.); check the connection"),
        ("ViT-B-16", "laion2b_s34b_b88k", "could not be downloaded"),
    ],
)
def test_a_tag_must_match_the_activation_and_be_at_hand(files, monkeypatch, arch, tag, message):
    monkeypatch.setattr(open_clip, "download_pretrained", fail_to_download)
    with pytest.raises(ModelError) as caught:
        import_with(files, clip=arch, clip_pretrained=tag, image_size=None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_downloaded_tag_brings_its_weights_and_its_normalisation(files, monkeypatch):
    mean, std = (0.5, 0.25, 0.125), (0.1, 0.2, 0.3)
    tag = {"file": str(files / "clip.pt"), "quick_gelu": True, "mean": mean, "std": std}
    monkeypatch.setitem(pretrained._PRETRAINED, ARCH, {"a_tag": tag})
    network, provenance = import_with(files, clip_pretrained="a_tag")
    assert (network.config.image_mean, network.config.image_std) == (mean, std)
    assert provenance["imported_from"]["clip"]["weights"] == "a_tag"


def test_a_file_with_openais_marks_needs_quickgelu(files, imported, tmp_path):
    marks = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(read_weights(files / "clip.pt") | marks, tmp_path / "openai.pt")
    with pytest.raises(ModelError, match=r"OpenAI's weights.* was trained with QuickGELU; use tiny-clip-quickgelu"):
        import_with(files, clip="tiny-clip", clip_pretrained=str(tmp_path / "openai.pt"))
    network, _ = import_with(files, clip_pretrained=str(tmp_path / "openai.pt"))
    state = imported[0].state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("arch", "size", "message"),
    [
        ("ViT-B16", None, "not an open_clip architecture; near ones: ViT-B-16"),
        ("RN50", None, "not open_clip's own"),
        ("convnext_base", None, "not open_clip's own"),
        ("roberta-ViT-B-32", None, "not open_clip's own"),
        ("ViT-L-14-CLIPA", None, "not open_clip's own"),
        ("coca_ViT-B-32", None, "not open_clip's own"),
        ("ViT-B-16", 100, "image size 100: expected a multiple of ViT-B-16's patch size 16"),
        ("ViT-B-16", 8, "image size 8"),
    ],
)
def test_clips_we_cannot_use_are_refused(arch, size, message):
    with pytest.raises(ModelError) as caught:
        config_for_clip(arch, size)
    assert message in str(caught.value)


@pytest.mark.parametrize("preset", ["escnet-b16", "escnet-l14"])
def test_an_architectures_configuration_is_the_presets(preset):
    assert config_for_clip(*clip_of_preset(preset)) == preset_config(preset)


def test_the_small_preset_has_nothing_to_import():
    with pytest.raises(ModelError, match="nothing to import"):
        clip_of_preset("escnet-nano")
