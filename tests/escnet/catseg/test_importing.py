import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from escnet.catseg.importing import import_cat_seg, load_official
from escnet.catseg.network import CatSeg
from escnet.config import preset_config
from escnet.segmenter import Segmenter
from escnet.weight_files import read_weights
from schemas.errors import ModelError
from schemas.vocabulary import Vocabulary
from tests.escnet.catseg.official import (
    CASES,
    CLIP,
    HEAD,
    TEMPLATE,
    class_names,
    official_shapes,
    official_weights,
    picture,
    tiny_config,
)

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())
LONG = ("171 classes, sliding", "847 classes, sliding")
PATH = Path("model_base.pth")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return official_weights(tiny_config())


@pytest.fixture(scope="module")
def network(weights) -> CatSeg:
    return load_official(PATH, weights, tiny_config())


def vocabulary(n_classes: int) -> Vocabulary:
    classes = [{"id": i, "name": name} for i, name in enumerate(class_names(n_classes))]
    return Vocabulary(name="things", templates=[TEMPLATE], classes=classes)


@pytest.mark.parametrize("case", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in CASES])
def test_output_equals_the_public_codes(network, case):
    n_classes, views, size_hw = CASES[case]
    segmenter = Segmenter(network, views=views)
    compiled = segmenter.compile(vocabulary(n_classes))
    with torch.no_grad():
        canvas = segmenter._canvases([segmenter.prepare(picture(size_hw))], compiled)[1]
    found = F.interpolate(canvas, size_hw, mode="bilinear", align_corners=False)[0]  # as theirs, to the picture's size
    c, y, x, expected = np.array(REFERENCE[case]).T
    place_of = np.argsort(compiled.codes)
    values = found[place_of[c.astype(int)], y.astype(int), x.astype(int)].numpy()
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 0.2  # there is something to be equal to


def test_preset_shapes_are_those_of_the_public_networks():
    """Spot checks against the public configuration files, which name no tensor of ours."""
    for preset, channels, width in (("cat-seg-b16", 512, 768), ("cat-seg-l14", 768, 1024)):
        shapes = official_shapes(preset_config(preset))
        assert shapes[f"{HEAD}guidance_projection.0.weight"] == (128, channels, 3, 3)
        assert shapes[f"{HEAD}decoder1.conv.double_conv.0.weight"] == (64, 128, 3, 3)
        assert shapes["upsample1.weight"] == (width, 256, 2, 2)
        assert shapes["upsample2.weight"] == (width, 128, 4, 4)
        with torch.device("meta"):
            n_ours = sum(p.numel() for p in preset_config(preset).build().parameters())
        n_theirs = sum(np.prod(shape, dtype=int) for name, shape in shapes.items() if "attn_mask" not in name)
        side = preset_config(preset).grid_hw[0]
        their_positions = shapes[f"{CLIP}visual.positional_embedding"][0]
        assert n_ours - n_theirs == (side * side + 1 - their_positions) * width


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("upsample1.bias"), "missing upsample1.bias"),
        (lambda w: w.update({"upsample3.bias": torch.zeros(3)}), "surplus upsample3.bias"),
        (
            lambda w: w.update({f"{HEAD}layers.1.attention.padding_tokens": torch.zeros(1, 1, 8)}),
            f"different {HEAD}layers.1.attention.padding_tokens is 1 x 1 x 8 float, expected 1 x 1 x 16 float",
        ),
        (
            lambda w: w.update({f"{CLIP}visual.positional_embedding": torch.zeros(150, 64)}),
            f"different {CLIP}visual.positional_embedding is 150 x 64 float, expected 577 x 64 float",
        ),
        (
            lambda w: w.update({f"{CLIP}transformer.resblocks.0.attn.in_proj_weight": torch.zeros(192, 64)}),
            f"surplus {CLIP}transformer.resblocks.0.attn.in_proj_weight",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_in_one_line(weights, change, message):
    changed = dict(weights)
    change(changed)
    with pytest.raises(ModelError) as caught:
        load_official(PATH, changed, tiny_config())
    assert str(caught.value) == (
        f"model_base.pth: not a CAT-Seg checkpoint of this size in its authors' layout: {message}"
    )


def test_buffers_that_follow_from_the_configuration_may_be_there_or_not(weights, network):
    changed = {name: tensor for name, tensor in weights.items() if "attn_mask" not in name}
    changed |= {"pixel_mean": torch.zeros(3, 1, 1), "clip_pixel_std": torch.zeros(3, 1, 1)}
    loaded = load_official(PATH, changed, tiny_config()).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in network.state_dict().items())


def test_every_number_of_the_file_arrives(weights, network):
    ours = sum(
        tensor.double().sum() for name, tensor in network.state_dict().items() if "visual.positional" not in name
    )
    theirs = sum(tensor.double().sum() for name, tensor in weights.items() if "visual.positional" not in name)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


def test_a_checkpoint_as_detectron2_writes_it_is_read_as_weights_only(tmp_path, weights):
    few = {name: weights[name] for name in ("upsample1.bias", "upsample2.bias")}
    torch.save({"model": few, "iteration": 79999, "optimizer": {"state": {0: torch.zeros(2)}}}, tmp_path / "model.pth")
    assert read_weights(tmp_path / "model.pth").keys() == few.keys()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.zeros(1)}, "no CAT-Seg checkpoint, its sem_seg_head.predictor.clip_model.visual.conv1.weight is"),
        (
            {f"{CLIP}visual.conv1.weight": torch.zeros(1280, 3, 14, 14)},
            "visual.conv1.weight is 1280 x 3 x 14 x 14, that of neither ViT-B/16 nor ViT-L/14@336px",
        ),
        ({f"{CLIP}visual.conv1.weight": torch.zeros(768, 3, 16, 16)}, "not a CAT-Seg checkpoint of ViT-B/16 in its"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, tensors, message):
    torch.save({"model": tensors}, tmp_path / "other.pth")
    with pytest.raises(ModelError) as caught:
        import_cat_seg(tmp_path / "other.pth")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "other.pth"))
    assert "\n" not in str(caught.value)
