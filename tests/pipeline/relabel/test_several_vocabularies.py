"""Jobs in which the manifest's `vocabulary` column chooses."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline.annotation.annotate
from pipeline.output.verify import verify
from schemas.errors import ManifestError, VocabularyError
from tests.pipeline.relabel.jobs import Jobs, all_classes, contents, draw_scenes, nano, words
from tests.pipeline.small_jobs import Labelling

OTHER = {"name": "v", "classes": [{"id": 0, "name": "grass"}, {"id": 260, "name": "star", "min_confidence": 0.9}]}
LOOSE = {"name": "v", "classes": [{"id": 0, "name": "grass"}, {"id": 260, "name": "star"}]}


@pytest.fixture(autouse=True, scope="module")
def _labelled_here():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.annotation.annotate, "label_shards", Labelling())
        yield


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Jobs:
    folder = tmp_path_factory.mktemp("several")
    draw_scenes(folder / "pictures", 4)
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    lines = [f"{name},pictures/{name},{choice}" for name, choice in zip(names, ["", "v", "w", "v"], strict=True)]
    (folder / "manifest.csv").write_text("\n".join(["image_id,uri,vocabulary", *lines]) + "\n")
    return Jobs(folder / "manifest.csv", folder, nano())


@pytest.fixture(scope="module")
def labelled(jobs) -> Path:
    return jobs.label(jobs.folder / "labelled", words(), OTHER)


def test_every_picture_is_labelled_with_the_vocabulary_it_names_or_the_first(labelled):
    found = [row for path in labelled.glob("labels/*") for row in pq.read_table(path).to_pylist()]
    chosen = [row["vocabulary"] for row in sorted(found, key=lambda row: row["image_id"])]
    assert chosen == ["w", "v", "w", "v"]
    # 16 bit where an id is over 254, 8 bit elsewhere: the bit depth stands in byte 24 of a PNG
    assert {(row["vocabulary"], row["mask"][24]) for row in found} == {("w", 8), ("v", 16)}
    assert verify(str(labelled), workers=1).holds


def test_the_vocabulary_of_its_name_is_replaced_and_the_others_stay(jobs, labelled, tmp_path):
    jobs.relabel(labelled, tmp_path / "one", LOOSE)
    assert contents(tmp_path / "one") == contents(jobs.label(tmp_path / "fresh one", words(), LOOSE))
    strict = words(all_classes(min_margin=0.6))
    jobs.relabel(labelled, tmp_path / "both", LOOSE, strict)  # in the job's order, whatever the order here
    assert contents(tmp_path / "both") == contents(jobs.label(tmp_path / "fresh both", strict, LOOSE))
    jobs.relabel(tmp_path / "both", tmp_path / "back", OTHER, words())
    assert contents(tmp_path / "back") == contents(labelled)


def test_names_that_the_job_has_not_or_twice_are_refused(jobs, labelled, tmp_path):
    with pytest.raises(VocabularyError, match=r"has no vocabulary 'vv'; did you mean 'v'.*; it has w, v"):
        jobs.relabel(labelled, tmp_path / "out", {**LOOSE, "name": "vv"})
    with pytest.raises(VocabularyError, match="a second vocabulary named 'v'; give one of each"):
        jobs.relabel(labelled, tmp_path / "out", LOOSE, LOOSE)


def test_another_name_is_refused_where_the_manifest_says_the_old_one(jobs, tmp_path):
    one = tmp_path / "manifest.csv"
    line = jobs.pictures.read_text().splitlines()[2].replace("pictures/", f"{jobs.folder}/pictures/")
    one.write_text(f"image_id,uri,vocabulary\n{line}\n")
    labelled = jobs.label(tmp_path / "one", OTHER, sources=[str(one)])
    with pytest.raises(ManifestError, match="asks for vocabulary 'v', but the job has u"):
        jobs.relabel(labelled, tmp_path / "out", {**LOOSE, "name": "u"})
