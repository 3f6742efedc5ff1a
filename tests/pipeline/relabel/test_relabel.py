"""What is relabelled is what a fresh run would write, byte for byte: the real network, in this process."""

import io
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import pipeline.annotation.annotate
import pipeline.relabel
from pipeline.output.label_files import label_file_bytes, read_footer, read_rows
from pipeline.output.run_log import RunLog, unknown_words
from pipeline.output.verify import verify
from pipeline.relabel import RelabelRequest, relabel_lines
from pipeline.storage import StorageOptions
from schemas.errors import JobFailedError, ManifestError, OutputError, StoppedError, VocabularyError
from schemas.labels import LABELLED
from tests.pipeline.relabel.jobs import CLASSES, EDITS, Jobs, all_classes, contents, draw_scenes, nano, shrunk, words
from tests.pipeline.small_jobs import Labelling

N_PHOTOS = 4


@pytest.fixture(autouse=True, scope="module")
def _labelled_here():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.annotation.annotate, "label_shards", Labelling())
        yield


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Jobs:
    """Scenes of the demo world."""
    folder = tmp_path_factory.mktemp("scenes")
    draw_scenes(folder / "pictures", 3)
    return with_a_broken_one(folder)


@pytest.fixture(scope="module")
def photographs(shared_data, tmp_path_factory) -> Jobs:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "pictures").mkdir()
    for path in sorted((shared_data / "photos" / "images").iterdir())[:N_PHOTOS]:
        shrunk(path, folder / "pictures" / f"{path.stem}.png")
    return with_a_broken_one(folder)


def with_a_broken_one(folder: Path) -> Jobs:
    (folder / "pictures" / "broken.jpg").write_bytes(b"no picture")
    return Jobs(folder / "pictures", folder, nano())


@pytest.fixture(scope="module")
def labelled(jobs) -> Path:
    return jobs.label(jobs.folder / "labelled", words())


@pytest.fixture(scope="module")
def labelled_photographs(photographs) -> Path:
    return photographs.label(photographs.folder / "labelled", words())


def rows(output: Path) -> list[dict]:
    return [row for path in sorted(output.glob("labels/*")) for row in pq.read_table(path).to_pylist()]


def mask(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["mask"])))


@pytest.mark.parametrize("edit", EDITS)
def test_an_output_that_is_relabelled_equals_a_fresh_one_there_and_back_again(jobs, labelled, tmp_path, edit):
    check_there_and_back(jobs, labelled, tmp_path, edit)


@pytest.mark.parametrize("edit", ["tighter", "looser", "swapped", "roots"])
def test_so_it_is_with_photographs(photographs, labelled_photographs, tmp_path, edit):
    check_there_and_back(photographs, labelled_photographs, tmp_path, edit)


def check_there_and_back(jobs: Jobs, labelled: Path, folder: Path, edit: str) -> None:
    fresh = jobs.label(folder / "fresh", EDITS[edit])
    report = jobs.relabel(labelled, folder / "relabelled", EDITS[edit])
    assert report.is_complete
    assert report.n_rows_now == report.totals.rows == len(rows(labelled))
    assert contents(folder / "relabelled") == contents(fresh)
    if edit != "other colours":
        assert {row["image_id"]: row["mask"] for row in rows(fresh)} != {
            r["image_id"]: r["mask"] for r in rows(labelled)
        }
    assert verify(str(fresh), workers=1).holds
    jobs.relabel(folder / "relabelled", folder / "back", words())
    assert contents(folder / "back") == contents(labelled)


