"""What an update copies, labels and refuses; shards are labelled in this process by a stand-in."""

import os
import shutil
import time
from concurrent.futures import as_completed
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline.annotation.annotate
import pipeline.annotation.update
from pipeline.annotation.summary import summary_lines
from pipeline.annotation.update import refuse_overlap
from pipeline.output import read_job
from pipeline.output.plan import read_plan, read_shard_rows
from pipeline.output.run_log import RunLog, unknown_words
from pipeline.storage import StorageOptions, write_new
from schemas.errors import JobFailedError, OutputError, StoppedError
from schemas.job import UpdateCounts
from tests.pipeline.small_jobs import World

STORAGE = StorageOptions()


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in below(folder)
    }


def below(folder: Path) -> list[Path]:
    return [folder, *sorted(folder.rglob("*"))]


def labels(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("labels/*")}


def cuts(output: Path) -> list[list[str]]:
    """The image ids of each shard, in the order of the plan."""
    refs = read_plan(read_job(str(output), STORAGE).manifest.files, str(output), STORAGE)
    return [[row.image_id for row in read_shard_rows(ref, str(output), STORAGE)] for ref in refs]


def classes(output: Path) -> dict[str, int | None]:
    """The class of each picture; None if it failed."""
    rows = [row for path in output.glob("labels/*") for row in pq.read_table(path).to_pylist()]
    assert len(rows) == len({row["image_id"] for row in rows})
    return {row["image_id"]: row["classes"][0]["class_id"] if row["classes"] else None for row in rows}


def never(_):
    raise AssertionError("the model was loaded")


def test_where_nothing_changed_everything_is_copied_and_the_model_not_loaded(world, old, tmp_path, labelling):
    before = snapshot(old)
    labelling.vocabularies = []
    report = world.annotate(tmp_path / "new", update=str(old), load=never)
    assert labels(tmp_path / "new") == labels(old)
    assert cuts(tmp_path / "new") == cuts(old)
    assert snapshot(old) == before
    assert labelling.vocabularies == []
    assert (report.n_shards, report.n_shards_taken_over, report.totals.labelled) == (3, 3, 6)
    assert summary_lines(report)[:2] == [
        "Done: 6 of 6 pictures are labelled.",
        f"  update:  3 of 3 shards taken over from {old}; pictures: 0 new, 0 changed, 0 gone",
    ]


def test_words_the_model_never_knew_are_those_of_the_old_output_if_all_is_copied_and_no_word_changed(
    world, old, tmp_path
):
    RunLog(str(old), STORAGE, {"unknown_words": ["odd"]}, dict, [].append).close("done")
    world.annotate(tmp_path / "same", update=str(old))
    assert unknown_words(str(tmp_path / "same"), STORAGE) == ["odd"]
    more = [str(world.folder / "w.yaml"), world.words("unused", "even")]
    world.annotate(tmp_path / "other", update=str(old), vocabularies=more, load=never)
    assert unknown_words(str(tmp_path / "other"), STORAGE) is None


def test_a_changed_picture_costs_its_shard_and_the_result_is_that_of_a_fresh_run(world, old, tmp_path, labelling):
    world.draw("3", 100, (64, 64))
    report = world.annotate(tmp_path / "new", update=str(old))
    assert len(labelling.vocabularies) == 1
    world.annotate(tmp_path / "fresh")
    assert len(labelling.vocabularies) == 3
    assert labels(tmp_path / "new") == labels(tmp_path / "fresh") != labels(old)
    assert report.n_shards_taken_over == 2
    assert report.update_counts == UpdateCounts(n_new=0, n_changed=1, n_gone=0)
    assert (report.n_rows, report.n_rows_now, report.totals.rows) == (6, 2, 6)


def test_new_pictures_come_into_new_shards_and_those_that_are_gone_leave_theirs(
    world, old, tmp_path, labelling, capsys
):
    for name, value in {"00": 20, "25": 21, "9": 22}.items():
        world.draw(name, value)
    for name in ("2", "4", "5"):
        world.erase(name)
    report = world.annotate(tmp_path / "new", update=str(old))
    assert cuts(old) == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png", "5.png"]]
    assert cuts(tmp_path / "new") == [["0.png", "1.png"], ["3.png"], ["00.png", "25.png"], ["9.png"]]
    assert len(labelling.vocabularies) == 3
    assert classes(tmp_path / "new") == {"0.png": 0, "1.png": 1, "3.png": 1, "00.png": 0, "25.png": 1, "9.png": 0}
    assert report.update_counts == UpdateCounts(n_new=3, n_changed=0, n_gone=3)
    assert f"1 of 4 shards are taken over from {old}" in capsys.readouterr().err


def two_vocabularies(world: World, **of: str) -> list[str]:
    lines = [f"{name},photos/{name}.png,{vocabulary}" for name, vocabulary in of.items()]
    (world.folder / "list.csv").write_text("\n".join(["image_id,uri,vocabulary", *lines]))
    return [str(world.folder / "w.yaml"), str(world.folder / "v.yaml")]


