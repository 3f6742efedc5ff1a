"""`escnet report` as a user meets it: a page, a few lines, and one clear line with exit code 2."""

import sys

import numpy as np
import pytest

from jobs.main import main
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, write_output

WORDS = Vocabulary(name="words", classes=["land", "water"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": Answer(np.array([[0, 0, 1, 1]], np.int32))}}, [WORDS])
    (tmp_path / "taken.html").write_text("mine")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "report", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_page_is_written_and_said(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--output", "r.html")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "r.html: 1 picture labelled, 0 failed")
    assert lines[1].startswith("  shown: 1, 1 of them by their labels alone; 0.0 MB")
    assert err.splitlines()[0] == "reading the footers of 1 label file"
    assert (folder / "r.html").read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--output", "taken.html"], "taken.html: already there; choose another name or give --overwrite"),
        (["gone", "--output", "r.html"], "gone: found no job.json, expected the --output of `escnet annotate`"),
        (["out", "--output", "r.html", "--scores", "no.json"], "no.json: "),
        (["out", "--output", "r.html", "--pictures", "-1"], "Invalid value for '--pictures'"),
        (["out"], "Missing option '--output'"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
