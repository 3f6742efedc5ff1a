"""`escnet select` as a user meets it."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.main import main
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, write_output
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


def test_what_is_chosen_can_be_exported_at_once(folder, monkeypatch, capsys):
    export = ["--export", "tasks", "--format", "label-studio"]
    code, out, _ = run(monkeypatch, capsys, "out", "--budget", "2", "--output", "look.parquet", *export)
    assert code == 0
    assert f"2 pictures exported as label-studio: {folder}/tasks" in out.splitlines()
    chosen = {row["image_id"] for row in pq.read_table(folder / "look.parquet").to_pylist()}
    tasks = [task for path in folder.glob("tasks/tasks-*.json") for task in json.loads(path.read_text())]
    assert {task["data"]["image_id"] for task in tasks} == chosen


def test_an_export_that_cannot_be_leaves_the_choice_and_says_how_to_go_on(folder, monkeypatch, capsys):
    (folder / "tasks").mkdir()
    (folder / "tasks" / "mine.txt").touch()
    export = ["--export", "tasks", "--format", "label-studio"]
    code, _, err = run(monkeypatch, capsys, "out", "--budget", "2", "--output", "look.parquet", *export)
    assert code == 2
    assert "stands in look.parquet: escnet export out --images look.parquet --format label-studio --output" in err
    assert (folder / "look.parquet").exists()


def test_of_several_vocabularies_an_export_holds_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [Vocabulary(name=name, classes=["land", "water"]) for name in ("one", "two")]
    answer = Answer(np.array([[0, 0, 1, 1]], np.int32))
    write_output(str(tmp_path / "out"), {"one": {"a.jpg": answer}, "two": {"b.jpg": answer}}, words)
    asked = ["out", "--budget", "5", "--output", "look.parquet", "--export", "e", "--format", "png"]
    code, _, err = run(monkeypatch, capsys, *asked)
    assert code == 2
    assert "has labels of 2 vocabularies; choose one with --vocabulary: one, two" in err
    assert not (tmp_path / "look.parquet").exists()
    code, out, _ = run(monkeypatch, capsys, *asked, "--vocabulary", "two")
    assert (code, out.splitlines()[0]) == (0, "look.parquet: 1 of 1 labelled pictures")
    assert (tmp_path / "e" / "annotations" / "b.png").is_file()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--budget", "2", "--output", "look.csv"], "look.csv: a selection is a Parquet manifest"),
        (["photos", "--budget", "2", "--output", "look.parquet"], "photos: found no job.json"),
        (["out", "--budget", "0", "--output", "look.parquet"], "Invalid value for '--budget'"),
        (["out", "--budget", "2", "--output", "l.parquet", "--format", "png"], "--export and --format go together"),
        (["out", "--budget", "2", "--output", "l.parquet", "--export", "e"], "--export and --format go together"),
        (["out", "--output", "look.parquet"], "Missing option '--budget'"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
