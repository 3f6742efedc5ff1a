"""The snippets of docs/reading.md run on a real output, and the example trains."""

import re
import runpy
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image

import pipeline
from pipeline.output.overrides import write_overrides
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import STORAGE, Answer, Failure, override, write_output

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reading.md").read_text()
N_EPOCHS = 15
WORDS = Vocabulary(name="words", classes=[{"id": 0, "name": "left"}, {"id": 7, "name": "right"}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`labels/`: eight pictures, bright where they are of the second class, a failed one, and a correction."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "photos").mkdir()
    answers: dict = {"failed.png": Failure()}
    for k in range(8):
        winner = np.zeros((24, 32), np.int32)
        winner[:, 4 * k :] = 7
        answers[f"{k}.png"] = Answer(winner)
        Image.fromarray((winner * 36).astype(np.uint8)).convert("RGB").save(folder / "photos" / f"{k}.png")
    write_output(str(folder / "labels"), {"words": answers}, [WORDS], shard_size=3, folder=str(folder / "photos"))
    write_overrides([override("0.png", np.full((24, 32), 7, np.uint8), WORDS)], str(folder / "labels"), STORAGE)
    return folder


SNIPPETS = re.findall(r"^```(python|sql)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "code"), SNIPPETS, ids=[f"{k}-{each[0]}" for k, each in enumerate(SNIPPETS)])
def test_the_pages_snippets_run(folder, monkeypatch, capsys, tmp_path, language, code):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    if language == "sql":
        assert duckdb.sql(code).fetchall()
    else:
        (tmp_path / "snippet.py").write_text(code)
        runpy.run_path(str(tmp_path / "snippet.py"))
        assert capsys.readouterr().out.strip()


def test_the_page_has_all_readers():
    assert [language for language, _ in SNIPPETS] == ["python", "sql", "sql", "python", "python", "python"]


def test_the_example_learns_what_the_labels_say(folder, capsys):
    labels, seconds = str(folder / "labels"), count()
    train = runpy.run_path(str(ROOT / "examples/train_unet.py"))["main"]
    train.__globals__["time"] = SimpleNamespace(monotonic=lambda: next(seconds))  # an epoch takes one
    right = train(labels, N_EPOCHS, labels)
    said = capsys.readouterr().out
    assert "as the labels say" in said
    assert right > 0.8
    assert re.search(rf"^{re.escape(labels)}: mIoU [01]\.\d{{3}}$", said, re.MULTILINE)


def test_the_example_measures_the_mean_iou_of_the_classes_that_occur(folder):
    example = runpy.run_path(str(ROOT / "examples/train_unet.py"))
    dataset = pipeline.open_labels(str(folder / "labels"), transform=example["resize"])
    masks = torch.stack([sample["mask"] for sample in dataset])
    says_the_first = torch.nn.Conv2d(3, len(dataset.classes), 1)
    torch.nn.init.zeros_(says_the_first.weight)
    says_the_first.bias.data = torch.arange(len(dataset.classes), 0.0, -1.0)
    expected = (masks == 0).sum() / (masks >= 0).sum() / len(masks[masks >= 0].unique())
    assert example["mean_iou"](says_the_first, dataset) == pytest.approx(float(expected))
