"""A folder of the demo world: the same bytes every time, and what the rest of the program reads from it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.demo_world import folder
from pipeline.demo_world.folder import world_scene, write_world
from pipeline.demo_world.names import NAMES, OBJECTS, draw_names, heldout_objects, world_vocabulary
from pipeline.evaluation.ground_truth import open_ground_truth, read_truth
from pipeline.sources import SourceSummary, list_sources
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.errors import InputError, OutputError

LOCAL = StorageOptions()


def write(output: Path, **options):
    return write_world(str(output), **{"n_scenes": 3, "seed": 4, "side_px": 64, **options})


def contents(output: Path) -> dict[str, bytes]:
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path):
    for name, seed in (("a", 4), ("again", 4), ("other", 5)):
        write(tmp_path / name, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in ("a", "again", "other"))
    assert list(first) == [
        "images/00000.jpg", "images/00001.jpg", "images/00002.jpg", "manifest.parquet",
        "masks/00000.png", "masks/00001.png", "masks/00002.png", "vocabulary.yaml",
    ]  # fmt: skip
    assert again == first
    assert list(other) == list(first)
    assert all(other[name] != data for name, data in first.items())


def test_the_same_object_lies_elsewhere_in_other_scenes_and_other_seeds():
    pictures = {world_scene(OBJECTS[:1], seed, number, 64).picture.tobytes() for seed in (1, 2) for number in (0, 1)}
    assert len(pictures) == 4


def test_more_scenes_change_none_of_the_first(tmp_path):
    write(tmp_path / "few")
    write(tmp_path / "more", n_scenes=5)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert {name: data for name, data in more.items() if name in few and name != "manifest.parquet"} == {
        name: data for name, data in few.items() if name != "manifest.parquet"
    }
    assert len(more) == len(few) + 4


def test_pictures_and_masks_are_those_of_the_scenes(tmp_path):
    write(tmp_path / "world")
    for number in range(3):
        scene = world_scene(draw_names(4, 36), 4, number, 64)
        with Image.open(tmp_path / f"world/images/{number:05}.jpg") as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (64, 64))
            assert np.abs(np.asarray(picture).astype(int) - scene.picture).mean() < 3.5
        with Image.open(tmp_path / f"world/masks/{number:05}.png") as mask:
            assert (mask.format, mask.mode) == ("PNG", "I;16")
            np.testing.assert_array_equal(np.asarray(mask), scene.mask)


def test_the_manifest_may_be_moved_with_its_folder_and_has_the_ids_of_the_folder_of_pictures(tmp_path):
    write(tmp_path / "world")
    (tmp_path / "world").rename(tmp_path / "moved")
    ((first, *others),) = read_manifest(str(tmp_path / "moved/manifest.parquet"), LOCAL)
    assert first.image_id == "00000.jpg"
    assert (first.uri, first.mask_uri) == (f"{tmp_path}/moved/images/00000.jpg", f"{tmp_path}/moved/masks/00000.png")
    assert (first.width, first.height, first.size_bytes) == (64, 64, Path(first.uri).stat().st_size)
    listed = list_sources([str(tmp_path / "moved/images")], LOCAL, SourceSummary())
    assert [row.image_id for row in listed] == [row.image_id for row in (first, *others)]


def test_evaluation_finds_and_reads_every_mask(tmp_path):
    written = write(tmp_path / "world", n_scenes=10)
    vocabulary = load_vocabulary(str(tmp_path / "world/vocabulary.yaml"))
    assert vocabulary == written.vocabulary
    truth = open_ground_truth(str(tmp_path / "world/manifest.parquet"), LOCAL)
    pixels: Counter[int] = Counter()
    for row in pq.read_table(tmp_path / "world/manifest.parquet").to_pylist():
        mask = read_truth(truth.mask_uri(row["image_id"]), LOCAL, vocabulary, size_hw=(64, 64))
        pixels.update(mask.ravel().tolist())
    assert pixels == written.pixels
    assert set(pixels) <= {each.id for each in vocabulary.classes}


def test_half_of_the_objects_are_held_out_among_at_least_forty_classes(tmp_path):
    written = write(tmp_path / "world")
    classes = written.vocabulary.classes
    assert len(classes) == 48
    assert sum(each.heldout for each in classes) == 18
    assert sum(each in heldout_objects() for each in written.objects) == 18


def test_all_names_change_the_vocabulary_alone(tmp_path):
    few, every = write(tmp_path / "few"), write(tmp_path / "every", all_names=True)
    assert [each.name for each in every.vocabulary.classes] == list(NAMES)
    assert set(few.vocabulary.classes) < set(every.vocabulary.classes)
    first, second = contents(tmp_path / "few"), contents(tmp_path / "every")
    assert {name for name in first if first[name] != second[name]} == {"vocabulary.yaml"}


def test_synonyms_and_the_number_of_objects_reach_the_vocabulary(tmp_path):
    written = write(tmp_path / "world", synonyms=True, n_objects=2)
    found = load_vocabulary(str(tmp_path / "world/vocabulary.yaml"))
    assert found == world_vocabulary(written.objects, name="demo-world", synonyms=True)
    assert (len(found.classes), found.classes[0].prompts) == (14, ("grass", "lawn"))


def test_every_object_is_asked_for_equally_often():
    objects = OBJECTS[:36]
    names = [folder._names_of_scene(objects, 9, number) for number in range(72)]
    assert [len(each) for each in names] == [2, 3, 4, 5] * 18
    assert Counter(each for scene in names for each in scene) == dict.fromkeys(objects, 7)
    assert names != [folder._names_of_scene(objects, 8, number) for number in range(72)]


def test_a_world_in_object_storage_is_read_like_a_local_one(s3, tmp_path):
    write(tmp_path / "world", n_scenes=1)
    output = f"s3://{s3.name}/a/world"
    written = write_world(output, n_scenes=1, seed=4, side_px=64)
    ((row,),) = read_manifest(f"{output}/manifest.parquet", LOCAL)
    assert row.mask_uri == f"{output}/masks/00000.png"
    local = np.asarray(Image.open(tmp_path / "world/masks/00000.png"))
    np.testing.assert_array_equal(read_truth(row.mask_uri, LOCAL, written.vocabulary), local)
    with pytest.raises(OutputError, match=r"^s3://.*/a/world: is not empty \(images, manifest\.parquet, masks and 1"):
        write_world(output, n_scenes=1, seed=4, side_px=64)


def test_an_output_that_holds_anything_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"is not empty \(notes\.txt\); choose a new or empty folder for --output$"):
        write(tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file: is a file; choose a new folder"):
        write(tmp_path / "file")


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "world").mkdir()
    (tmp_path / "world/.DS_Store").write_bytes(b"x")
    write(tmp_path / "world", n_scenes=1)
    assert (tmp_path / "world/manifest.parquet").exists()


def test_two_runs_into_one_folder_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_refuse_taken", lambda *_: None)  # both looked before either wrote
    write(tmp_path, seed=1)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"vocabulary\.yaml: was written by another run meanwhile"):
        write(tmp_path, seed=2)
    assert contents(tmp_path) == before


def test_a_number_of_objects_that_cannot_be_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="--n-objects 7"):
        write(tmp_path / "world", n_objects=7)
    assert not (tmp_path / "world").exists()


def test_a_stopped_run_leaves_no_manifest(tmp_path, monkeypatch):
    encode = folder.encode_mask

    def stop(mask):
        if (tmp_path / "world/masks/00000.png").exists():
            raise KeyboardInterrupt
        return encode(mask)

    monkeypatch.setattr(folder, "encode_mask", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "world")
    assert sorted(contents(tmp_path / "world")) == [
        "images/00000.jpg", "images/00001.jpg", "masks/00000.png", "vocabulary.yaml",
    ]  # fmt: skip
