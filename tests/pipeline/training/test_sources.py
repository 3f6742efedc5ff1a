"""Samples of labelled pictures: the same by number, every picture once, the same box for picture and mask."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.output.plan import read_shard_rows
from pipeline.sources.manifest import write_manifest
from pipeline.training.config import DataSource, TrainingConfig, Validation
from pipeline.training.pictures import LabelPictures, ManifestPictures
from pipeline.training.samples import Sample
from pipeline.training.sources import CroppedPictures, open_sources, open_validation
from schemas.errors import InputError
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_config
from tests.pipeline.labelled_output import Answer, Failure, save_mask, write_output
from tests.pipeline.training.pictures_of import STORAGE, write_pictures

WORDS = Vocabulary(name="words", classes=["dark", "bright"], distractors=["dust"])


class Coded:
    """Pictures whose colour says the class of every pixel, and the picture's place."""

    vocabulary = Vocabulary(name="coded", classes=[f"class {k}" for k in range(200)])
    fingerprint = "coded"

    def __len__(self):
        return 5

    def read(self, place):
        mask = np.repeat(np.repeat(np.random.default_rng(place).integers(0, 200, (6, 9)), 16, 0), 16, 1)
        picture = np.stack([mask, np.full_like(mask, place), mask], axis=-1)
        return Sample(picture.astype(np.uint8), mask.astype(np.int32))


def cropped(data=None, seed=3, side=64, pictures=None) -> CroppedPictures:
    plain = {"manifest": "m", "vocabulary": "v", "color_jitter": 0.0}
    return CroppedPictures(pictures or Coded(), DataSource(**(plain | (data or {}))), seed, side)


def manifest_pictures(manifest, **more) -> ManifestPictures:
    words = str(manifest.parent / "words.txt")
    return ManifestPictures(DataSource(**({"manifest": str(manifest), "vocabulary": words} | more)), STORAGE)


def test_a_sample_is_the_same_on_every_call_and_in_every_object():
    one, other = cropped({"color_jitter": 0.3}), cropped({"color_jitter": 0.3})
    later = [one.sample(number) for number in (7, 3, 12)]
    assert [np.array_equal(a.picture, other.sample(n).picture) for a, n in zip(later, (7, 3, 12), strict=True)] == [
        True
    ] * 3
    assert not np.array_equal(cropped(seed=4).sample(3).picture, cropped().sample(3).picture)


def test_every_picture_comes_once_before_any_comes_again_in_another_order():
    places = [int(cropped().sample(number).picture[0, 0, 1]) for number in range(15)]
    epochs = [places[i : i + 5] for i in (0, 5, 10)]
    assert [sorted(each) for each in epochs] == [[0, 1, 2, 3, 4]] * 3
    assert len(set(map(tuple, epochs))) > 1


def test_picture_and_mask_have_the_same_box_and_flip():
    agree = []
    for number in range(20):
        sample = cropped().sample(number)
        agree.append((np.abs(sample.picture[..., 0].astype(int) - sample.mask) <= 1).mean())
    assert min(agree) > 0.7  # all but the blended edges of the fields


def test_crops_are_between_the_smallest_and_all_of_the_shorter_side():
    def n_fields(smallest):  # of 16 px, along the side of a crop
        return [np.count_nonzero(np.diff(cropped({"smallest_crop": smallest}).sample(n).mask[5])) for n in range(30)]

    assert min(n_fields(1.0)) >= 5  # 96 px
    assert min(n_fields(0.1)) <= 1


def test_colours_change_by_as_much_as_is_asked_for():
    plain, coloured = cropped().sample(1), cropped({"color_jitter": 0.5}).sample(1)
    assert np.array_equal(plain.mask, coloured.mask)
    assert not np.array_equal(plain.picture, coloured.picture)


def test_a_split_of_a_manifest_is_read_whole_with_its_ignored_pixels(tmp_path):
    pictures = manifest_pictures(write_pictures(tmp_path), split="val")
    assert len(pictures) == 1
    sample = pictures.read(0)
    expected = np.array(Image.open(tmp_path / "masks" / "5.png")).astype(int)
    expected[0] = -1
    assert np.array_equal(sample.mask, expected)
    assert np.array_equal(sample.picture, np.array(Image.open(tmp_path / "pictures" / "5.png")))


