"""Exports as a whole: going on after a stop, foreign folders, object storage, names, pictures that are gone."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.export import export_labels, png
from pipeline.export.formats import Choices
from pipeline.export.names import Names, safe_path
from pipeline.export.summary import export_lines
from pipeline.output.label_files import label_file_bytes, read_footer, read_rows
from pipeline.output.overrides import write_overrides
from schemas.errors import InputError, OutputError
from schemas.labels import FAILED
from tests.pipeline.labelled_output import STORAGE, Answer, override
from tests.pipeline.odd_names import NAMES, WORDS, photo


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_command_goes_on_where_it_stopped(labelled, tmp_path, monkeypatch):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    first = export_labels(labelled, str(whole), "png")
    real, calls = png.MaskFolders.picture, []

    def dies_at_the_fifth(self, item):
        calls.append(item.image_id)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(self, item)

    monkeypatch.setattr(png.MaskFolders, "picture", dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        export_labels(labelled, str(halved), "png")
    calls.clear()
    monkeypatch.setattr(
        png.MaskFolders, "picture", lambda self, item: (calls.append(item.image_id), real(self, item))[1]
    )
    again = export_labels(labelled, str(halved), "png")
    assert calls == ["../up.jpg", "/etc/nul.jpg", "ünï c.jpg"]  # not the first shard
    strip = {".escnet-export/done.json"}
    assert {k: v for k, v in contents(halved).items() if k not in strip} == {
        k: v for k, v in contents(whole).items() if k not in strip
    }
    assert (again.n_exported, again.n_failed) == (first.n_exported, first.n_failed)
    calls.clear()
    assert export_labels(labelled, str(halved), "png") == again
    assert calls == []


def test_folders_that_hold_something_else_are_refused_untouched(labelled, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine: holds something else \(a\.txt\) and no export"):
        export_labels(labelled, str(tmp_path / "mine"), "png")
    assert contents(tmp_path / "mine") == {"a.txt": b"mine"}
    export_labels(labelled, str(tmp_path / "e"), "png")
    before = contents(tmp_path / "e")
    with pytest.raises(OutputError, match=r"e: holds another export, which differs in format"):
        export_labels(labelled, str(tmp_path / "e"), "coco-rle")
    with pytest.raises(OutputError, match=r"holds another export, which differs in min-confidence, shift-ids"):
        export_labels(labelled, str(tmp_path / "e"), "png", choices=Choices(shift_ids=True), min_confidence=0.5)
    assert contents(tmp_path / "e") == before
    with pytest.raises(InputError, match="lies in the labels themselves"):
        export_labels(labelled, f"{labelled}/labels/e", "png")


def test_corrections_are_exported_and_make_another_export(labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "out")
    export_labels(str(tmp_path / "out"), str(tmp_path / "e"), "png")
    mask = np.full((29, 41), 9, np.uint8)
    write_overrides([override("a/1.jpg", mask, WORDS)], str(tmp_path / "out"), STORAGE)
    with pytest.raises(OutputError, match="differs in corrections"):
        export_labels(str(tmp_path / "out"), str(tmp_path / "e"), "png")
    export_labels(str(tmp_path / "out"), str(tmp_path / "e2"), "png", min_confidence=0.9)
    assert (np.asarray(Image.open(tmp_path / "e2" / "annotations" / "a" / "1.png")) == mask).all()


def test_failed_pictures_that_a_retry_labels_make_another_export(labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "out")
    first = export_labels(str(tmp_path / "out"), str(tmp_path / "e"), "png")
    assert export_labels(f"{tmp_path}/out/", str(tmp_path / "e"), "png") == first
    files = {path: read_rows(str(path), STORAGE) for path in (tmp_path / "out" / "labels").iterdir()}
    path, rows = next(item for item in files.items() if any(row.status == FAILED for row in item[1]))
    winner = np.full((8, 8), WORDS.classes[0].id)
    again = [Answer(winner).row(row, WORDS) if row.status == FAILED else row for row in rows]
    identity = read_footer(str(path), STORAGE)
    path.write_bytes(label_file_bytes(again, {key: identity[key] for key in identity if key != "totals"}))
    with pytest.raises(OutputError, match="holds another export, which differs in labels"):
        export_labels(str(tmp_path / "out"), str(tmp_path / "e"), "png")


def test_pictures_that_are_gone_are_left_out_and_named(labelled, tmp_path):
    gone = photo(labelled, "a/2.png")
    kept = gone.read_bytes()
    try:
        gone.unlink()
        report = export_labels(labelled, str(tmp_path / "e"), "coco-rle", choices=Choices(with_images=True))
    finally:
        gone.write_bytes(kept)
    assert (report.n_exported, report.n_without_picture, report.n_failed) == (5, 1, 1)
    lines = export_lines(report)
    assert lines[1] == "1 picture left out: labelling failed"
    assert lines[3].startswith("  a/2.png: ")
    assert lines[3].endswith("2.png: no such file")
    found = json.loads((tmp_path / "e" / "annotations.json").read_text())
    assert [image["id"] for image in found["images"]] == [1, 3, 4, 5, 6]


def test_to_object_storage(labelled, truth, s3):
    export_labels(labelled, s3.uri("e"), "png")
    export_labels(labelled, s3.uri("e"), "png")
    for image_id, name in NAMES.items():
        data = s3.client.get_object(Bucket=s3.name, Key=f"e/annotations/{name}.png")["Body"].read()
        assert (np.asarray(Image.open(io.BytesIO(data))) == truth[image_id]).all()


@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("/a", "%/a"),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("C:/x", "C%3A/x"),
        ("con.jpg/LPT1", "%63on.jpg/%4CPT1"),
        (".hidden", "%2Ehidden"),
        ("trailing. /b.", "trailing.%20/b%2E"),
        ("new\nline", "new%0Aline"),
        ("", "%"),
        ("ordinary/ünï #1 100%.x", "ordinary/ünï #1 100%.x"),
    ],
)
def test_paths_are_safe(image_id, path):
    assert safe_path(image_id) == path


def test_long_names_are_cut_and_stay_apart():
    one, other = safe_path("ä" * 300), safe_path("ä" * 301)
    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 200


def test_pictures_of_one_name_keep_their_suffix_and_doubles_are_refused():
    ids = ["a.jpg", "a.png", "A.gif", "b.jpg", "c.tar", "d/e.jpg", "d_e.jpg"]
    names = Names(lambda: ids)
    assert [names[each] for each in ids] == ["a.jpg", "a.png", "A.gif", "b", "c.tar", "d/e", "d_e"]
    with pytest.raises(InputError, match=r"pictures 'a.jpg' and another one would have files of the same name"):
        Names(lambda: ["a.jpg", "a.png", "a.jpg.png"])
    with pytest.raises(InputError, match=r"pictures 'A.JPG' and 'a.jpg' would have files of the same name"):
        Names(lambda: ["a.jpg", "A.JPG"])


@pytest.mark.parametrize(
    ("name", "choices", "said"),
    [
        ("pgn", {}, "no format 'pgn'; did you mean 'png'?"),
        ("coco-rle", {"shift_ids": True}, "--shift-ids goes with the formats png and fiftyone"),
        ("fiftyone", {"with_images": True}, "fiftyone holds the pictures anyway; leave it out"),
    ],
)
def test_what_cannot_be_exported_is_one_line(labelled, tmp_path, name, choices, said):
    with pytest.raises(InputError) as caught:
        export_labels(labelled, str(tmp_path / "e"), name, choices=Choices(**choices))
    assert said in str(caught.value)
    assert not (tmp_path / "e").exists()
