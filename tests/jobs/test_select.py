"""`escnet select` as a user meets it."""

import sys

import pytest

from jobs.main import main
from tests.pipeline.report.output import write_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output, in the folder where the command runs."""
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "select", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_how_many_are_chosen_and_why_is_said(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--budget", "2", "--output", "look.parquet")
    assert (code, out.splitlines()[0]) == (0, "look.parquet: 2 of 5 labelled pictures")
    assert sum(int(line.split()[0]) for line in out.splitlines()[1:]) == 2
    assert "reading the statistics of 3 label files" in err
    assert (folder / "look.parquet").read_bytes().startswith(b"PAR1")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--budget", "2", "--output", "look.csv"], "look.csv: a selection is a Parquet manifest"),
        (["photos", "--budget", "2", "--output", "look.parquet"], "photos: found no job.json"),
        (["out", "--budget", "0", "--output", "look.parquet"], "Invalid value for '--budget'"),
        (["out", "--output", "look.parquet"], "Missing option '--budget'"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
