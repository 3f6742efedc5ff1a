"""The network alone: what is measured of it, in what it is measured, and what is refused."""

import numpy as np
import pytest

from pipeline.bench import BenchRequest, bench
from pipeline.bench.alone import Measured, Setting, measure, measure_in_process
from pipeline.bench.devices import known_peak
from pipeline.bench.made_up import made_up_picture, made_up_vocabulary
from schemas.errors import InputError, JobFailedError


def setting(**changes) -> Setting:
    whole = {
        "model": "escnet-nano", "allow_random_weights": True, "device": "cpu", "n_classes": 2, "views": "single",
        "dtype": "float32", "preselect": "off", "batch_size": 1, "width": 64, "height": 48, "threads": 1, "repeat": 2,
    }  # fmt: skip
    return Setting(**{**whole, **changes})


def test_a_pass_is_timed_and_its_operations_counted_and_grow_with_views_and_batch():
    one = measure(setting())
    assert len(one.seconds) == 2
    assert one.median_s == pytest.approx(sum(one.seconds) / 2)
    assert one.flops > 1e8
    assert one.peak_mib > 100
    assert measure(setting(batch_size=2, repeat=1)).flops == pytest.approx(2 * one.flops)
    assert measure(setting(n_classes=8, repeat=1)).flops > 1.5 * one.flops


def test_classes_that_are_not_preselected_are_not_computed():
    few, many = measure(setting(n_classes=4, repeat=1)), measure(setting(n_classes=40, preselect=4, repeat=1))
    assert many.flops < 1.1 * few.flops


def test_a_process_that_dies_ends_the_bench_with_one_line(monkeypatch):
    monkeypatch.setattr("pipeline.bench.alone.sys.executable", "false")
    said = "2 classes, single, float32, 64 x 48: the measuring process ended with 1: it was killed"
    with pytest.raises(JobFailedError, match=said):
        measure_in_process(setting())


def test_pictures_and_words_are_the_same_every_time_and_differ():
    assert np.array_equal(made_up_picture(1, (64, 48)), made_up_picture(1, (64, 48)))
    assert not np.array_equal(made_up_picture(1, (64, 48)), made_up_picture(2, (64, 48)))
    assert made_up_picture(1, (64, 48)).shape == (48, 64, 3)
    names = [each.name for each in made_up_vocabulary(1000).classes]
    assert len(set(names)) == 1000
    assert names[:3] == ["wall", "building", "sky"]
    with pytest.raises(InputError, match="5000 classes: there are 1,"):
        made_up_vocabulary(5000)


@pytest.fixture
def found(monkeypatch) -> list[Setting]:
    """The settings that are measured, each in no time."""
    found = []

    def measured(each):
        found.append(each)
        return Measured((0.2, 0.1, 0.4), 900, 100, 4e9)

    monkeypatch.setattr("pipeline.bench.measure_in_process", measured)
    return found


@pytest.mark.parametrize(
    ("model", "asked", "measured"),
    [
        ("escnet-b16", None, [32]),
        ("cat-seg-b16", None, ["off"]),
        ("escnet-b16", ["off", 16], ["off", 16]),
        ("cat-seg-b16", ["off"], ["off"]),
    ],
)
def test_classes_are_preselected_as_in_a_job_unless_asked_otherwise(found, model, asked, measured):
    request = BenchRequest(
        model, allow_random_weights=True, device="cpu", classes=(150,), preselects=asked, n_pictures=0
    )
    report = bench(request, lambda _: None)
    assert [each.preselect for each in found] == [row["preselect"] for row in report["model"]] == measured


def test_limits_that_a_vocabulary_cannot_reach_are_measured_once_and_every_setting_has_its_own_name(found):
    request = BenchRequest("escnet-nano", device="cpu", classes=(20, 40), preselects=("off", 32, 64), n_pictures=0)
    said = []
    report = bench(request, said.append)
    measured = [(row["classes"], row["preselect"]) for row in report["model"]]
    assert len(found) == 5
    assert measured == [(20, "off"), (40, "off"), (20, 32), (40, 32), (40, 64)]
    assert [line for line in said if " of 5: " in line] == [
        "1 of 5: 20 classes, single, float32, 640 x 480",
        "2 of 5: 40 classes, single, float32, 640 x 480",
        "3 of 5: 20 classes (at most 32 preselected), single, float32, 640 x 480",
        "4 of 5: 40 classes (at most 32 preselected), single, float32, 640 x 480",
        "5 of 5: 40 classes (at most 64 preselected), single, float32, 640 x 480",
    ]


def test_preselection_is_refused_for_a_model_whose_classes_depend_on_each_other():
    request = BenchRequest("cat-seg-b16", allow_random_weights=True, device="cpu", preselects=[8], n_pictures=0)
    with pytest.raises(InputError, match="--preselect 8: the classes of this model depend on each other"):
        bench(request, lambda _: None)


def test_every_combination_is_a_row_and_the_default_precision_is_that_of_a_job(found):
    request = BenchRequest(
        "escnet-nano", device="cpu", classes=(5, 9), views=("single", "sliding"), batch_sizes=(2,), n_pictures=0
    )
    report = bench(request, lambda _: None)
    assert [(row["classes"], row["views"]) for row in report["model"]] == [
        (5, "single"), (9, "single"), (5, "sliding"), (9, "sliding"),
    ]  # fmt: skip
    first = report["model"][0]
    assert (first["seconds_per_image"], first["seconds_per_image_min"], first["pictures_per_s"]) == (0.1, 0.05, 10.0)
    assert (first["gflop_per_image"], first["share_of_peak"], first["dtype"]) == (2.0, None, "float32")
    assert (report["pipeline"], report["job"]) == ([], None)
    assert {each.batch_size for each in found} == {2}


def test_a_gpu_is_known_by_its_name():
    assert known_peak("NVIDIA H200", "bfloat16") == 989e12
    assert known_peak("NVIDIA L40S", "float32") == 91.6e12  # not an L4
    assert known_peak("NVIDIA GeForce RTX 4090", "float32") is None
