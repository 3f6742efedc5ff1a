"""`escnet relabel` as a user meets it: lines and exit codes."""

import shutil
import sys

import numpy as np
import pytest

from jobs.main import main
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

WORDS = Vocabulary(
    name="words",
    classes=[{"id": 0, "name": "sky"}, {"id": 1, "name": "ship", "parent": "thing"}, {"id": 2, "name": "thing"}],
)
ANSWERS = {
    "words": {"a": Answer(np.array([[0, 1, 1, 2]]), 100), "b": Failure(), "c": Answer(np.array([[0, 0, 1, 1]]), 200)}
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An output in the folder where the command runs, and its vocabulary with a threshold."""
    monkeypatch.chdir(tmp_path)
    write_output(str(tmp_path / "out"), ANSWERS, [WORDS])
    text = (tmp_path / "out" / "vocabularies" / "words.yaml").read_text()
    (tmp_path / "strict.yaml").write_text(text.replace("prompts: [sky]", "prompts: [sky], min_confidence: 0.5"))
    (tmp_path / "more.yaml").write_text(text + "- {id: 3, name: zebra}\n")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Exit code, and the lines on stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["escnet", "relabel", *arguments, "--workers", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return stop.value.code, said.out.splitlines(), said.err


def test_it_says_what_was_done_and_where_it_lies(folder, monkeypatch, capsys):
    code, lines, _ = run(monkeypatch, capsys, "out", "--vocabulary", "strict.yaml", "--output", "new")
    assert code == 0
    assert lines[0].startswith("Done: 2 of 3 pictures are labelled, 1 failed as before. This run: 3 in ")
    assert lines[1:] == ["  ignored: 12.5% of all pixels", f"  labels:  {folder}/new/labels/*.parquet (2 shards)"]
    code, lines, _ = run(monkeypatch, capsys, "out", "--vocabulary", "strict.yaml", "--output", "new")
    assert (code, lines[0]) == (0, "Nothing to do: 2 of 3 pictures are labelled, 1 failed as before.")


@pytest.mark.usefixtures("folder")
def test_without_a_change_there_is_nothing_to_ask_for(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "out", "--output", "new")
    assert (code, "nothing to change: give --vocabulary, --level, or both" in err) == (2, True)


def test_new_words_are_refused_in_one_line(folder, monkeypatch, capsys):
    code, lines, err = run(monkeypatch, capsys, "out", "--vocabulary", "more.yaml", "--output", "new")
    assert (code, lines, len(err.splitlines())) == (2, [], 1)
    assert "(new: class 3 'zebra')" in err
    assert not (folder / "new").exists()


def test_what_is_missing_ends_with_1(folder, monkeypatch, capsys):
    next((folder / "out" / "labels").iterdir()).unlink()
    code, lines, _ = run(monkeypatch, capsys, "out", "--level", "parent", "--output", "new")
    assert (code, lines[-1].startswith("  missing: 1 shard that ")) == (1, True)
    shutil.rmtree(folder / "out" / "labels")
    code, lines, _ = run(monkeypatch, capsys, "out", "--level", "parent", "--output", "new 2")
    assert (code, lines[0]) == (1, "Done: 0 of 3 pictures are labelled.")