def test_changed_words_cost_the_shards_of_their_vocabulary(world, tmp_path, labelling):
    world.words("v", "even", "odd")
    names = two_vocabularies(world, **{"0": "w", "1": "v", "2": "v", "3": "w", "4": "v", "5": "w"})
    world.annotate(tmp_path / "old", source="list.csv", vocabularies=names)
    world.words("v", "zero", "one", "two")
    report = world.annotate(tmp_path / "new", source="list.csv", vocabularies=names, update=str(tmp_path / "old"))
    assert labelling.vocabularies == ["v", "v"]
    assert report.n_shards_taken_over == 2
    assert classes(tmp_path / "new") == {"0": 0, "3": 1, "5": 1, "1": 11 % 3, "2": 12 % 3, "4": 14 % 3}


def test_a_picture_that_changes_its_vocabulary_moves_into_a_shard_of_it(world, tmp_path, labelling):
    world.words("v", "zero", "one", "two")
    names = two_vocabularies(world, **{"0": "w", "1": "w", "2": "v", "3": "v"})
    world.annotate(tmp_path / "old", source="list.csv", vocabularies=names)
    two_vocabularies(world, **{"0": "w", "1": "v", "2": "v", "3": "v"})
    report = world.annotate(tmp_path / "new", source="list.csv", vocabularies=names, update=str(tmp_path / "old"))
    assert cuts(tmp_path / "old") == [["0", "1"], ["2", "3"]]
    assert cuts(tmp_path / "new") == [["0"], ["2", "3"], ["1"]]
    assert labelling.vocabularies == ["w", "v"]
    assert report.update_counts == UpdateCounts(n_new=0, n_changed=1, n_gone=0)


def test_an_update_that_was_stopped_goes_on_and_nothing_is_done_twice(world, old, tmp_path, labelling):
    new = tmp_path / "new"
    for name in ("0", "4"):
        world.draw(name, 200, (64, 64))
    labelling.stop_after = 1
    with pytest.raises(StoppedError):
        world.annotate(new, update=str(old))
    kept = snapshot(new / "labels")
    assert len(labels(new)) == 2
    labelling.stop_after = 1000
    report = world.annotate(new, update=f"{old}/")
    assert len(labelling.vocabularies) == 1
    assert (report.n_shards_before, report.n_shards_taken_over, report.totals.labelled) == (2, 0, 6)
    assert report.update_counts == UpdateCounts(n_new=0, n_changed=2, n_gone=0)
    assert {
        path: found for path, found in snapshot(new / "labels").items() if path in kept and Path(path).is_file()
    } == {path: found for path, found in kept.items() if Path(path).is_file()}
    shutil.rmtree(old)  # not needed any more
    assert summary_lines(world.annotate(new, update=str(old), load=never))[0].startswith("Nothing to do: 6 of 6")


def test_copying_that_failed_is_taken_up_again(world, old, tmp_path, monkeypatch):
    def full(uri, data, options):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.annotation.update, "write_new", full)
        with pytest.raises(JobFailedError, match="the disk is full"):
            world.annotate(tmp_path / "new", update=str(old))
    assert world.annotate(tmp_path / "new", update=str(old), load=never).n_shards_taken_over == 3


def test_ctrl_c_while_copying_says_how_far_it_is(world, old, tmp_path, monkeypatch):
    copies = []

    def interrupted(calls):
        copies.extend(calls)
        yield next(as_completed(calls))
        raise KeyboardInterrupt

    def write_slowly(*arguments):
        """The second one takes until the third is given up."""
        give_up_at = time.monotonic() + 60
        while labels(tmp_path / "new") and time.monotonic() < give_up_at and not any(c.cancelled() for c in copies):
            time.sleep(0.01)
        return write_new(*arguments)

    monkeypatch.setattr(pipeline.annotation.update, "as_completed", interrupted)
    monkeypatch.setattr(pipeline.annotation.update, "write_new", write_slowly)
    monkeypatch.setattr(pipeline.annotation.update, "COPY_THREADS", 1)
    with pytest.raises(StoppedError) as stop:
        world.annotate(tmp_path / "new", update=str(old))
    time.sleep(0.5)  # nothing is written any more
    n_done = len(labels(tmp_path / "new"))
    assert n_done < 3
    assert str(stop.value).startswith(f"stopped; {n_done} of 3 shards are done and kept")


def test_shards_that_are_not_done_there_are_labelled(world, old, tmp_path, labelling):
    first, *_ = sorted(old.glob("labels/*"))
    whole = labels(old)
    first.unlink()
    report = world.annotate(tmp_path / "new", update=str(old))
    assert labels(tmp_path / "new") == whole
    assert (len(labelling.vocabularies), report.n_shards_taken_over) == (1, 2)


