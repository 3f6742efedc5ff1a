"""CAT-Seg from its authors' file to labels, by the real commands; the file has random numbers and small widths."""

import pytest
import torch
from click.testing import CliRunner

from escnet.catseg import importing
from escnet.checkpoint_header import read_header
from jobs.main import cli
from tests.escnet.catseg.official import official_weights, tiny_config


def run(*arguments) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cat-seg")
    torch.save({"model": official_weights(tiny_config()), "iteration": 79999}, folder / "model_base.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "preset_config", lambda _: tiny_config())
        output = run(
            "model", "import", "--cat-seg", folder / "model_base.pth", "--arch", "ViT-B/16",
            "--output", folder / "cat-seg.safetensors",
        )  # fmt: skip
    assert "Wrote" in output
    assert "Untrained" not in output
    return folder / "cat-seg.safetensors"


def test_the_checkpoint_says_where_it_is_from(checkpoint):
    info = read_header(checkpoint)
    assert info.is_trained
    assert info.provenance["imported_from"]["cat_seg"]["weights"] == "model_base.pth"
    assert "spatial aggregation" in run("model", "show", checkpoint)
