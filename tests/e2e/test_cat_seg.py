"""CAT-Seg from its authors' file to labels, by the real commands; the file has random numbers and small widths."""

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from escnet.catseg import importing
from escnet.checkpoint_header import read_header
from jobs.main import cli
from pipeline.evaluation.calibration import calibrate
from schemas.errors import ModelError
from tests.escnet.catseg.official import official_weights, picture, tiny_config


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


def test_a_folder_is_labelled_and_relabelling_gives_what_a_fresh_run_gives(checkpoint, tmp_path):
    (tmp_path / "photographs").mkdir()
    for i, size_hw in enumerate([(90, 120), (200, 60)]):
        Image.fromarray(picture(size_hw, seed=i)).save(tmp_path / "photographs" / f"{i}.png")
    loose, strict = (words(tmp_path / f"{least}.yaml", least) for least in (0.0, 0.6))
    for vocabulary, output in ((loose, "loose"), (strict, "fresh")):
        run(
            "annotate", tmp_path / "photographs", "--vocabulary", vocabulary, "--model", checkpoint,
            "--output", tmp_path / output, "--views", "sliding", "--actors", 1,
        )  # fmt: skip
    run("verify", tmp_path / "loose")
    run("relabel", tmp_path / "loose", "--vocabulary", strict, "--output", tmp_path / "again")
    labels = {name: pq.read_table(tmp_path / name / "labels") for name in ("loose", "fresh", "again")}
    assert labels["loose"]["status"].to_pylist() == ["labelled"] * 2
    assert all(0.2 < confidence < 0.95 for confidence in labels["loose"]["confidence_mean"].to_pylist())
    assert max(labels["fresh"]["ignored_fraction"].to_pylist()) > max(labels["loose"]["ignored_fraction"].to_pylist())
    assert labels["again"].equals(labels["fresh"])
    with pytest.raises(ModelError, match=r"cat-seg.safetensors: a CAT-Seg averages its views as probabilities"):
        calibrate(str(tmp_path / "loose"), "masks", str(tmp_path / "cool.safetensors"), model=str(checkpoint))


def words(path, min_confidence: float):
    classes = [{"id": i, "name": name, "min_confidence": min_confidence} for i, name in enumerate(("sky", "red car"))]
    path.write_text(yaml.safe_dump({"name": "words", "classes": classes}))
    return path
