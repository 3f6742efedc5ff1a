"""The folder of a run: begun once, gone on with by the same recipe alone, never mixed with anything else."""

import json
import os

import pytest

from pipeline.training import run_folder
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.config import TrainingConfig
from schemas.errors import InputError, JobFailedError, ModelError, OutputError

CONFIG = TrainingConfig(
    name="n",
    model={"preset": "escnet-nano"},
    stages=[{"name": "one", "steps": 10, "data": [{"demo_world": "scenes"}]}],
)
IDENTITY = {"seed": 0, "stages": [{"steps": 10}]}
OTHER = {"seed": 0, "stages": [{"steps": 20}]}


def begin(folder, identity=IDENTITY, **more):
    return run_folder.begin(str(folder), CONFIG, identity, **more)


def test_a_run_is_written_down_and_goes_on_from_its_last_state(tmp_path):
    assert begin(tmp_path) == 0
    written = json.loads((tmp_path / "training.json").read_text())
    assert written["recipe"]["stages"][0]["steps"] == 10
    assert written["identity"] == IDENTITY
    assert "torch" in written["versions"]
    Checkpoints(str(tmp_path), IDENTITY).save(5, {"step": 5})
    assert begin(tmp_path) == 5


def test_another_recipe_is_refused_once_there_is_a_state(tmp_path):
    begin(tmp_path)
    assert begin(tmp_path, OTHER) == 0
    Checkpoints(str(tmp_path), OTHER).save(5, {"step": 5})
    with pytest.raises(OutputError, match=r"holds another run \(stages\.0\.steps: 20 there, 10 now\); choose another"):
        begin(tmp_path)
    assert begin(tmp_path, overwrite=True) == 0
    assert Checkpoints(str(tmp_path), IDENTITY).load() is None


def test_a_run_is_finished_once_its_network_is_there(tmp_path):
    begin(tmp_path)
    assert not run_folder.is_finished(str(tmp_path), CONFIG, IDENTITY)
    (tmp_path / "n.safetensors").write_text("weights")
    (tmp_path / "curves.csv").write_text("step")
    assert run_folder.is_finished(str(tmp_path), CONFIG, IDENTITY)
    with pytest.raises(OutputError, match=r"holds another run \(stages\.0\.steps: 10 there, 20 now\); choose another"):
        run_folder.is_finished(str(tmp_path), CONFIG, OTHER)
    assert begin(tmp_path, overwrite=True) == 0
    assert sorted(os.listdir(tmp_path)) == ["training.json"]


def test_a_network_that_nothing_tells_of_is_another_run_s(tmp_path):
    (tmp_path / "n.safetensors").write_text("weights")
    with pytest.raises(OutputError, match=r"holds another run \(no training\.json there\)"):
        run_folder.is_finished(str(tmp_path), CONFIG, IDENTITY)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("key", ["checkpoint", "clip_from"])
def test_a_run_does_not_start_from_the_file_that_it_ends_with(tmp_path, monkeypatch, key, overwrite):
    (tmp_path / "run").mkdir()
    begin(tmp_path / "run")
    (tmp_path / "run" / "n.safetensors").write_text("weights")
    monkeypatch.chdir(tmp_path)
    preset = {"preset": "escnet-nano"} if key == "clip_from" else {}
    config = TrainingConfig(
        name="n", model=preset | {key: "run/n.safetensors"}, stages=CONFIG.model_dump(mode="json")["stages"]
    )
    with pytest.raises(
        OutputError, match=rf"^model\.{key}: found run/n\.safetensors, the file that this run ends with"
    ):
        run_folder.begin(str(tmp_path / "run"), config, IDENTITY, overwrite=overwrite)
    assert (tmp_path / "run" / "n.safetensors").read_text() == "weights"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds something else \(thesis\.tex\) and no training\.json"):
        begin(tmp_path, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_damaged_record_is_one_line(tmp_path):
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(OutputError, match=r"training\.json: cannot be read; begin anew with --overwrite"):
        begin(tmp_path)


def test_a_state_of_another_run_is_refused_even_beside_the_right_record(tmp_path):
    begin(tmp_path)
    Checkpoints(str(tmp_path), OTHER).save(5, {"step": 5})
    with pytest.raises(ModelError, match=r"the state of another run \(stages\.0\.steps: 20 there, 10 now\)"):
        Checkpoints(str(tmp_path), IDENTITY).load()


def test_word_passes_between_driver_and_workers_and_is_forgotten(tmp_path):
    folder = str(tmp_path)
    assert (run_folder.is_asked_to_stop(folder), run_folder.found_failure(folder)) == (False, None)
    run_folder.ask_to_stop(folder)
    run_folder.leave_failure(folder, ModelError("loss nan"))
    failure = run_folder.found_failure(folder)
    assert run_folder.is_asked_to_stop(folder)
    assert (type(failure), str(failure)) == (ModelError, "loss nan")
    run_folder.leave_failure(folder, JobFailedError("memory"))
    assert type(run_folder.found_failure(folder)) is JobFailedError
    run_folder.forget_messages(folder)
    assert os.listdir(tmp_path) == []


def test_object_storage_is_refused_as_an_output():
    with pytest.raises(InputError, match="s3://bucket/run: training writes to a local folder"):
        run_folder.run_folder_path("s3://bucket/run")


def test_what_a_killed_writer_left_goes_with_the_next_run(tmp_path):
    begin(tmp_path)
    (tmp_path / f".{'0' * 32}.partial").write_bytes(b"half a picture")
    begin(tmp_path)
    assert [path.name for path in tmp_path.glob(".*.partial")] == []
