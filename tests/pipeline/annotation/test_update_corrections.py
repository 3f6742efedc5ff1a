"""Corrections by people through an update; shards are labelled in this process by a stand-in."""

import datetime
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.annotation.summary import summary_lines
from pipeline.annotation.update_corrections import TakenCorrections
from pipeline.output.overrides import Overrides, mask_classes, write_overrides
from pipeline.storage import StorageOptions
from pipeline.vocabularies import load_vocabulary
from schemas.errors import OutputError, StoppedError
from schemas.overrides import Override
from tests.pipeline.small_jobs import World

STORAGE = StorageOptions()


@pytest.fixture
def old(world, tmp_path) -> Path:
    """Six pictures labelled, of which three are corrected, one of them twice."""
    world.annotate(tmp_path / "old")
    correct(world, tmp_path / "old", {"0": 0, "1": 0, "2": 1}, day=1)
    correct(world, tmp_path / "old", {"0": 1}, day=2)
    return tmp_path / "old"


def correct(world: World, output: Path, class_of: dict[str, int], day: int) -> None:
    vocabulary = load_vocabulary(str(world.folder / "w.yaml"), STORAGE)
    rows = []
    for name, class_id in class_of.items():
        mask = np.full((4, 6), class_id, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "png")
        time = datetime.datetime(2026, 1, day, tzinfo=datetime.UTC)
        classes, ignored = mask_classes(mask, vocabulary)
        rows.append(Override(f"{name}.png", "w", 6, 4, buffer.getvalue(), classes, ignored, "ada", time, "tool"))
    write_overrides(rows, str(output), STORAGE)


def corrections(output: Path) -> dict[str, int]:
    """Of each corrected picture the class that counts."""
    found = Overrides(str(output), STORAGE)
    of = {f"{i}.png": found.get("w", f"{i}.png") for i in range(6)}
    return {image_id: each.classes[0]["class_id"] for image_id, each in of.items() if each is not None}


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("overrides/*")}


def people(report) -> list[str]:
    return [line for line in summary_lines(report) if line.startswith("  people:")]


def test_where_no_picture_changed_corrections_are_copied_byte_for_byte(world, old, tmp_path):
    before = files(old)
    report = world.annotate(tmp_path / "new", update=str(old))
    assert files(tmp_path / "new") == files(old) == before
    assert report.corrections == TakenCorrections(4, 0)
    assert people(report) == ["  people:  4 corrections taken over"]
    again = world.annotate(tmp_path / "new", update=str(old))
    assert (files(tmp_path / "new"), people(again)) == (before, [])


def test_corrections_of_pictures_that_changed_or_are_gone_stay_behind(world, old, tmp_path):
    world.draw("1", 40, (64, 64))
    world.erase("2")
    report = world.annotate(tmp_path / "new", update=str(old))
    assert corrections(tmp_path / "new") == {"0.png": 1}
    assert people(report) == ["  people:  2 corrections taken over, 2 not: their picture or its classes changed"]
    assert corrections(old) == {"0.png": 1, "1.png": 0, "2.png": 1}


def test_corrections_hold_under_other_words_as_long_as_their_own_classes_do(world, old, tmp_path):
    """The shards are all labelled again, since the words changed; class 1 is another one now."""
    (tmp_path / "w.yaml").write_text("name: w\nclasses: [even, strange, new]\n")
    report = world.annotate(tmp_path / "new", update=str(old))
    assert corrections(tmp_path / "new") == {"1.png": 0}  # of 0.png the latest does not, and it put aside the first
    assert report.n_shards_taken_over == 0
    assert report.corrections == TakenCorrections(1, 3)


@pytest.mark.parametrize(
    "words",
    [
        "name: w\nignore_id: 65535\nclasses: [even, odd]\n",
        "name: w\nlevel: parent\nclasses: [{id: 0, name: even}, {id: 1, name: odd, parent: even}]\n",
        "name: other\nclasses: [even, odd]\n",
    ],
)
def test_corrections_whose_masks_would_mean_something_else_stay_behind(world, old, tmp_path, words):
    (tmp_path / "w.yaml").write_text(words)
    report = world.annotate(tmp_path / "new", update=str(old))
    assert files(tmp_path / "new") == {}
    assert report.corrections == TakenCorrections(0, 4)


def test_an_update_that_was_stopped_has_them_already_and_keeps_newer_ones(world, old, tmp_path, labelling):
    world.draw("5", 41, (64, 64))
    labelling.stop_after = 0
    with pytest.raises(StoppedError):
        world.annotate(tmp_path / "new", update=str(old))
    assert corrections(tmp_path / "new") == {"0.png": 1, "1.png": 0, "2.png": 1}
    correct(world, tmp_path / "new", {"0": 0}, day=3)
    labelling.stop_after = 1000
    world.annotate(tmp_path / "new", update=str(old))
    assert corrections(tmp_path / "new") == {"0.png": 0, "1.png": 0, "2.png": 1}


def test_a_damaged_file_of_corrections_is_one_line(world, old, tmp_path):
    next(iter((old / "overrides").iterdir())).write_bytes(b"no parquet")
    with pytest.raises(OutputError, match=r"overrides/.*: found Parquet that cannot be read, expected a file of corr"):
        world.annotate(tmp_path / "new", update=str(old))


def test_what_is_taken_over_is_an_override_file(world, old, tmp_path):
    world.erase("2")
    world.annotate(tmp_path / "new", update=str(old))
    there = [pq.ParquetFile(path).schema_arrow for path in sorted((tmp_path / "new" / "overrides").iterdir())]
    assert there == [pq.ParquetFile(path).schema_arrow for path in sorted((old / "overrides").iterdir())]


def test_corrections_go_to_object_storage_and_back(world, old, tmp_path, s3):
    world.annotate(s3.uri("new"), update=str(old))
    keys = s3.keys()
    names = [key.removeprefix("new/overrides/") for key in keys if key.startswith("new/overrides/")]
    assert {name: s3.get(f"new/overrides/{name}") for name in names} == files(old)
    world.annotate(tmp_path / "third", update=s3.uri("new"))
    assert files(tmp_path / "third") == files(old)
