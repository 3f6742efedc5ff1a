"""Real photographs labelled by the real command, compared with ground truth of their own."""

import io
import json
import shutil

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.vocabularies import load_vocabulary
from tests.e2e.command import annotate, escnet
from tests.pipeline.labelled_output import Answer, save_mask, write_output

N_CLASSES = 20


@pytest.fixture(scope="module")
def compared(shared_data, tmp_path_factory):
    """A folder with two labelled photographs and a broken one, and ground truth that is half what the labels say."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "photos").mkdir()
    for path in sorted((shared_data / "photos" / "images").iterdir())[:2]:
        shutil.copy(path, folder / "photos" / path.name)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    annotate(folder / "photos", "--output", folder / "labels", "--actors", 1, "--max-failed", 1)
    for row in ds.dataset(folder / "labels" / "labels").to_table().to_pylist():
        stem = row["image_id"].removesuffix(".jpg")
        if row["mask"] is None:
            save_mask(folder / "masks" / f"{stem}.png", np.zeros((10, 10), np.uint8))
            continue
        mask = np.array(Image.open(io.BytesIO(row["mask"])))
        mask[: len(mask) // 2] = (mask[: len(mask) // 2] + 1) % N_CLASSES
        save_mask(folder / "masks" / f"{stem}.png", mask)
    return folder


def test_labels_are_compared_with_masks_of_the_same_names(compared):
    done = escnet(
        "evaluate", compared / "labels", "--ground-truth", compared / "masks", "--json", "-", "--protocol", "PAS-20"
    )
    found = json.loads(done.stdout)
    assert (found["n_pictures"], found["n_failed"], found["protocol"]) == (3, 1, "PAS-20")
    assert found["pixel_accuracy"] == pytest.approx(0.5, abs=0.01)
    assert 0 < found["ece"] < 1
    said = escnet("evaluate", compared / "labels", "--ground-truth", compared / "masks").stdout.splitlines()
    assert said[-1] == "1 picture could not be labelled: all their pixels count as wrong."


def test_a_mask_of_another_size_is_one_line(compared):
    photo = sorted((compared / "photos").glob("0*.jpg"))[0]
    shutil.copytree(compared / "masks", compared / "other")
    save_mask(compared / "other" / f"{photo.stem}.png", np.zeros((10, 10), np.uint8))
    said = escnet("evaluate", compared / "labels", "--ground-truth", compared / "other", code=2).stderr
    assert f"{photo.stem}.png: the mask is 10 x 10, but the picture's labels are 640 x 480" in said


def test_a_hundred_photographs_against_their_panoptic_masks(shared_data, tmp_path):
    words = load_vocabulary(str(shared_data / "photos" / "panoptic.json"))
    document = json.loads((shared_data / "photos" / "panoptic.json").read_text())
    answers = {}
    for each in document["annotations"]:
        colors = np.asarray(Image.open(shared_data / "photos" / "panoptic" / each["file_name"])).astype(np.int32)
        segment_of = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
        winner = np.full(segment_of.shape, words.classes[0].id, np.int32)
        for segment in each["segments_info"]:
            winner[segment_of == segment["id"]] = segment["category_id"]
        winner[: len(winner) // 2] = words.classes[0].id  # the lower half of each is as it should be
        answers[each["file_name"].replace(".png", ".jpg")] = Answer(winner)
    assert len(answers) == 100
    write_output(str(tmp_path / "out"), {words.name: answers}, [words], shard_size=50)
    truth = shared_data / "photos" / "panoptic.json"
    done = escnet("evaluate", tmp_path / "out", "--ground-truth", truth, "--boundaries", "--json", "-")
    found = json.loads(done.stdout)
    assert (found["n_pictures"], found["n_without_mask"]) == (100, 0)
    assert found["n_pixels"] > 20_000_000
    assert 0.4 < found["pixel_accuracy"] < 0.7
    assert 0.3 < found["boundary_f"] < 0.9
    assert sum(each["pixels"] for each in found["confusion"]) == found["n_pixels"]
