"""`escnet train` as a user meets it before anything is started: one clear line and exit code 2."""

import os
import sys

import numpy as np
import pytest

from jobs.main import main
from tests.pipeline.labelled_output import save_mask
from tests.pipeline.training.pictures_of import write_pictures

RECIPE = """\
name: small
model: {preset: escnet-nano}
trainable: all
stages:
  - name: one
    steps: 10
    data: [{manifest: manifest.csv, vocabulary: words.txt, split: train}]
"""


@pytest.fixture
def escnet(tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["escnet", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


def other_size(folder):
    save_mask(folder / "masks" / "0.png", np.zeros((10, 10), np.uint8))


def outside(folder):
    save_mask(folder / "masks" / "0.png", np.full((40, 56), 7, np.uint8))


def nothing(_):
    pass


def something_else(folder):
    (folder / "runs" / "small").mkdir(parents=True)
    (folder / "runs" / "small" / "thesis.tex").write_text("years of work")


@pytest.mark.parametrize(
    ("harm", "arguments", "said"),
    [
        (other_size, (), "masks/0.png: the mask is 10 x 10, but picture '0.png' is 56 x 40"),
        (outside, (), "masks/0.png: holds 7 (2,240 pixels), no ids of vocabulary 'words'"),
        (lambda folder: (folder / "masks" / "0.png").unlink(), (), "masks/0.png: no such file"),
        (nothing, ("--set", "stages.0.data.0.split=test"), "no labelled picture of split 'test'; found train (5 pict"),
        (nothing, ("--set", "stages.0.stepz=1"), "--set stages.0.stepz: unknown key; did you mean 'steps'?"),
        (nothing, ("--set", "stages.0.batch_size=8", "--set", "stages.0.micro_batch_size=3"), "must be a multiple of"),
        (nothing, ("--device", "cpu", "--set", "precision=float16"), "precision: found float16, which needs a GPU"),
        (nothing, ("--workers", 4096, "--device", "cpu"), "4096 workers with 1 CPU and 0 GPU each do not fit"),
        (nothing, ("--output", "s3://bucket/run"), "s3://bucket/run: training writes to a local folder"),
        (nothing, ("--set", "model.clip_from=gone.safetensors"), "model: gone.safetensors: no such file"),
        (nothing, ("--set", "validation.data.labels=gone"), "gone: found no job.json"),
        (something_else, (), "runs/small: holds something else (thesis.tex) and no training.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line_before_anything_is_started(escnet, tmp_path, harm, arguments, said):
    harm(tmp_path)
    before = sorted(os.listdir(tmp_path))
    code, out, err = escnet("r.yaml", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert sorted(os.listdir(tmp_path)) in (before, sorted([*before, "runs"]))


def test_a_recipe_that_is_not_there_is_one_line(escnet):
    code, _, err = escnet("gone.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "gone.yaml" in err
