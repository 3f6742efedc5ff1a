"""`escnet compare` as a user meets it."""

import json
import sys

import pytest

from jobs.main import main
from tests.pipeline.report.output import write_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output, in the folder where the command runs."""
    write_pictures(tmp_path)
    (tmp_path / "taken.json").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "compare", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_the_comparison_is_said_and_written(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "out", "--json", "d.json", "--worst", "1")
    assert (code, out.splitlines()[0]) == (0, "5 pictures compared: out and out")
    assert err == "reading the names of the pictures in out\n"
    found = json.loads((folder / "d.json").read_text())
    assert (found["pixel_agreement"], found["n_failed_both"], len(found["worst"])) == (1.0, 2, 1)


@pytest.mark.usefixtures("folder")
def test_a_dash_prints_json_and_nothing_else(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "out", "out", "--json", "-")
    assert (code, json.loads(out)["n_compared"]) == (0, 5)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "photos"], "photos: found no job.json"),
        (["out", "out", "--json", "taken.json"], "taken.json: already there"),
        (["out", "out", "--overwrite"], "--overwrite goes with --json FILE"),
        (["out", "out", "--worst", "-1"], "Invalid value for '--worst'"),
        (["out"], "Missing argument 'SECOND'"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