def test_words_the_model_never_knew_are_known_of_the_new_output_too(jobs, labelled, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(labelled, old)
    RunLog(str(old), StorageOptions(), {"unknown_words": ["snow"]}, dict, [].append).close("done")
    jobs.relabel(old, tmp_path / "up", level="top")
    assert unknown_words(str(tmp_path / "up"), StorageOptions()) == ["snow"]


@pytest.mark.parametrize("level", ["parent", "top"])
def test_the_option_level_is_the_vocabularys_own_and_leads_back_to_leaves(jobs, labelled, tmp_path, level):
    fresh = jobs.label(tmp_path / "fresh", words(), level=level)
    jobs.relabel(labelled, tmp_path / "up", level=level)
    assert contents(tmp_path / "up") == contents(fresh)
    jobs.relabel(tmp_path / "up", tmp_path / "down", level="leaf")
    assert contents(tmp_path / "down") == contents(labelled)


def test_rolled_up_labels_are_those_of_the_leaves_with_their_confidence(jobs, labelled, tmp_path):
    jobs.relabel(labelled, tmp_path / "up", level="top")
    root = np.arange(256, dtype=np.uint8)
    root[[0, 1, 3, 4]], root[[5, 6, 7]] = 9, 8
    leaves = {row["image_id"]: row for row in rows(labelled) if row["mask"]}
    for row in rows(tmp_path / "up"):
        if row["mask"]:
            leaf = leaves[row["image_id"]]
            assert np.array_equal(mask(row), root[mask(leaf)])
            assert row["confidence_mean"] == leaf["confidence_mean"]
            assert row["ignored_fraction"] == leaf["ignored_fraction"]
    assert sum(len(row["classes"] or ()) for row in rows(tmp_path / "up")) < sum(
        len(row["classes"]) for row in leaves.values()
    )


def test_failed_pictures_stay_failed_under_the_vocabularys_new_name(jobs, labelled, tmp_path):
    report = jobs.relabel(labelled, tmp_path / "out", words(name="other"))
    assert report.totals.failed == {"decode/not_an_image": 1}
    assert {row["vocabulary"] for row in rows(tmp_path / "out")} == {"other"}
    assert contents(tmp_path / "out") == contents(jobs.label(tmp_path / "fresh", words(name="other")))


def test_what_a_retry_mended_in_the_old_output_since_is_said(jobs, labelled, tmp_path):
    old, out = shutil.copytree(labelled, tmp_path / "old"), tmp_path / "out"
    report = jobs.relabel(old, out, level="parent")
    assert report.n_mended == 0
    files = {path: read_rows(str(path), StorageOptions()) for path in (old / "labels").iterdir()}
    mended = next(row for found in files.values() for row in found if row.status == LABELLED)
    for path, found in files.items():
        identity = {key: value for key, value in read_footer(str(path), StorageOptions()).items() if key != "totals"}
        path.write_bytes(label_file_bytes([row if row.status == LABELLED else mended for row in found], identity))
    assert relabel_lines(jobs.relabel(old, out, level="parent"))[-1] == (
        f"  since:   {old} has labelled 1 picture that failed before; relabel into a new output to have them"
    )


def test_order_of_classes_prompts_and_pictures_changes_no_pixel(jobs, labelled, tmp_path):
    shuffled = words()
    shuffled["classes"] = [{**each, "prompts": each.get("prompts", [each["name"]])[::-1]} for each in CLASSES[::-1]]
    shuffled["distractors"] = shuffled["distractors"][::-1]
    paths = sorted(jobs.pictures.iterdir())[::-1]
    fresh = jobs.label(tmp_path / "out", shuffled, sources=[str(path) for path in paths], shard_size=2)
    there = {row["uri"]: row["mask"] for row in rows(labelled)}
    assert {row["uri"]: row["mask"] for row in rows(fresh)} == there
    assert len(there) == len(paths)


def refused(jobs, labelled, tmp_path, *vocabularies, **options) -> str:
    with pytest.raises((VocabularyError, OutputError, ManifestError)) as caught:
        jobs.relabel(labelled, tmp_path / "out", *vocabularies, **options)
    assert not (tmp_path / "out").exists()
    assert caught.value.exit_code == 2
    return str(caught.value)


def without(name: str) -> list[dict]:
    return [each for each in CLASSES if each["name"] != name]


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        (
            words(classes=[*CLASSES, {"id": 30, "name": "zebra"}]),
            "vocabulary w: needs the model, since other words compete for the pixels than in {labelled} (new: class 30 "
            "'zebra'); label with it: escnet annotate ... --update {labelled} --output NEW",
        ),
        (words({"water": {"prompts": ["lake"]}}), "(re-worded: class 2 'water'); label with it"),
        (
            words(classes=without("brick"), distractors=[]),
            "(left out: class 3 'brick', distractor 'gravel', distractor 'snow' and 1 more); label with it: escnet "
            "annotate ... --update {labelled} --output NEW; or keep the prompts of what is left out as `distractors`, "
            "whose pixels are ignored",
        ),
        (words(templates=["a {}"]), "(other templates); label"),
    ],
)
def test_what_needs_the_model_is_refused_and_named(jobs, labelled, tmp_path, vocabulary, said):
    assert said.format(labelled=labelled) in refused(jobs, labelled, tmp_path, vocabulary)


def test_a_level_without_parents_is_refused(jobs, labelled, tmp_path):
    flat = words({each["name"]: {"parent": None} for each in CLASSES}, classes=None)
    flat["classes"] = [
        {key: value for key, value in each.items() if key != "parent"} for each in CLASSES if each.get("prompts") != []
    ]
    said = refused(jobs, labelled, tmp_path, flat, level="parent")
    assert said.startswith("vocabulary w: no class has a parent, so --level parent would change nothing; add `parent:")


