"""The temperature fitted on labelled pictures: found again where it was made wrong, and written as a checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from escnet.checkpoint import load_checkpoint, save_checkpoint
from escnet.checkpoint_header import read_header
from escnet.models import load_model, resolve_model
from escnet.scoring import per_pixel
from escnet.segmenter import Segmenter
from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import draw_names, world_vocabulary
from pipeline.evaluation.calibration import calibrate
from pipeline.evaluation.scores import PixelCounts
from pipeline.evaluation.summary import calibration_lines
from schemas.errors import InputError, ModelError, OutputError
from schemas.job import ModelRecord
from tests.pipeline.labelled_output import Answer, Failure, save_mask, write_output

SEED, N_SCENES, TOO_HOT = 4, 8, 4.0
OBJECTS = draw_names(SEED, 2)
WORDS = world_vocabulary(OBJECTS, name="world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network whose temperature is far too high, an output of its labels, and the ground truth."""
    folder = tmp_path_factory.mktemp("calibration")
    resolved = resolve_model("escnet-nano")
    network = load_model(resolved)
    network.config = network.config.model_copy(update={"temperature": TOO_HOT})
    hot = save_checkpoint(network, folder / "hot.safetensors", read_header(resolved.path).provenance)
    (folder / "photos").mkdir()
    answers = {"broken.png": Failure()}
    for number in range(N_SCENES):
        scene = world_scene(OBJECTS, SEED, number)
        Image.fromarray(scene.picture).save(folder / "photos" / f"{number}.png")
        save_mask(folder / "masks" / f"{number}.png", scene.mask)
        answers[f"{number}.png"] = Answer(scene.mask.astype(np.int32))
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    save_mask(folder / "masks" / "broken.png", np.zeros((4, 4), np.uint8))
    model = ModelRecord(name="hot.safetensors", fingerprint=hot.fingerprint, is_random=False)
    write_output(str(folder / "out"), {"world": answers}, [WORDS], model=model)
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    """The names of the pictures in the output are relative to here."""
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("inside")
def test_a_wrong_temperature_is_put_right_and_written_as_a_new_checkpoint():
    found = calibrate("out", "masks", "cool.safetensors", model="hot.safetensors")
    assert 0.6 < found.temperature < 1.5
    assert found.temperature_before == TOO_HOT
    assert found.ece_before > 0.3
    assert found.ece < 0.03
    assert (found.n_fitted, found.n_measured, found.n_unreadable) == (4, 4, 1)
    hot, cool = load_checkpoint("hot.safetensors"), load_checkpoint("cool.safetensors")
    assert cool.config == hot.config.model_copy(update={"temperature": found.temperature})
    assert all((a == b).all() for a, b in zip(hot.parameters(), cool.parameters(), strict=True))
    header = read_header("cool.safetensors")
    assert header.fingerprint == found.fingerprint != found.calibrated == read_header("hot.safetensors").fingerprint
    assert header.is_trained
    assert header.provenance["calibration"]["pictures"] == 4
    lines = calibration_lines(found)
    assert lines[0] == "Temperature fitted on 4 pictures, calibration error measured on 4 others:"
    assert lines[2].split()[:2] == ["temperature", "4.0000"]
    assert "1 picture could not be read and took no part." in lines


@pytest.mark.usefixtures("inside")
def test_pictures_that_cannot_be_read_any_more_are_said_to_be_it(tmp_path, monkeypatch):
    shutil.copytree("out", tmp_path / "out")
    shutil.copytree("masks", tmp_path / "masks")
    shutil.copy("hot.safetensors", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="out: none of the 5 pictures to fit by can be read as the job read them"):
        calibrate("out", "masks", "cool.safetensors", model="hot.safetensors")
    assert not Path("cool.safetensors").exists()


def error_of_labels(preselect) -> float:
    """The calibration error that labels of the pictures have which `calibrate` measures, every other one."""
    segmenter = Segmenter(load_checkpoint("hot.safetensors").eval(), views="single", preselect=preselect)
    compiled, counts = segmenter.compile(WORDS), PixelCounts([each.id for each in WORDS.classes])
    for number in range(0, N_SCENES, 2):  # the picture that is broken comes first
        scene = world_scene(OBJECTS, SEED, number)
        found = segmenter(scene.picture, compiled)
        counts.update(found.winner.astype(np.uint16), scene.mask, confidence=per_pixel(found).confidence)
    return counts.scores().ece


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("preselect", [2, "off"])
def test_measured_is_the_error_of_labels_with_their_preselection(preselect):
    job = Path("out/job.json")
    record = json.loads(job.read_text())
    record["options"] |= {"preselect": preselect, "views": "single"}
    job.write_text(json.dumps(record))
    found = calibrate("out", "masks", f"cool-{preselect}.safetensors", model="hot.safetensors")
    assert found.ece_before == pytest.approx(error_of_labels(preselect), abs=1e-9)
    assert found.ece < found.ece_before / (3 if preselect == "off" else 1)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "say where it is with --model"),
        ("escnet-nano", "but the labels were made by hot.safetensors with"),
        ("gone.safetensors", "neither a preset"),
    ],
)
def test_another_model_than_that_of_the_labels_is_refused(model, said):
    with pytest.raises(ModelError, match=said):
        calibrate("out", "masks", "other.safetensors", model=model)


@pytest.mark.usefixtures("inside")
def test_a_checkpoint_that_is_there_stays():
    with pytest.raises(OutputError, match="exists already"):
        calibrate("out", "masks", "hot.safetensors", model="hot.safetensors")


def test_ground_truth_for_one_picture_is_too_little(inside):
    save_mask(inside / "one" / "1.png", world_scene(OBJECTS, SEED, 1).mask)
    with pytest.raises(InputError, match="no mask for picture"):
        calibrate("out", "one", "other.safetensors", model="hot.safetensors")
    with pytest.raises(InputError, match="has masks for 1 of the pictures; expected two at least"):
        calibrate("out", "one", "other.safetensors", model="hot.safetensors", allow_missing=True)
