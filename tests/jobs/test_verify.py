"""`escnet verify` as a user meets it: lines, JSON, exit codes."""

import json
import sys

import pytest

from jobs.main import main
from tests.pipeline.labelled_output import write_output
from tests.pipeline.output.verification.whole import ANSWERS, MANY, WORDS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_output(str(tmp_path / "out"), ANSWERS, [WORDS, MANY])
    (tmp_path / "taken.json").write_text("mine")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and what went to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "verify", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


def test_an_output_that_holds_ends_with_0(folder, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "out", "--workers", "1", "--json", "new/found.json")
    assert (code, out.splitlines()[0]) == (
        0,
        f"{folder}/out: proven, every manifest row is in one row of one label file",
    )
    found = json.loads((folder / "new" / "found.json").read_text())
    assert (found["holds"], found["n_rows"], found["n_files"], found["findings"]) == (True, 7, 4, [])


def test_one_that_does_not_ends_with_1_and_a_line_a_finding(folder, monkeypatch, capsys):
    (folder / "out" / "labels" / "ü.txt").write_text("")
    next((folder / "out" / "labels").glob("*.parquet")).unlink()
    code, out, _ = run(monkeypatch, capsys, "out", "--sample", "2", "--seed", "5", "--workers", "1")
    lines = out.splitlines()
    assert (code, lines[0]) == (1, f"{folder}/out: not proven, 1 fault and 1 of 4 label files missing")
    assert lines[1].endswith("; of 1 more file name and footer alone were looked at")
    assert lines[2].startswith("  labels/ü.txt: found a file of no shard, expected ")
    code, out, err = run(monkeypatch, capsys, "out", "--workers", "1", "--json", "-")
    found = json.loads(out)
    assert (code, err, len(found["missing"])) == (1, "", 1)
    assert found["findings"] == [
        {
            "file": "labels/ü.txt",
            "found": "a file of no shard",
            "expected": "only the files of shards that the plan names",
            "advice": "remove it, or move it out of the output",
            "image_id": None,
        }
    ]


def test_a_file_is_replaced_only_if_asked(folder, monkeypatch, capsys):
    arguments = ("out", "--workers", "1", "--json", "taken.json")
    code, out, err = run(monkeypatch, capsys, *arguments)
    said = "Error: taken.json: already there; choose another name or give --overwrite\n"
    assert (code, out, err, (folder / "taken.json").read_text()) == (2, "", said, "mine")
    assert run(monkeypatch, capsys, *arguments, "--overwrite")[0] == 0
    assert json.loads((folder / "taken.json").read_text())["holds"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "gone: found no job.json, expected the --output of `escnet annotate`"),
        (["out/labels"], "out/labels: found no job.json"),
        (["out", "--sample", "0"], "Invalid value for '--sample'"),
        (["out", "--overwrite"], "--overwrite goes with --json FILE"),
        ([], "Missing argument 'OUTPUT'"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, capsys, arguments, said):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
