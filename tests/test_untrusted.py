"""Files from strangers: nothing in them runs, names a file elsewhere, or speaks to the terminal."""

import io
import json
import os
import pickle
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from escnet.checkpoint_header import read_header
from escnet.models import resolve_model
from escnet.weight_files import read_weights
from jobs.main import main
from schemas.errors import EXIT_USAGE, ModelError, VocabularyError, one_line
from schemas.vocabulary_files import parse_vocabulary

RUN_CODE = "!!python/object/apply:os.system ['touch {}']"
HOSTILE_NAME = "bad\x1b[31m\u202e\n"


class Evil:
    """A pickle of it runs a command where it is read without care."""

    def __init__(self, touched: Path) -> None:
        self.command = f"touch '{touched}'"

    def __reduce__(self):
        return os.system, (self.command,)


def run(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    monkeypatch.setattr(sys, "argv", ["escnet", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, "".join(capsys.readouterr())


def assert_refused(code: int, said: str) -> None:
    """Exit code 2, and one error line that does nothing to a terminal."""
    assert code == EXIT_USAGE, said
    errors = [line for line in said.split("\n") if line.startswith("Error: ")]
    assert len(errors) == 1, said
    assert "Traceback" not in said
    assert all(line == one_line(line) for line in said.split("\n"))


@pytest.fixture
def touched(tmp_path) -> Path:
    """A file that is there if somebody's code was run."""
    return tmp_path / "code was run"


@pytest.mark.parametrize("form", ["classes: {}", "{}", "classes: [a, {}]", "classes: [a]\ntemplates: {}"])
def test_yaml_runs_no_code(tmp_path, touched, monkeypatch, capsys, form):
    text = form.format(RUN_CODE.format(touched))
    with pytest.raises(VocabularyError, match="tags are not read"):
        parse_vocabulary(text, "words.yaml")
    file = tmp_path / "job.yaml"
    file.write_text(text)
    for arguments in (["annotate", "--job", file], ["vocabulary", "show", file]):
        assert_refused(*run(monkeypatch, capsys, *arguments))
    assert not touched.exists()


def pickled(what: object, form: str) -> bytes:
    file = io.BytesIO()
    if form == "zip":
        torch.save(what, file)
    elif form == "tar":  # PyTorch's oldest form, under a name that looks like a pickle
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
            for name in ("\x80\x02", "storages", "tensors", "pickle"):
                data = pickle.dumps(what, 2)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        file.write(pickle.dumps(what, int(form)))
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("form", ["0", "2", "4", "zip", "tar"])
def test_weights_run_no_code(tmp_path, touched, monkeypatch, capsys, form, suffix):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(pickled({"weight": Evil(touched)}, form))
    for read in (read_weights, read_header, lambda path: resolve_model(str(path), allow_random_weights=True)):
        with pytest.raises(ModelError):
            read(file)
    imported = ["--preset", "escnet-b16", "--sam", file, "--output", tmp_path / "out.safetensors"]
    assert_refused(*run(monkeypatch, capsys, "model", "import", *imported))
    assert not touched.exists()


def test_the_pickles_of_these_tests_would_run_code(touched):
    pickle.loads(pickled(Evil(touched), "2"))
    assert touched.exists()


@pytest.mark.parametrize(
    "weights",
    [
        {1: torch.zeros(1)},
        {"a": torch.zeros(2).to_sparse()},
        {"a": torch.zeros(2, device="meta")},
        {"\x1b[31m": 5},
    ],
    ids=["a number as a name", "sparse", "without values", "no tensor"],
)
def test_weights_of_odd_kinds_are_one_line(tmp_path, weights):
    file = tmp_path / "weights.pt"
    torch.save(weights, file)
    with pytest.raises(ModelError, match=r"expected (a plain tensor|tensors)") as caught:
        read_weights(file)
    assert str(caught.value) == one_line(str(caught.value))


FILES = {
    ".csv": "image_id,uri,width\na,b.jpg,\x1b[2J\n",
    ".jsonl": '{"uri": "\\u001b[2J\\n\\u202e", "width": "\\u001b[31m"}',
    ".parquet": "PAR1\x1b[2JPAR1",
    ".json": '{"images": [{"file_name": "\\u001b[2J\\n.jpg"}]}',
    ".tar": "\x1b[2J" * 200,
    ".txt": "\x1b[2J",
    ".safetensors": "\x1b[2J" * 20,
    ".yaml": 'classes: [a]\n"\\e[2J\\n": 1\n',
    ".weird": "",
}


@pytest.mark.parametrize("suffix", FILES)
def test_names_and_contents_that_speak_to_the_terminal_are_one_quiet_line(tmp_path, monkeypatch, capsys, suffix):
    file = tmp_path / f"{HOSTILE_NAME}{suffix}"
    file.write_text(FILES[suffix])
    words = ["--vocabulary", "pascal-voc-20"]
    commands = [
        ["vocabulary", "show", file],
        ["manifest", "show", file],
        ["model", "show", file],
        ["annotate", "--job", file],
        ["annotate", file, *words, "--model", file, "--output", tmp_path / "out"],
        ["annotate", file, "--vocabulary", file, "--model", "escnet-nano", "--output", tmp_path / "out"],
        ["annotate", file, *words, "--model", "escnet-nano", "--output", file],
    ]
    if suffix != ".txt":
        commands.append(["manifest", "build", file, "--output", tmp_path / "m.csv"])
    for arguments in commands:
        assert_refused(*run(monkeypatch, capsys, *arguments))


@pytest.mark.parametrize("option", ["views", "limit", "dtype", "max-failed", "actors", "endpoint-url"])
def test_values_of_a_job_file_that_speak_to_the_terminal_are_quiet(tmp_path, monkeypatch, capsys, option):
    (tmp_path / "job.yaml").write_text(
        f'sources: [a]\nvocabulary: pascal-voc-20\nmodel: escnet-nano\noutput: out\n{option}: "\\e[2J\\x9b2J\\n"\n'
    )
    assert_refused(*run(monkeypatch, capsys, "annotate", "--job", tmp_path / "job.yaml"))


def test_what_a_manifest_holds_is_shown_on_one_line_a_row(tmp_path, monkeypatch, capsys):
    hostile = "\x1b[2J\n\u202e\x9b31m"
    row = {"uri": f"/a{hostile}.jpg", "image_id": hostile, "vocabulary": hostile, "split": hostile, hostile: 1}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    code, said = run(monkeypatch, capsys, "manifest", "show", tmp_path / "m.jsonl")
    assert (code, len(said.splitlines())) == (0, 5)  # names of columns, the row, all rows, vocabularies, splits
    code, built = run(monkeypatch, capsys, "manifest", "build", tmp_path / "m.jsonl", "--output", tmp_path / "m.csv")
    assert (code, len(built.splitlines())) == (0, 2)
    assert all(line == one_line(line) for line in (said + built).split("\n"))


def test_words_that_turn_writing_around_are_shown_spelled_out(tmp_path, monkeypatch, capsys):
    words = ["car\u202etac", "the \u2066{}\u2069", "می‌خواهم"]
    (tmp_path / "words.json").write_text(json.dumps({"classes": [words[0], words[2]], "templates": words[1]}))
    code, said = run(monkeypatch, capsys, "vocabulary", "show", tmp_path / "words.json")
    assert code == 0
    assert all(word in said for word in ("car\\u202etac", "the \\u2066{}\\u2069", "می‌خواهم"))
    assert not {"\u202e", "\u2066", "\u2069"} & set(said)


def test_suffixes_of_files_that_are_no_pictures_are_shown_on_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.\x1b[2J\n"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    code, said = run(monkeypatch, capsys, "manifest", "build", tmp_path / "photos", "--output", tmp_path / "m.csv")
    assert (code, len(said.splitlines())) == (0, 2)
    assert all(line == one_line(line) for line in said.split("\n"))


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", "..", ".hidden", "a\\0b", "a" * 300, "\\e[2J"])
def test_the_name_of_a_vocabulary_names_no_file_elsewhere(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "words.yaml").write_text(f'name: "{name}"\nclasses: [a]\n')
    before = sorted(tmp_path.rglob("*"))
    options = ["--vocabulary", tmp_path / "words.yaml", "--model", "escnet-nano", "--output", tmp_path / "out"]
    assert_refused(*run(monkeypatch, capsys, "annotate", tmp_path / "photos", *options))
    assert sorted(tmp_path.rglob("*")) == before
