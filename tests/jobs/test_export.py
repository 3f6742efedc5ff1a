"""`escnet export` as a user meets it."""

import sys

import numpy as np
import pytest

from jobs.export import FORMATS
from jobs.main import main
from pipeline.export import formats
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

WORDS = Vocabulary(name="words", classes=["land", "water"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    answer = Answer(np.array([[0, 0, 1, 1]], np.int32))
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": answer, "b.jpg": Failure()}}, [WORDS])
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["escnet", "export", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_command_offers_what_there_is():
    assert tuple(formats.FORMATS) == FORMATS


def test_what_is_exported_and_what_is_left_out_is_said(folder, monkeypatch, capsys):
    for _ in range(2):
        code, out, err = run(monkeypatch, capsys, "out", "--format", "png", "--output", "e")
        said = ["1 picture exported as png: e", "1 picture left out: labelling failed"]
        assert (code, out.splitlines(), err) == (0, [said[0].replace(": e", f": {folder}/e"), said[1]], "")
    assert (folder / "e" / "annotations" / "a.png").is_file()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone", "--format", "png", "--output", "e"], "gone: found no job.json, expected the --output of"),
        (["out", "--format", "pgn", "--output", "e"], "'pgn' is not one of 'png'"),
        (["out", "--format", "png", "--output", "out"], "lies in the labels themselves; choose an --output apart"),
        (["out", "--format", "png", "--output", "e", "--vocabulary", "word"], "did you mean 'words'?"),
        (["out", "--format", "png", "--output", "e", "--min-confidence", "2"], "2.0 is not in the range 0<=x<=1"),
        (["out", "--format", "png"], "Missing option '--output'"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
