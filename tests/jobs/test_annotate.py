"""Wrong input of `escnet annotate`: one clear line and exit code 2, before any work or Ray is started."""

import sys

import pytest
from PIL import Image

from jobs.main import main

NANO = ["--model", "escnet-nano", "--allow-random-weights"]
WORDS = ["--vocabulary", "pascal-voc-20"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one picture, which is also where the command runs."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "readme.md").write_text("no picture")
    (tmp_path / "two.csv").write_text("image_id,uri\nsame,photos/a.png\nsame,photos/b.png\n")
    (tmp_path / "nothing.csv").write_text("name\n1\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "twins.yaml").write_text("name: twins\nclasses:\n- {id: 1, name: cat}\n- {id: 1, name: dog}\n")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("do not touch")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, arguments):
    """Exit code and what was written to the terminal."""
    monkeypatch.setattr(sys, "argv", ["escnet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone", *WORDS, *NANO], "gone: not found"),
        (["empty", *WORDS, *NANO], "empty: no pictures there; found nothing"),
        (["texts", *WORDS, *NANO], "texts: no pictures there; found 1 .md"),
        (["two.csv", *WORDS, *NANO], "image_id 'same' stands for two pictures"),
        (["nothing.csv", *WORDS, *NANO], "nothing.csv: "),
        (["broken.parquet", *WORDS, *NANO], "broken.parquet: "),
        (["photos", "--vocabulary", "ade20k-15", *NANO], "did you mean 'ade20k-150'"),
        (["photos", "--vocabulary", "gone.yaml", *NANO], "gone.yaml: no such file"),
        (["photos", "--vocabulary", "photos", *NANO], "photos: is a folder, expected a file"),
        (["photos", "--vocabulary", "photos/a.png", *NANO], "photos/a.png: is not UTF-8 text"),
        (["photos", "--vocabulary", "twins.yaml", *NANO], "twins.yaml, line 4: "),
        (["photos", *WORDS, *WORDS, *NANO], "a second vocabulary named 'pascal-voc-20'"),
        (["photos", *WORDS, "--model", "escnet-b16"], "--allow-random-weights"),
        (["photos", *WORDS, "--model", "escnet-huge"], "escnet-huge: neither a preset"),
        (["photos", *WORDS, "--model", "model.safetensors"], "model.safetensors: "),
        (["photos", *WORDS, "--model", "photos"], "photos: "),
        (["photos", *WORDS, *NANO, "--actors", "9999"], "9999 actors with 1 CPU and 0 GPU each do not fit"),
        (["photos", *WORDS, *NANO, "--cpus-per-actor", "9999"], "an actor with 9999 CPU and 0 GPU fits no node"),
        (["photos", *WORDS, *NANO, "--gpus-per-actor", "64"], "an actor with 1 CPU and 64 GPU fits no node"),
        (["photos", *WORDS, *NANO, "--dtype", "float16", "--gpus-per-actor", "0"], "float16 needs a GPU"),
        (["photos", *WORDS, *NANO, "--limit", "0"], "Invalid value for '--limit'"),
        (["photos", *WORDS, *NANO, "--max-failed", "2"], "Invalid value for '--max-failed'"),
        (["photos", *WORDS, *NANO, "--max-failed", "nan"], "--max-failed: found `nan`"),
        (["photos", *WORDS, *NANO, "--views", "double"], "Invalid value for '--views'"),
        (["photos", *WORDS, *NANO, "--preselect", "1"], "found '1', expected a whole number of 2 or more, or off"),
        (["photos", *WORDS, *NANO, "--preselect", "none"], "found 'none', expected a whole number"),
        (["photos", *WORDS, *NANO, "--limitt", "1"], "No such option"),
        (["photos", *WORDS, *NANO, "--job", "gone.yaml"], "gone.yaml: cannot be read as a job file"),
        (["photos", *WORDS, *NANO, "--image-root", "photos"], "none of the sources is a COCO .json"),
        (["ftp9://host/photos", *WORDS, *NANO], "unknown scheme ftp9://"),
        (["photos", *WORDS], "Missing option '--model'"),
        ([*WORDS, *NANO], "Missing argument"),
    ],
)
def test_wrong_input_is_one_clear_line_and_leaves_no_job(folder, monkeypatch, capsys, arguments, said):
    code, text = run(monkeypatch, capsys, ["annotate", *arguments, "--output", "out"])
    assert code == 2, text
    assert said in text
    assert "Traceback" not in text
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, text
    assert not (folder / "out" / "job.json").exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("mine", "holds something else (thesis.doc)"),
        ("photos", "holds something else (a.png)"),
        ("two.csv", "a file stands where a folder is needed"),
        ("two.csv/out", "a file stands where a folder is needed"),
        ("", "--output: found ''"),
        ("/proc/nowhere/out", "/proc/nowhere: not found"),
    ],
)
def test_an_output_that_cannot_be_used_is_left_as_it_is(folder, monkeypatch, capsys, output, said):
    before = sorted(path for path in folder.rglob("*"))
    code, text = run(monkeypatch, capsys, ["annotate", "photos", *WORDS, *NANO, "--output", output])
    assert code == 2, text
    assert said in text
    assert sorted(path for path in folder.rglob("*")) == before


@pytest.mark.usefixtures("folder")
def test_an_unexpected_error_is_one_line_unless_debugging(monkeypatch, capsys):
    def fail(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr("pipeline.annotation.annotate.annotate", fail)
    arguments = ["annotate", "photos", *WORDS, *NANO, "--output", "out"]
    assert run(monkeypatch, capsys, arguments) == (
        1,
        "Error: unexpected KeyError: 'a bug' (add --debug for the traceback)\n",
    )
    monkeypatch.setattr(sys, "argv", ["escnet", *arguments, "--debug"])
    with pytest.raises(KeyError):
        main()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shard-size: 2.7", "job.yaml, line 4: shard-size: '2.7' is not a valid"),
        ("limit: true", "job.yaml"),
        ("shard-size: 0", "job.yaml, line 4: shard-size: 0 is not in the range x>=1"),
        ("model: [escnet-nano]", "job.yaml"),
        ("allow-random-weights: maybe", "job.yaml"),
        ("endpoint-url: 127.0.0.1:9000", "job.yaml, line 4: endpoint-url: '127"),
    ],
)
def test_a_wrong_value_in_a_job_file_is_one_clear_line(folder, monkeypatch, capsys, line, said):
    (folder / "job.yaml").write_text(f"sources: [photos]\nvocabulary: pascal-voc-20\noutput: out\n{line}\n")
    code, text = run(monkeypatch, capsys, ["annotate", "--job", "job.yaml", *NANO])
    assert code == 2, text
    assert said in text