def flip(path: Path) -> None:
    """One bit of a mask."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        flip,
        lambda path: os.truncate(path, 100),
        lambda path: shutil.copy(next(each for each in path.parent.iterdir() if each != path), path),
    ],
    ids=["a bit", "torn", "another shard's file"],
)
def test_a_damaged_file_is_labelled_again_rather_than_copied(world, old, tmp_path, harm, labelling, capsys):
    victim, *_ = sorted(old.glob("labels/*"))
    whole = labels(old)
    harm(victim)
    before = snapshot(old)
    report = world.annotate(tmp_path / "new", update=str(old))
    assert labels(tmp_path / "new") == whole
    assert (len(labelling.vocabularies), report.n_shards_taken_over) == (1, 2)
    assert f"{victim}: is damaged, so its shard is labelled" in capsys.readouterr().err
    assert snapshot(old) == before


def test_failed_rows_of_copied_shards_stay(world, tmp_path):
    (tmp_path / "photos" / "2.png").write_bytes(b"\x89PNG no picture")
    world.annotate(tmp_path / "old")
    report = world.annotate(tmp_path / "new", update=str(tmp_path / "old"), load=never)
    assert labels(tmp_path / "new") == labels(tmp_path / "old")
    assert report.n_failed == 1


@pytest.mark.parametrize("old_place", ["local", "s3"])
def test_an_update_on_object_storage(world, tmp_path, s3, old_place, labelling):
    old = str(tmp_path / "old") if old_place == "local" else s3.uri("a b/old")
    world.annotate(old)
    world.draw("3", 100, (64, 64))

    def there():
        pages = s3.client.list_objects_v2(Bucket=s3.name, Prefix="a b/old").get("Contents", [])
        return [(item["Key"], item["ETag"], item["LastModified"]) for item in pages]

    before = there()
    labelling.stop_after = 0
    with pytest.raises(StoppedError):
        world.annotate(s3.uri("a b/new"), update=old)
    labelling.stop_after = 1
    report = world.annotate(s3.uri("a b/new"), update=old)
    assert (report.n_shards_before, report.totals.labelled) == (2, 6)
    labelling.stop_after = 3
    world.annotate(tmp_path / "fresh")
    there_now = s3.keys()
    found = {key.split("/")[-1]: s3.get(key) for key in there_now if key.startswith("a b/new/labels/")}
    assert found == labels(tmp_path / "fresh")
    assert there() == before


@pytest.mark.parametrize("new", ["old", "old/", "old/labels/mine", "link", "link/below", ".", "photos/../old/x"])
def test_an_update_into_the_old_output_is_refused_before_anything_is_written(world, old, tmp_path, new):
    (tmp_path / "link").symlink_to(old)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="--update never touches"):
        world.annotate(f"{tmp_path}/{new}", update=str(old))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("new", "is_refused"),
    [
        ("s3://b/a", True),
        ("s3a://b/a/x", True),
        ("s3://b", True),
        ("s3://b/ab", False),
        ("s3://c/a", False),
        ("/b/a", False),
    ],
)
def test_places_in_object_storage_are_told_apart_by_their_keys(new, is_refused):
    if is_refused:
        with pytest.raises(OutputError, match=f"{new}: is, holds or lies in s3://b/a/"):
            refuse_overlap("s3://b/a/", new, STORAGE)
    else:
        refuse_overlap("s3://b/a/", new, STORAGE)


def test_what_is_no_output_cannot_be_updated(world, tmp_path):
    for update in ("photos", "nowhere"):
        with pytest.raises(OutputError, match=rf"{update}: found no job\.json, expected the --output of"):
            world.annotate(tmp_path / "new", update=str(tmp_path / update))
        assert not (tmp_path / "new").exists()


def test_a_new_output_that_holds_something_else_is_refused(world, old, tmp_path):
    with pytest.raises(OutputError, match="holds something else"):
        world.annotate(tmp_path / "photos", update=str(old))


def test_an_update_goes_on_only_as_what_it_was_begun_as(world, old, tmp_path):
    new, other = tmp_path / "new", tmp_path / "other"
    world.annotate(new, update=str(old))
    world.annotate(other)
    with pytest.raises(OutputError, match=f"new: updates {old}; go on with --update {old}, or choose another --output"):
        world.annotate(new)
    with pytest.raises(OutputError, match=f"new: updates {old}, not {other}; go on with --update {old}"):
        world.annotate(new, update=str(other))
    with pytest.raises(OutputError, match="other: was begun without --update; leave it out"):
        world.annotate(other, update=str(old))


def test_pictures_that_change_between_two_runs_of_an_update_are_noticed(world, old, tmp_path, labelling):
    new = tmp_path / "new"
    world.draw("0", 200, (64, 64))
    labelling.stop_after = 0
    with pytest.raises(StoppedError):
        world.annotate(new, update=str(old))
    world.draw("7", 1)
    with pytest.raises(OutputError, match=r"new: holds another job \(pictures: 6 there, 7 now: 1 new \('7.png'\)\)"):
        world.annotate(new, update=str(old))
    world.erase("7")
    labelling.stop_after = 1
    assert world.annotate(new, update=str(old)).totals.labelled == 6


def test_an_update_can_be_updated(world, old, tmp_path):
    world.annotate(tmp_path / "second", update=str(old))
    world.draw("8", 1)
    report = world.annotate(tmp_path / "third", update=str(tmp_path / "second"))
    assert (report.n_shards, report.n_shards_taken_over) == (4, 3)
