"""Jobs over six small pictures, done by a stand-in for actors and model."""

from pathlib import Path

import pytest

import pipeline.annotation.annotate
from tests.pipeline.small_jobs import Labelling, World, small_world


@pytest.fixture
def labelling(monkeypatch) -> Labelling:
    here = Labelling()
    monkeypatch.setattr(pipeline.annotation.annotate, "label_shards", here)
    return here


@pytest.fixture
def world(tmp_path, labelling: Labelling) -> World:
    assert labelling.vocabularies == []  # nothing is labelled but by the stand-in
    return small_world(tmp_path)


@pytest.fixture
def old(world, tmp_path) -> Path:
    """The six pictures labelled, in shards of two."""
    world.annotate(tmp_path / "old")
    return tmp_path / "old"
