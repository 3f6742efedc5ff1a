"""`escnet show` as a user meets it."""

import sys

import numpy as np
import pytest

from jobs.main import main
from pipeline.output.overrides import write_overrides
from tests.pipeline.labelled_output import STORAGE, override
from tests.pipeline.report.output import WORDS, write_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output, in the folder where the command runs."""
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "show", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_drawing_has_the_name_of_the_picture(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "a.png")
    assert (code, out, err) == (0, "a.png.png: a.png, 32 x 24, confidence 0.800, 50.0% ignored\n", "")
    assert (folder / "a.png.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_a_person_corrected_says_so(folder, monkeypatch, capsys):
    sky = override("a.png", np.full((24, 32), 9, np.uint8), WORDS)
    write_overrides([sky], str(folder / "out"), STORAGE)
    code, out, _ = run(monkeypatch, capsys, "out", "a.png")
    said = "a.png.png: a.png, 32 x 24, corrected by ada on 2026-05-01 12:00:00 UTC, 0.0% ignored\n"
    assert (code, out) == (0, said)


@pytest.mark.usefixtures("folder")
def test_that_a_picture_is_gone_is_said(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "out", "gone.png", "--output", "x.png")
    assert (code, out.splitlines()[1].startswith("  labels alone: ")) == (0, True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "b.png"], "Error: out: has no picture 'b.png'"),
        (["photos", "a.png"], "photos: found no job.json"),
        (
            ["out", "a.png", "--output", "x.jpg"],
            "Error: x.jpg: a drawing is a PNG file; expected a name that ends in .png",
        ),
        (["out", "a.png", "--opacity", "2"], "Invalid value for '--opacity'"),
        (["out"], "Missing argument 'IMAGE_ID'"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
