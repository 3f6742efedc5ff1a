"""`escnet merge` as a user meets it."""

import sys

import numpy as np
import pytest

from jobs.main import main
from pipeline.output.labelled import open_one_vocabulary
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import STORAGE, Answer, save_mask, write_output

WORDS = Vocabulary(name="words", classes=["land", "water"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output and a corrected mask, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": Answer(np.array([[0, 0, 1, 1]], np.int32))}}, [WORDS])
    save_mask(tmp_path / "masks" / "a.png", np.array([[0, 1, 1, 255]], np.uint8))
    save_mask(tmp_path / "large" / "a.png", np.zeros((9, 9), np.uint8))
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["escnet", "merge", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


@pytest.mark.usefixtures("folder")
def test_what_differs_is_stored_once_with_its_author(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--corrections", "masks", "--author", "ada")
    lines = out.splitlines()
    assert (code, lines[0], err) == (0, "1 corrected mask read, 1 of them differ from the labels", "")
    assert lines[1] == "  1 stored: a.jpg"
    assert lines[2].startswith("Wrote overrides/")
    override = open_one_vocabulary("out", STORAGE).overrides.get("words", "a.jpg")
    assert override is not None
    assert (override.author, override.ignored_fraction) == ("ada", 0.25)
    said = ["1 corrected mask read, 0 of them differ from the labels"]
    assert run(monkeypatch, capsys, "out", "--corrections", "masks")[1].splitlines() == said


def test_what_an_export_ignored_is_no_correction(folder, monkeypatch, capsys):
    save_mask(folder / "sure" / "a.png", np.full((1, 4), 255, np.uint8))
    lines = run(monkeypatch, capsys, "out", "--corrections", "sure", "--min-confidence", "0.9")[1].splitlines()
    assert lines == ["1 corrected mask read, 0 of them differ from the labels"]


def test_a_mask_from_before_a_correction_is_passed_over_unless_asked_for(folder, monkeypatch, capsys):
    save_mask(folder / "before" / "a.png", np.array([[0, 0, 1, 1]], np.uint8))
    run(monkeypatch, capsys, "out", "--corrections", "masks", "--author", "ada")
    code, out, _ = run(monkeypatch, capsys, "out", "--corrections", "before", "--author", "bob")
    lines = out.splitlines()
    assert (code, lines[0], len(lines)) == (0, "1 corrected mask read, 1 of them differ from the labels", 3)
    assert lines[1].startswith(
        "  1 passed over, which shows its picture as it was before a correction: a.jpg (ada's of "
    )
    code, out, _ = run(monkeypatch, capsys, "out", "--corrections", "before", "--author", "bob", "--revert")
    assert out.splitlines()[1].startswith("  1 stored in place of an earlier correction: a.jpg (ada's of ")
    override = open_one_vocabulary("out", STORAGE).overrides.get("words", "a.jpg")
    assert override is not None
    assert (code, override.author) == (0, "bob")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out"], "Missing option '--corrections'"),
        (["out", "--corrections", "gone"], "gone: not found, expected a folder of PNG masks"),
        (["out", "--corrections", "large"], "the mask of 'a.jpg' is 9 x 9, but the picture is 4 x 1"),
        (["out", "--corrections", "masks", "--min-confidence", "2"], "Invalid value for '--min-confidence'"),
        (["gone", "--corrections", "masks"], "gone: found no job.json"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code, said in err, "Traceback" in err) == (2, True, False), err
