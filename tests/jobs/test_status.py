"""`escnet status` as a user meets it."""

import json
import sys

import numpy as np
import pytest

from jobs.main import main
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

WORDS = Vocabulary(name="words", classes=["land", "water"])
ANSWERS = {"words": {"a.jpg": Answer(np.zeros((2, 2))), "b.jpg": Failure(), "c.jpg": Failure()}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output half done, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_output(str(tmp_path / "out"), ANSWERS, [WORDS], n_done=1)
    (tmp_path / "taken.json").write_text("mine")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "status", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_a_job_that_is_not_finished_is_no_error(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--json", "new/status.json")
    lines = out.splitlines()
    assert (code, err, lines[:3]) == (
        0,
        "",
        [
            f"{folder}/out: not finished, and no run is at work there, labelled by stand-in",
            "  shards:    1 of 2 done, 1 left",
            "  pictures:  2 of 3 done, 1 left",
        ],
    )
    assert json.loads((folder / "new" / "status.json").read_text())["n_pictures_left"] == 1


@pytest.mark.usefixtures("folder")
def test_a_dash_prints_json_and_nothing_else(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "out", "--json", "-")
    assert (code, json.loads(out)["by_kind"], err) == (0, {"truncated": 1}, "")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "gone: found no job.json, expected the --output of `escnet annotate`\n"),
        (["out", "--json", "taken.json"], "Error: taken.json: already there; choose another name or give --overwrite"),
        (["out", "--overwrite"], "--overwrite goes with --json FILE"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
