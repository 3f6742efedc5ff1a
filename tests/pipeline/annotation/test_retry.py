"""Failed rows done again; shards are labelled in this process by a stand-in, everything else is real."""

import hashlib
from pathlib import Path

import pytest

import pipeline.annotation.annotate
import pipeline.annotation.retry
from pipeline.annotation.retry import RetryRequest, retry, retry_lines
from pipeline.output.label_files import read_rows
from pipeline.output.verify import verify
from pipeline.storage import StorageOptions
from schemas.errors import InputError, OutputError, StoppedError
from tests.pipeline import stand_in
from tests.pipeline.small_jobs import Labelling, World, small_world

STORAGE = StorageOptions()


@pytest.fixture(autouse=True)
def labelling(monkeypatch) -> Labelling:
    here = Labelling()
    monkeypatch.setattr(pipeline.annotation.annotate, "label_shards", here)
    monkeypatch.setattr(pipeline.annotation.retry, "label_shards", here)
    return here


@pytest.fixture
def world(tmp_path) -> World:
    """Six pictures in a manifest: 1 and 4 cannot be read yet, 2 is none."""
    found = small_world(tmp_path)
    rows = "".join(f"{i}.png,photos/{i}.png\n" for i in range(6))
    (tmp_path / "m.csv").write_text(f"image_id,uri\n{rows}")
    (tmp_path / "photos" / "2.png").write_bytes(b"no picture")
    return found


@pytest.fixture
def output(world, tmp_path) -> Path:
    """Labelled in three shards of two while 1 and 4 were away, which are back now."""
    for name in "14":
        (tmp_path / "photos" / f"{name}.png").rename(tmp_path / name)
    world.annotate(tmp_path / "out", source="m.csv")
    for name in "14":
        (tmp_path / name).rename(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "out"


def asked(output: Path, *kinds: str, **options) -> RetryRequest:
    return RetryRequest(str(output), frozenset(kinds), model="escnet-nano", **options)


def again(output: Path, *kinds: str, **options):
    return retry(asked(output, *kinds, **options), load_segmenter=stand_in.load)


def digests(output: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (output / "labels").iterdir()}


def kinds(output: Path) -> dict[str, str | None]:
    rows = [row for path in (output / "labels").iterdir() for row in read_rows(str(path), STORAGE)]
    return {row.image_id: row.error_kind for row in sorted(rows, key=lambda row: row.image_id)}


def test_what_failed_so_is_labelled_and_the_output_is_that_of_a_run_without_trouble(world, output, tmp_path):
    assert list(kinds(output).values()) == [None, "not_found", "not_an_image", None, "not_found", None]
    report = again(output, "not_found")
    assert (report.n_tried, report.n_labelled, report.n_failed, report.totals.labelled) == (2, 2, 1, 5)
    assert retry_lines(report, {"not_found"}) == [
        "Done: labelled 2 of 2 failed pictures.",
        "  still failed: decode/not_an_image 1",
    ]
    world.annotate(tmp_path / "fresh", source="m.csv")
    assert digests(output) == digests(tmp_path / "fresh")
    assert verify(str(output), STORAGE, workers=1).holds


def test_shards_without_such_failures_are_not_touched(output, labelling):
    before = digests(output)
    report = again(output, "not_an_image")
    assert labelling.vocabularies == ["w"]  # one shard of three
    assert (report.n_tried, report.n_labelled) == (1, 0)
    assert digests(output) == before


def test_where_nothing_failed_so_no_model_is_loaded(output, labelling):
    labelling.vocabularies = []
    report = again(output, "timeout")
    assert retry_lines(report, {"timeout"}) == ["Nothing to do: no picture failed with timeout."]
    assert labelling.vocabularies == []


def test_a_retry_that_is_stopped_goes_on(output, labelling):
    labelling.stop_after = 1
    with pytest.raises(StoppedError):
        again(output, "not_found")
    assert sorted(map(str, kinds(output).values())).count("not_found") == 1
    labelling.stop_after = 10
    assert again(output, "not_found").n_labelled == 1


def test_an_output_that_is_none_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"nothing-here"):
        again(tmp_path / "nothing-here", "not_found")


def test_another_model_than_the_jobs_is_refused(output):
    wrong = RetryRequest(str(output), frozenset({"not_found"}), model="escnet-b16")
    with pytest.raises(InputError, match="escnet-b16"):
        retry(wrong, load_segmenter=stand_in.load)


def test_a_model_whose_name_says_nothing_is_asked_for(output):
    job = output / "job.json"
    job.write_text(job.read_text().replace('"name": "escnet-nano"', '"name": "mine.safetensors"'))
    with pytest.raises(InputError, match=r"made with mine\.safetensors: say where it lies with --model"):
        retry(RetryRequest(str(output), frozenset({"not_found"})), load_segmenter=stand_in.load)