def test_rows_of_another_vocabulary_are_left_out(tmp_path):
    write_pictures(tmp_path)
    rows = [
        ManifestRow(f"{i}", f"pictures/{i}.png", mask_uri=f"masks/{i}.png", vocabulary=v)
        for i, v in enumerate(("words", "other"))
    ]
    write_manifest(rows, str(tmp_path / "both.csv"), STORAGE)
    assert len(manifest_pictures(tmp_path / "both.csv")) == 1


def test_pictures_have_another_fingerprint_with_other_pictures_or_words(tmp_path):
    manifest = write_pictures(tmp_path)
    found = {manifest_pictures(manifest).fingerprint, manifest_pictures(manifest, split="train").fingerprint}
    found |= {manifest_pictures(manifest, vocabulary="pascal-voc-20").fingerprint}
    assert len(found) == 3


def break_mask_size(folder):
    save_mask(folder / "masks" / "0.png", np.zeros((10, 10), np.uint8))


def break_ids(folder):
    save_mask(folder / "masks" / "0.png", np.full((40, 56), 9, np.uint8))


def break_picture(folder):
    (folder / "pictures" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (break_mask_size, "0.png: the mask is 10 x 10, but picture '0.png' is 56 x 40; make them the same size"),
        (break_ids, "masks/0.png: holds 9 (2,240 pixels), no ids of vocabulary 'words'"),
        (lambda folder: (folder / "masks" / "0.png").unlink(), "masks/0.png: no such file"),
        (lambda folder: (folder / "pictures" / "0.png").unlink(), "picture '0.png' cannot be read: "),
        (break_picture, "picture '0.png' cannot be read: PNG file"),
    ],
)
def test_a_picture_or_mask_that_cannot_be_used_is_one_line_that_names_it(tmp_path, harm, said):
    pictures = manifest_pictures(write_pictures(tmp_path))
    harm(tmp_path)
    with pytest.raises(InputError) as caught:
        pictures.read(0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"split": "trian"}, "m.csv: no labelled picture of split 'trian'; did you mean 'train'?; found train (1 pict"),
        ({}, "m.csv: picture 'b' has no mask_uri"),
        ({"vocabulary": "wrods"}, "wrods: no such file, and no bundled vocabulary"),
        ({"manifest": "gone.csv"}, "gone.csv"),
    ],
)
def test_a_manifest_that_cannot_be_trained_on_is_one_line(tmp_path, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("dark\nbright")
    (tmp_path / "m.csv").write_text("image_id,uri,mask_uri,split\na,a.png,a.png,train\nb,b.png,,val\n")
    with pytest.raises(InputError) as caught:
        ManifestPictures(DataSource(**({"manifest": "m.csv", "vocabulary": "words.txt"} | more)), STORAGE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """An output with two labelled pictures and a failed one; code -1 is the distractor, which becomes ignore."""
    monkeypatch.chdir(tmp_path)
    winner = np.array([[0, 1, -1, 1]] * 4)
    answers = {"a.png": Answer(winner), "b.png": Failure(), "c.png": Answer(1 - np.abs(winner))}
    write_output(str(tmp_path / "labels"), {"words": answers}, [WORDS])
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path / "labels"


def test_labels_are_read_without_failed_pictures_and_ignored_pixels(labels):
    pictures = LabelPictures(DataSource(labels=str(labels)), STORAGE)
    assert len(pictures) == 2
    assert pictures.read(1).mask.tolist() == [[1, 0, 0, 0]] * 4
    assert pictures.read(0).mask.tolist() == [[0, 1, -1, 1]] * 4
    counted = LabelPictures(DataSource(labels=str(labels)), STORAGE, unpacks=False)
    assert (len(counted), counted.fingerprint) == (2, pictures.fingerprint)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"vocabulary": "wrods"}, "labels: has no labels of vocabulary 'wrods'; did you mean 'words'?; found words"),
        ({"labels": "photos"}, "photos: found no job.json"),
        ({"labels": "nothing"}, "nothing: found no job.json, expected the --output of `escnet annotate`"),
        ({"split": "val"}, "labels: no labelled picture of split 'val'; found none (3 pictures)"),
    ],
)
@pytest.mark.usefixtures("labels")
def test_labels_that_cannot_be_trained_on_are_one_line(data, said):
    with pytest.raises(InputError) as caught:
        LabelPictures(DataSource(**({"labels": "labels"} | data)), STORAGE)
    assert said in str(caught.value)