def test_nothing_is_written_onto_itself_or_into_something_else(jobs, labelled, tmp_path):
    before = contents(labelled)
    for other in (labelled, labelled / "labels", labelled.parent):
        with pytest.raises(OutputError, match="which relabel never touches"):
            jobs.relabel(labelled, other, words(level="parent"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        jobs.relabel(labelled, tmp_path / "foreign", words(level="parent"))
    with pytest.raises(OutputError, match=r"found no job\.json, expected the --output of `escnet annotate`"):
        jobs.relabel(tmp_path / "nothing", tmp_path / "out", words())
    jobs.relabel(labelled, tmp_path / "up", level="parent")
    with pytest.raises(
        OutputError, match=r"up: holds another job \(vocabulary w: level parent there, top now\); choose"
    ):
        jobs.relabel(labelled, tmp_path / "up", level="top")
    assert contents(labelled) == before
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["mine.txt"]


def test_a_vocabulary_that_was_changed_in_the_old_output_is_noticed(jobs, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "old")
    used = tmp_path / "old" / "vocabularies" / "w.yaml"
    used.write_text(used.read_text().replace("min_confidence: 0.4", "min_confidence: 0.3"))
    said = refused(jobs, tmp_path / "old", tmp_path, level="parent")
    assert "w.yaml: was changed after the labels were made; put the original back" in said


def test_it_goes_on_where_it_stopped(jobs, labelled, tmp_path, monkeypatch):
    strict = words(all_classes(min_confidence=0.7))
    jobs.relabel(labelled, tmp_path / "whole", strict)
    real = pipeline.relabel.relabel_side_by_side

    def stops(*arguments):
        yield next(real(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.relabel, "relabel_side_by_side", stops)
        with pytest.raises(StoppedError, match="1 of 2 shards are done and kept, the same command goes on"):
            jobs.relabel(labelled, tmp_path / "out", strict)
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 1
    report = jobs.relabel(labelled, tmp_path / "out", strict)
    assert (report.n_shards_before, report.n_shards) == (1, 2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = jobs.relabel(labelled, tmp_path / "out", strict)
    assert relabel_lines(again)[0].startswith(f"Nothing to do: {again.totals.labelled} of ")
    assert again.totals == report.totals


def test_a_shard_without_labels_or_with_damaged_ones_is_said_and_the_others_are_done(jobs, labelled, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(labelled, old)
    first, second = sorted((old / "labels").iterdir(), key=lambda path: -path.stat().st_size)
    data = bytearray(first.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1  # in a mask
    first.write_bytes(data)
    report = jobs.relabel(old, tmp_path / "out", level="parent")
    assert not report.is_complete
    assert [str(first) in line for line in report.damaged] == [True]
    second.unlink()
    report = jobs.relabel(old, tmp_path / "out 2", level="parent")
    assert (report.n_unlabelled, len(report.damaged)) == (1, 1)
    lines = relabel_lines(report)
    assert f"  missing: 1 shard that {old} has not labelled yet; when it has, the same command goes on" in lines
    shutil.copytree(labelled, old, dirs_exist_ok=True)
    assert jobs.relabel(old, tmp_path / "out 2", level="parent").is_complete
    jobs.relabel(labelled, tmp_path / "whole", level="parent")
    assert contents(tmp_path / "out 2") == contents(tmp_path / "whole")


def test_a_label_file_under_another_shards_name_is_not_taken(jobs, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "old")
    first, second = sorted((tmp_path / "old" / "labels").iterdir())
    second.write_bytes(first.read_bytes())
    report = jobs.relabel(tmp_path / "old", tmp_path / "out", level="parent")
    assert [f"found the labels of shard {first.stem}" in line for line in report.damaged] == [True]


def test_corrections_by_people_go_along_where_they_mean_the_same(jobs, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "old")
    (tmp_path / "old" / "overrides").mkdir()
    (tmp_path / "old" / "overrides" / "a.parquet").write_bytes(b"corrections")
    report = jobs.relabel(tmp_path / "old", tmp_path / "out", EDITS["tighter"])
    assert (tmp_path / "out" / "overrides" / "a.parquet").read_bytes() == b"corrections"
    assert "  copied:  1 file of corrections by people" in relabel_lines(report)
    for k, edit in enumerate(("renumbered", "parents", "16 bit")):
        with pytest.raises(OutputError, match="holds corrections by people in the ids of vocabulary 'w'"):
            jobs.relabel(tmp_path / "old", tmp_path / f"out {k}", EDITS[edit])
        assert not (tmp_path / f"out {k}").exists()


def test_processes_write_the_same(jobs, labelled, tmp_path):
    jobs.relabel(labelled, tmp_path / "one", level="top")
    report = jobs.relabel(labelled, tmp_path / "two", level="top", workers=2)
    assert report.is_complete
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_process_that_dies_ends_the_run_in_one_line(jobs, labelled, tmp_path, monkeypatch):
    class Dead:
        def __init__(self, *_): ...
        def submit(self, *_):
            call = Future()
            call.set_exception(BrokenProcessPool())
            return call

        def shutdown(self, **_): ...

    monkeypatch.setattr(pipeline.relabel.shards, "ProcessPoolExecutor", Dead)
    with pytest.raises(JobFailedError, match=r"a worker process ended.*the same command with fewer --workers goes on"):
        jobs.relabel(labelled, tmp_path / "out", level="top", workers=2)


def test_on_object_storage(jobs, labelled, s3):
    jobs.relabel(labelled, s3.uri("a b/up"), level="parent")
    pipeline.relabel.relabel(RelabelRequest(s3.uri("a b/up"), s3.uri("a b/down"), level="leaf", workers=1))
    keys = s3.keys()
    found = {key.removeprefix("a b/down/"): s3.get(key) for key in keys if key.startswith("a b/down/")}
    found.pop(".lock", None)
    assert found == contents(labelled)
