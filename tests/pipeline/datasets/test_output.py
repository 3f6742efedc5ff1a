"""The folder of a prepared dataset: going on after a stop, and what is never written into or over."""

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets import prepare
from pipeline.datasets.prepare import prepare_dataset, summary_lines
from schemas.errors import OutputError
from tests.pipeline.datasets.dataset_files import ade, gray, picture, values, voc


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of every file, links not followed."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def prepare_voc(tmp_path: Path, name: str = "pascal-voc-20", **options):
    return prepare_dataset(name, str(tmp_path / "voc"), str(tmp_path / "out"), **options)


def test_the_archives_stay_as_they_are(tmp_path):
    voc(tmp_path / "voc")
    before = contents(tmp_path / "voc")
    prepare_voc(tmp_path)
    assert contents(tmp_path / "voc") == before


def test_a_run_that_was_stopped_is_gone_on_with(tmp_path, monkeypatch):
    voc(tmp_path / "voc")
    converts = prepare._convert_one

    def stop_at_val(converter, folder, split, labelled):
        if split == "val":
            raise KeyboardInterrupt
        return converts(converter, folder, split, labelled)

    monkeypatch.setattr(prepare, "_convert_one", stop_at_val)
    with pytest.raises(KeyboardInterrupt):
        prepare_voc(tmp_path, workers=1)
    left = contents(tmp_path / "out")
    assert sorted(left) == [".lock", "masks/JPEGImages/2007_000032.png", "vocabulary.yaml"]
    (tmp_path / "out/masks/JPEGImages" / f".{'0' * 32}.partial").write_bytes(b"half a mask")

    monkeypatch.undo()
    prepared = prepare_voc(tmp_path)
    assert (prepared.n_pictures, prepared.n_masks_written) == ({"train": 1, "val": 1}, 1)
    found = contents(tmp_path / "out")
    assert sorted(set(found) - set(left)) == ["manifest.parquet", "masks/JPEGImages/2007_000033.png"]
    assert {name: found[name] for name in left} == left

    again = prepare_voc(tmp_path)
    assert (again.n_masks_written, again.pixels) == (0, prepared.pixels)
    found.pop("manifest.parquet"), (after := contents(tmp_path / "out")).pop("manifest.parquet")
    assert after == found


def test_a_mask_that_is_not_right_is_made_again(tmp_path):
    voc(tmp_path / "voc")
    prepare_voc(tmp_path)
    right = contents(tmp_path / "out")["masks/JPEGImages/2007_000033.png"][0]
    gray(tmp_path / "out/masks/JPEGImages/2007_000033.png", values(3))
    assert prepare_voc(tmp_path).n_masks_written == 1
    assert contents(tmp_path / "out")["masks/JPEGImages/2007_000033.png"][0] == right


def test_any_number_of_workers_gives_the_same_rows_and_masks(tmp_path):
    for number in range(40):
        picture(tmp_path / f"ade/images/validation/ADE_val_{number:08}.jpg", (16, 12 + number % 3))
        mask = values(number + 1, 0)[:12]
        gray(tmp_path / f"ade/annotations/validation/ADE_val_{number:08}.png", mask.repeat(2, 0)[: 12 + number % 3])
    found = []
    for workers in (1, 3):
        output = tmp_path / f"out{workers}"
        prepare_dataset("ade20k-150", str(tmp_path / "ade"), str(output), splits=("val",), workers=workers)
        found.append({name: digest for name, (digest, _) in contents(output).items()})
    assert found[0] == found[1]
    assert len(found[0]) == 43


def test_the_summary_counts_and_says_what_is_not_as_published(tmp_path):
    voc(tmp_path / "voc")
    prepare_voc(tmp_path, "pascal-voc-20b", splits=("val",))
    assert summary_lines(prepare_voc(tmp_path, "pascal-voc-20b", splits=("val",))) == [
        "pascal-voc-20b: 1 picture (val 1)",
        "  masks:    0 written, 1 there before",
        "  classes:  2 of 21 occur",
        "  ignored:  6.2% of 192 pixels",
        "  note:     val officially has 1,449 pictures",
        f"  manifest: {tmp_path}/out/manifest.parquet",
    ]


def test_an_output_with_something_else_in_it_is_refused(tmp_path):
    voc(tmp_path / "voc")
    for names in (["notes.txt"], ["masks/mine.png"], ["vocabulary.yaml", "job.json"]):
        output = tmp_path / f"out {names[0].replace('/', ' ')}"
        for name in names:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text("mine")
        before = contents(output)
        with pytest.raises(OutputError, match=r"holds something else \((notes\.txt|masks|job\.json)\)"):
            prepare_dataset("pascal-voc-20", str(tmp_path / "voc"), str(output))
        assert {name: state for name, state in contents(output).items() if name != ".lock"} == before


def test_an_output_of_another_dataset_or_of_other_splits_is_refused(tmp_path):
    voc(tmp_path / "voc")
    prepare_voc(tmp_path)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"vocabulary\.yaml: is pascal-voc-20, expected pascal-voc-20b"):
        prepare_voc(tmp_path, "pascal-voc-20b")
    with pytest.raises(OutputError, match=r"manifest\.parquet: holds split train, val, this run would leave val alone"):
        prepare_voc(tmp_path, splits=("val",))
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("output", ["voc", "voc/out", "voc/JPEGImages/out", ".", "link/out", "photos/out"])
def test_an_output_in_over_or_around_the_archives_is_refused(tmp_path, output):
    """`link` leads to the archives; the pictures themselves lie in `photos`, to which a link in the archives leads."""
    voc(tmp_path / "voc")
    (tmp_path / "voc/JPEGImages").rename(tmp_path / "photos")
    (tmp_path / "voc/JPEGImages").symlink_to(tmp_path / "photos")
    (tmp_path / "link").symlink_to(tmp_path / "voc")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="choose an --output apart"):
        prepare_dataset("pascal-voc-20", str(tmp_path / "voc"), str(tmp_path / output))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_is_a_file_or_in_use_is_refused(tmp_path):
    import fcntl

    voc(tmp_path / "voc")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        prepare_dataset("pascal-voc-20", str(tmp_path / "voc"), str(tmp_path / "file"))
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another run is at work there"):
            prepare_voc(tmp_path)


def test_a_prepared_dataset_may_be_moved(tmp_path):
    from pipeline.sources.manifest import read_manifest
    from pipeline.storage import StorageOptions

    ade(tmp_path / "ade", values(1))
    prepare_dataset("ade20k-150", str(tmp_path / "ade"), str(tmp_path / "out"), splits=("val",))
    os.rename(tmp_path / "out", tmp_path / "moved")
    ((row,),) = read_manifest(str(tmp_path / "moved/manifest.parquet"), StorageOptions())
    assert Image.open(row.mask_uri).getextrema() == (0, 0)
    assert Image.open(row.uri).size == (16, 12)
