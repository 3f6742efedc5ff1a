"""What travels to a cluster, and what is refused before anything does."""

import os
import subprocess
import sys

import pytest
import yaml

from pipeline.actors.forks import SAFE_FORKS
from pipeline.cluster.parcel import runtime_environment
from pipeline.cluster.records import SubmittedJob, newest_address, recall, remember
from pipeline.cluster.submission import complete, labelling, training
from pipeline.storage import StorageOptions
from pipeline.training.config_file import read_config
from schemas.errors import InputError, OutputError
from schemas.job import JobRequest
from tests.pipeline.small_jobs import Labelling, small_world


def request(**options) -> JobRequest:
    given = {"sources": ("s3://b/photos/",), "vocabularies": ("pascal-voc-20",), "model": "s3://b/m.safetensors"}
    return JobRequest(**{**given, "output": "s3://b/labels/", **options})


def test_a_job_travels_as_its_options_and_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    sent = labelling(
        request(vocabularies=("words.txt", "ade20k-150"), actors=7, address="auto", limit=3, node_labels=("zone=a",))
    )
    assert sent.arguments == ("--job", "job.yaml")
    assert sent.about == "words"
    assert sent.local == ()
    assert sent.files["vocabularies/0/words.txt"] == "cat\ndog\n"
    assert yaml.safe_load(sent.files["job.yaml"]) == {
        "sources": ["s3://b/photos/"],
        "vocabularies": ["vocabularies/0/words.txt", "ade20k-150"],
        "model": "s3://b/m.safetensors",
        "output": "s3://b/labels/",
        "actors": 7,
        "limit": 3,
        "node_labels": ["zone=a"],
    }


def test_local_places_become_absolute_and_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sent = labelling(request(sources=("photos",), model="m.safetensors", output="out"))
    places = tuple(str(tmp_path / name) for name in ("photos", "out", "m.safetensors"))
    assert sent.local == places
    job = yaml.safe_load(sent.files["job.yaml"])
    assert (job["sources"], job["output"], job["model"]) == ([places[0]], places[1], places[2])
    assert labelling(request(model="escnet-nano")).local == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sources": ("https://h/p.tar?X-Amz-Signature=secret&Expires=1",)}, "^https://h/p.tar[^ ]*: the URI holds"),
        ({"output": "ftp://me:secret@host/labels"}, "^ftp://[^ ]*host/labels: the URI holds a password or signature"),
    ],
)
def test_a_uri_with_a_secret_is_refused(options, said):
    with pytest.raises(InputError, match=said) as refused:
        labelling(request(**options))
    assert "secret" not in str(refused.value)


def test_a_recipe_travels_with_its_changes_and_absolute_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = {"name": "one", "steps": 5, "data": [{"manifest": "m.csv", "vocabulary": "w.txt"}]}
    (tmp_path / "r.yaml").write_text(
        yaml.safe_dump({"name": "r", "model": {"preset": "escnet-nano"}, "trainable": "all", "stages": [stage]})
    )
    config = read_config("r.yaml", ("stages.0.steps=9",))
    sent = training(config, "runs/r", ["--workers", "2"], StorageOptions())
    assert sent.arguments == ("recipe.yaml", "--output", str(tmp_path / "runs/r"), "--workers", "2")
    (tmp_path / "sent.yaml").write_text(sent.files["recipe.yaml"])
    there = read_config("sent.yaml")
    assert there.n_steps == 9
    assert there.stages[0].data[0].manifest == str(tmp_path / "m.csv")
    assert set(sent.local) == {str(tmp_path / name) for name in ("m.csv", "w.txt", "runs/r")}


def test_the_code_that_is_sent_runs_alone_and_knows_its_version(tmp_path):
    environment = runtime_environment(tmp_path, {"job.yaml": "limit: 1"}, "send")
    names = [os.path.basename(path) for path in environment["py_modules"]]
    assert [name for name in names if not name.endswith(".dist-info")] == [
        "escnet", "jobs", "pipeline", "schemas", "vocabularies"
    ]  # fmt: skip
    files = [path for path in (tmp_path / "code").rglob("*") if path.is_file()]
    assert not [path for path in files if "__pycache__" in path.parts or path.name.startswith(("test_", "."))]
    assert sum(path.stat().st_size for path in files) < 15e6
    assert environment["env_vars"].items() >= SAFE_FORKS.items()  # or the driver may die before it is there
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "--version"],
        cwd=environment["working_dir"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("escnet, version ")
    assert "py_modules" not in runtime_environment(tmp_path / "again", {"job.yaml": ""}, "cluster")


def test_only_a_complete_output_of_the_same_job_is_complete(tmp_path, monkeypatch):
    world, labelled = small_world(tmp_path), Labelling()
    monkeypatch.setattr("pipeline.annotation.annotate.label_shards", labelled)
    asked = {
        "sources": (str(tmp_path / "photos"),), "vocabularies": (str(tmp_path / "w.yaml"),), "model": "escnet-nano",
        "output": str(tmp_path / "out"), "shard_size": 2,
    }  # fmt: skip
    assert complete(request(**asked)) is None
    world.annotate(tmp_path / "out")
    report = complete(request(**asked))
    assert (report.n_pictures_done, report.totals.labelled) == (6, 6)
    assert complete(request(**asked, views="sliding")) is None
    assert complete(request(**asked, preselect="off")) is None
    assert complete(request(**{**asked, "vocabularies": ("pascal-voc-20",)})) is None
    assert complete(request(**{**asked, "model": "other.safetensors"})) is None
    next((tmp_path / "out" / "labels").glob("*.parquet")).unlink()
    assert complete(request(**asked)) is None
    with pytest.raises(OutputError, match="holds something else"):
        complete(request(**{**asked, "output": str(tmp_path / "photos")}))


def test_this_machine_remembers_its_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("ESCNET_STATE", str(tmp_path))
    assert newest_address() is None
    first = SubmittedJob("escnet-a", "http://one:8265", "annotate", "s3://b/l", 5.0, "http://s3")
    remember(first)
    remember(SubmittedJob("escnet-b", "http://two:8265", "train", "/runs/b", 4.0))
    assert recall("escnet-a") == first
    assert recall("escnet-c") is None
    assert newest_address() == "http://one:8265"
    (tmp_path / "jobs" / "escnet-a.json").write_text("{")
    with pytest.raises(InputError, match=r"escnet-a.json: is damaged"):
        recall("escnet-a")
