"""`escnet bench` as a user meets it."""

import json
import sys

import pytest

from escnet.models import bundled_weights
from jobs.main import main
from tests.e2e.command import escnet

NANO = ("--model", "escnet-nano")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*NANO, "--classes", "20;150"), "'20;150': expected whole numbers from 1 with commas between them"),
        ((*NANO, "--classes", "0"), "'0': expected whole numbers from 1"),
        ((*NANO, "--views", "double"), "'double': expected one or several of single, sliding"),
        ((*NANO, "--preselect", "32,none"), "found 'none', expected a whole number of 2 or more, or off"),
        ((*NANO, "--size", "640"), "'640': expected WIDTHxHEIGHT in pixels"),
        ((*NANO, "--json", "taken.json"), "taken.json: already there"),
        ((*NANO, "--overwrite"), "--overwrite goes with --json FILE"),
        ((*NANO, "--device", "cuda"), "--device cuda: found no GPU that torch can use"),
        ((*NANO, "--device", "cpu", "--dtype", "float16"), "--dtype float16 needs a GPU"),
        ((*NANO, "--device", "cpu", "--classes", "9999"), "9999 classes: there are 1,"),
        (("--model", "escnet-b16",), "escnet-b16: no weights come with this preset"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr("pipeline.bench.devices.local_gpus", lambda: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.json").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["escnet", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, said in capsys.readouterr().err) == (2, True)
    assert (tmp_path / "taken.json").read_text() == "mine"


def test_a_bench_measures_a_model_in_a_bucket_by_classes_and_a_job_by_stage(tmp_path, s3):
    file = tmp_path / "bench.json"
    model = s3.put("models/mine.safetensors", bundled_weights("escnet-nano").read_bytes())
    shown = escnet(
        "bench", "--model", model, "--device", "cpu", "--classes", "2", "--views", "single", "--size", "64x48",
        "--repeat", 1, "--pictures", 4, "--json", file,
    )  # fmt: skip
    found = json.loads(file.read_text())
    assert found["model_name"] == model
    assert [row["classes"] for row in found["model"]] == [2]
    assert all(row["seconds_per_image"] > 0 and row["peak_memory_mib"] > 0 for row in found["model"])
    assert [row["stage"] for row in found["pipeline"]][:3] == ["fetch", "memory", "decode"]
    assert found["job"]["stages"]["n_segmented"] == 4
    assert {"torch", "ray", "python"} <= found["versions"].keys()
    assert "| classes | views  | dtype   |" in shown.stdout
    assert "1 of 1: 2 classes (at most 32 preselected), single, float32, 64 x 48" in shown.stderr