def test_masks_of_labels_are_on_disk_before_other_processes_read_them(labels):
    pictures = LabelPictures(DataSource(labels=str(labels)), STORAGE)
    assert os.fstat(pictures._spool.fileno()).st_size == pictures._ends[-1] > 0


@pytest.mark.parametrize("unpacks", [False, True])
def test_labels_of_pictures_in_the_manifest_itself_are_refused_when_opened(labels, monkeypatch, unpacks):
    def read_rows(*arguments):
        return [replace(row, image=b"bytes") for row in read_shard_rows(*arguments)]

    monkeypatch.setattr("pipeline.output.labelled.read_shard_rows", read_rows)
    with pytest.raises(InputError, match=r"^.*labels: picture 'a\.png' lies in the manifest itself, expected files"):
        LabelPictures(DataSource(labels=str(labels)), STORAGE, unpacks=unpacks)


def test_a_source_of_two_stages_is_opened_once_and_drawn_anew(tmp_path):
    data = {"manifest": str(write_pictures(tmp_path)), "vocabulary": str(tmp_path / "words.txt")}
    stages = [{"name": name, "steps": 1, "data": [data | {"flip": name == "a"}]} for name in "ab"]
    config = TrainingConfig(name="n", model={"preset": "escnet-nano"}, stages=stages)
    (one,), (other,) = open_sources(config, tiny_config(), STORAGE)
    assert one.pictures is other.pictures
    assert not np.array_equal(one.sample(0).picture, other.sample(0).picture)


def test_a_prompt_longer_than_the_context_is_refused(tmp_path):
    data = {"manifest": str(write_pictures(tmp_path)), "vocabulary": str(tmp_path / "words.txt")}
    (tmp_path / "words.txt").write_text("dark\nbright\n" + "very " * 80 + "long")
    config = TrainingConfig(
        name="n", model={"preset": "escnet-nano"}, stages=[{"name": "a", "steps": 1, "data": [data]}]
    )
    with pytest.raises(InputError, match=r"vocabulary words: .* tokens, expected at most 77"):
        open_sources(config, tiny_config(), STORAGE)


def test_a_vocabulary_whose_classes_are_all_held_out_is_refused(tmp_path):
    data = {"manifest": str(write_pictures(tmp_path)), "vocabulary": str(tmp_path / "words.yaml")}
    words = "- {id: 0, name: dark, heldout: true}\n- {id: 1, name: bright, heldout: true}"
    (tmp_path / "words.yaml").write_text("classes:\n" + words)
    config = TrainingConfig(
        name="n", model={"preset": "escnet-nano"}, stages=[{"name": "a", "steps": 1, "data": [data]}]
    )
    with pytest.raises(InputError, match=r"^vocabulary words: has no class to train on, expected one"):
        open_sources(config, tiny_config(), STORAGE)


def test_validation_takes_the_first_pictures_whole(tmp_path):
    data = {"manifest": str(write_pictures(tmp_path)), "vocabulary": str(tmp_path / "words.txt")}
    samples, vocabulary = open_validation(Validation(data=data, n_pictures=4), 64, STORAGE)
    assert [each.picture.shape for each in samples] == [(40, 56, 3)] * len(samples) == [(40, 56, 3)] * 4
    assert [each.name for each in vocabulary.classes] == ["dark", "bright"]


def test_validation_on_the_demo_world_has_held_out_names():
    samples, vocabulary = open_validation(Validation(data={"demo_world": "scenes"}, n_pictures=2), 96, STORAGE)
    assert [each.picture.shape for each in samples] == [(96, 96, 3)] * 2
    assert sum(each.heldout for each in vocabulary.classes) == 18
