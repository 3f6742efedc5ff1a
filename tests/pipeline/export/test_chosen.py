"""Exports of some pictures: those of a manifest, under the names and numbers that an export of all gives them."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.export import export_labels
from pipeline.export.formats import FORMATS
from pipeline.export.summary import export_lines
from schemas.errors import InputError, ManifestError, OutputError


def manifest(folder, *image_ids):
    path = folder / "some.csv"
    path.write_text("\n".join(["image_id,uri", *(f'"{each}",x' for each in image_ids)]) + "\n")
    return str(path)


def test_only_the_pictures_of_the_manifest_are_there_under_their_usual_names(labelled, truth, tmp_path):
    some = manifest(tmp_path, "ünï c.jpg", "a/2.jpg", "broken.jpg", "stranger.jpg")
    report = export_labels(labelled, str(tmp_path / "e"), "png", images=some)
    assert (report.n_exported, report.n_failed, report.n_unknown, report.n_waiting) == (2, 1, 1, 0)
    assert export_lines(report)[1:] == [
        "1 picture left out: labelling failed",
        "1 picture of the manifest left out: not among these labels",
    ]
    folder = tmp_path / "e" / "annotations"
    found = {str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in folder.rglob("*.png")}
    assert sorted(found) == ["a/2.jpg.png", "ünï c.png"]
    assert (found["a/2.jpg.png"] == truth["a/2.jpg"]).all()
    assert (found["ünï c.png"] == truth["ünï c.jpg"]).all()
    assert export_labels(labelled, str(tmp_path / "e"), "png", images=some) == report


def test_numbers_of_pictures_are_those_of_an_export_of_all(labelled, tmp_path):
    images = {}
    for name, some in (("all", None), ("some", manifest(tmp_path, "/etc/nul.jpg"))):
        export_labels(labelled, str(tmp_path / name), "coco-rle", images=some)
        found = json.loads((tmp_path / name / "annotations.json").read_text())["images"]
        images[name] = {image["file_name"]: image["id"] for image in found}
    assert images["some"] == {"/etc/nul.jpg": images["all"]["/etc/nul.jpg"]}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_some_pictures_of_some_shards(labelled, tmp_path, name):
    some = manifest(tmp_path, "a/2.png", "a/1.jpg")  # all of the first shard of three
    report = export_labels(labelled, str(tmp_path / "e"), name, images=some)
    assert (report.n_exported, report.n_failed, report.n_without_picture) == (2, 0, 0)
    shards = [path.name for path in (tmp_path / "e").rglob("*") if "00000" in path.name]
    assert all("000000" in each or "00000-of-00001" in each for each in shards), shards


def test_another_choice_is_another_export(labelled, tmp_path):
    export_labels(labelled, str(tmp_path / "e"), "png", images=manifest(tmp_path, "a/1.jpg"))
    with pytest.raises(OutputError, match=r"holds another export, which differs in images"):
        export_labels(labelled, str(tmp_path / "e"), "png", images=manifest(tmp_path, "a/2.jpg"))
    with pytest.raises(OutputError, match=r"holds another export, which differs in images"):
        export_labels(labelled, str(tmp_path / "e"), "png")


def test_a_manifest_without_any_of_the_pictures_is_refused_before_anything_is_written(labelled, tmp_path):
    with pytest.raises(InputError, match=r"some.csv: none of its 2 pictures is among the labels of vocabulary 'words'"):
        export_labels(labelled, str(tmp_path / "e"), "png", images=manifest(tmp_path, "x", "y"))
    with pytest.raises(ManifestError, match=r"gone\.csv"):
        export_labels(labelled, str(tmp_path / "e"), "png", images=str(tmp_path / "gone.csv"))
    assert not (tmp_path / "e").exists()
