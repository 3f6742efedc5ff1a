"""`escnet evaluate` as a user meets it: the table, the JSON file, and one clear line with exit code 2."""

import json
import sys

import numpy as np
import pytest

from jobs.main import main
from pipeline.vocabularies import load_vocabulary
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, save_mask, write_output

WORDS = Vocabulary(name="words", classes=["land", "water"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output and ground truth for it, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    answer = Answer(np.array([[0, 0, 1, 1]], np.int32))
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": answer}}, [WORDS])
    save_mask(tmp_path / "masks" / "a.png", np.array([[0, 0, 0, 1]], np.uint8))
    (tmp_path / "taken.json").write_text("mine")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "evaluate", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_table_is_printed_and_the_json_written(folder, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "out", "--ground-truth", "masks", "--json", "new/scores.json")
    assert (code, out.splitlines()[0]) == (0, "1 picture compared with masks, vocabulary words")
    assert "  mIoU               0.583  2 of 2 classes: those in the ground truth" in out.splitlines()
    scores = json.loads((folder / "new" / "scores.json").read_text())
    assert (scores["miou"], scores["pixel_accuracy"]) == (pytest.approx(7 / 12), 0.75)
    assert (scores["miou_seen"], scores["miou_heldout"]) == (scores["miou"], None)


def test_a_vocabulary_with_thresholds_is_written_to_be_used(folder, monkeypatch, capsys):
    arguments = ("--ground-truth", "masks", "--target-precision", "0.7", "--write-vocabulary", "sure.yaml")
    code, out, err = run(monkeypatch, capsys, "out", *arguments)
    assert (code, "Precision against coverage" in out, "Wrote sure.yaml" in err) == (0, True, True)
    written = load_vocabulary(str(folder / "sure.yaml"))
    assert [(each.name, each.min_confidence) for each in written.classes] == [("land", 0.0), ("water", 1.0)]


@pytest.mark.usefixtures("folder")
def test_a_dash_prints_json_and_nothing_else(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--ground-truth", "masks", "--json", "-")
    assert (code, json.loads(out)["miou"], err) == (0, pytest.approx(7 / 12), "")


def test_a_file_is_replaced_only_if_asked(folder, monkeypatch, capsys):
    arguments = ("out", "--ground-truth", "masks", "--json", "taken.json")
    code, out, err = run(monkeypatch, capsys, *arguments)
    said = "Error: taken.json: already there; choose another name or give --overwrite\n"
    assert (code, out, err, (folder / "taken.json").read_text()) == (2, "", said, "mine")
    assert run(monkeypatch, capsys, *arguments, "--overwrite")[0] == 0
    assert json.loads((folder / "taken.json").read_text())["n_pictures"] == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--ground-truth", "gone"], "gone: not found, expected a folder of masks"),
        (["gone", "--ground-truth", "masks"], "gone: found no job.json, expected the --output of `escnet annotate`"),
        (["masks", "--ground-truth", "masks"], "masks: found no job.json"),
        (["out", "--ground-truth", "masks", "--protocol", "A-150"], "A-150 is measured with the bundled vocabulary"),
        (["out", "--ground-truth", "masks", "--protocol", "A-15"], "Invalid value for '--protocol'"),
        (["out", "--ground-truth", "masks", "--vocabulary", "word"], "no labels of vocabulary 'word'"),
        (["out", "--ground-truth", "masks", "--overwrite"], "--overwrite goes with --json FILE"),
        (["out", "--ground-truth", "masks", "--write-vocabulary", "v.yaml"], "goes with --target-precision P"),
        (["out", "--ground-truth", "masks", "--model", "m"], "--model goes with --calibrate FILE"),
        (["out", "--ground-truth", "masks", "--target-precision", "95"], "is not in the range 0<x<=1"),
        (
            ["out", "--ground-truth", "masks", "--target-precision", "1", "--write-vocabulary", "taken.json"],
            "taken.json: already there",
        ),
        (["out", "--ground-truth", "masks", "--calibrate", "new.safetensors"], "made by stand-in (0123); say where"),
        (["out"], "Missing option '--ground-truth'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
