from dataclasses import replace

import pytest

from escnet.models import resolve_model
from pipeline.annotation.resolve import resolve_job
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.job import JobRequest


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        ("escnet-nano", None, "single"),
        ("escnet-nano", "sliding", "sliding"),
        ("escnet-b16", None, "sliding"),
        ("escnet-b16", "single", "single"),
    ],
)
def test_a_picture_is_seen_in_the_views_the_model_was_made_for_unless_others_are_asked_for(model, asked, expected):
    request = JobRequest(
        sources=("s",), vocabularies=("pascal-voc-20",), output="o", model=model, views=asked, allow_random_weights=True
    )
    assert resolve_job(request, StorageOptions(), [{"CPU": 1.0}]).options.views == expected


def resolved_preselection(monkeypatch, fusion, asked):
    model = resolve_model("escnet-nano", allow_random_weights=True)
    model = replace(model, config=model.config.model_copy(update={"fusion": fusion}))
    monkeypatch.setattr("pipeline.annotation.resolve.find_model", lambda *_: model)
    request = JobRequest(sources=("s",), vocabularies=("pascal-voc-20",), output="o", model="m", preselect=asked)
    return resolve_job(request, StorageOptions(), [{"CPU": 1.0}]).options.preselect


@pytest.mark.parametrize(
    ("fusion", "asked", "expected"),
    [
        ("per_class", None, 32),
        ("per_class", 7, 7),
        ("per_class", "off", "off"),
        ("mean", None, "off"),
        ("mean", "off", "off"),
    ],
)
def test_classes_are_left_out_of_a_picture_where_that_changes_no_other(monkeypatch, fusion, asked, expected):
    assert resolved_preselection(monkeypatch, fusion, asked) == expected


def test_preselection_is_refused_where_classes_depend_on_each_other(monkeypatch):
    with pytest.raises(InputError, match=r"--preselect 7: .*depend on each other.*use off"):
        resolved_preselection(monkeypatch, "mean", 7)


def n_actors(**options) -> int:
    """On a node of 64 cores and 32 GiB."""
    request = JobRequest(sources=("s",), output="o", allow_random_weights=True, **options)
    return resolve_job(request, StorageOptions(), [{"CPU": 64.0, "memory": 32 * 2**30}]).placement.n_actors


def test_fewer_actors_fit_where_their_classes_take_more_memory():
    """Of a sliding view of a CAT-Seg every class costs megabytes."""
    few, many = ({"vocabularies": (name,), "model": "cat-seg-b16"} for name in ("pascal-voc-20", "ade20k-847"))
    assert (n_actors(**few), n_actors(**many)) == (11, 6)
    assert n_actors(**few, views="single") == n_actors(**many, views="single") + 1 == 12
    assert n_actors(**{**many, "vocabularies": ("pascal-voc-20", "ade20k-847")}) == 6
    assert n_actors(**{**few, "model": "escnet-b16"}) == n_actors(**{**many, "model": "escnet-b16"})


@pytest.mark.parametrize(
    ("node", "asked", "expected"),
    [({"GPU": 1.0}, None, 16), ({"GPU": 1.0}, 3, 3), ({}, None, 1), ({}, 3, 1)],
)
def test_pictures_go_through_the_model_in_batches_on_gpus_alone(node, asked, expected):
    request = JobRequest(
        sources=("s",), output="o", vocabularies=("pascal-voc-20",), model="escnet-nano", batch_size=asked
    )
    assert resolve_job(request, StorageOptions(), [{"CPU": 8.0, **node}]).options.batch_size == expected
