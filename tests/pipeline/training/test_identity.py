"""What decides a run: data moved or renamed is the same run, other data or another rate another."""

import shutil

import pytest

from pipeline.training.config_file import model_config, read_config
from pipeline.training.identity import describe_data, identity_of, with_absolute_places
from pipeline.training.sources import open_sources
from tests.pipeline.training.pictures_of import STORAGE, write_pictures

RECIPE = """\
name: small
model: {preset: escnet-nano}
trainable: all
stages:
  - name: one
    steps: 10
    data: [{manifest: manifest.csv, vocabulary: words.txt, split: train}, {demo_world: scenes}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    write_pictures(tmp_path / "a")
    (tmp_path / "a" / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path / "a")
    return tmp_path / "a"


def identity(*overrides):
    config = read_config("r.yaml", overrides)
    model = model_config(config.model)
    return identity_of(config, model, open_sources(config, model, STORAGE))


def test_names_cadences_and_places_make_no_other_run(folder, monkeypatch):
    before = identity()
    shutil.copytree(folder, folder.parent / "b")
    shutil.rmtree(folder)
    monkeypatch.chdir(folder.parent / "b")
    (folder.parent / "b" / "manifest.csv").rename(folder.parent / "b" / "other.csv")
    free = ("name=x", "description=y", "checkpoint_every=7", "log_every=3", "stages.0.name=z")
    assert identity("stages.0.data.0.manifest=other.csv", *free) == before


@pytest.mark.parametrize(
    "override",
    ["seed=1", "stages.0.steps=11", "stages.0.data.0.flip=false", "model.changes.hidden_dim=64",
     "stages.0.data.0.split=val", "stages.0.data.0.vocabulary=pascal-voc-20", "precision=float32"],
)  # fmt: skip
@pytest.mark.usefixtures("folder")
def test_whatever_changes_the_curve_makes_another_run(override):
    assert identity(override) != identity()


def test_local_names_become_absolute_and_bundled_ones_stay(folder):
    overrides = ("validation.data.manifest=manifest.csv", "validation.data.vocabulary=ade20k-150")
    config = with_absolute_places(read_config("r.yaml", overrides), STORAGE)
    one, world = config.stages[0].data
    assert (one.manifest, one.vocabulary) == (str(folder / "manifest.csv"), str(folder / "words.txt"))
    assert world.demo_world == "scenes"
    assert config.validation.data.vocabulary == "ade20k-150"


@pytest.mark.usefixtures("folder")
def test_the_data_are_described_for_people():
    config = read_config("r.yaml")
    model = model_config(config.model)
    assert describe_data(config, open_sources(config, model, STORAGE)) == [
        {"stage": "one", "source": "manifest.csv", "split": "train", "vocabulary": "words", "pictures": 5},
        {"stage": "one", "source": "demo world, scenes", "split": None},
    ]
