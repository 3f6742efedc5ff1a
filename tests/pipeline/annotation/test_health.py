"""Shards that are far off the others, and runs that stray from their plan."""

from dataclasses import replace

import pytest

from pipeline.actors.orders import Counts, ShardResult
from pipeline.annotation.health import LEAST_SHARDS, REMEMBERED, PlanWatch, ShardMonitor, UsualMix
from schemas.expectation import Expectation, Interval
from schemas.labels import ShardTotals
from schemas.timings import ShardTimings

USUAL = {"sky": 0.5, "grass": 0.3, "road": 0.2}


def result(mix=USUAL, *, n=16, n_failed=0, ignored=0.1, confidence=0.9, n_empty=0, per_s=2.0, vocabulary="v"):
    pixels = 100_000
    classes = {k: {"name": name, "pixels": round(share * pixels * (1 - ignored)), "pictures": n}
               for k, (name, share) in enumerate(mix.items())}  # fmt: skip
    n_labelled = n - n_failed
    totals = ShardTotals(n, n_labelled, {"decode/corrupt": n_failed}, pixels, round(ignored * pixels), classes)
    timings = ShardTimings({"segment": n_labelled / per_s}, n_labelled / per_s, {}, n, n_labelled, n)
    return ShardResult(
        "shard", totals, Counts(n_labelled, n_failed), False, False, "", 0, timings, vocabulary, n_empty, confidence
    )


def monitor(n=LEAST_SHARDS):
    watch = ShardMonitor()
    for k in range(n):  # as shards differ
        mix = {"sky": 0.5 + 0.02 * (k % 3), "grass": 0.3 - 0.02 * (k % 3), "road": 0.2}
        assert watch.look(result(mix, confidence=0.9 - 0.01 * (k % 3), ignored=0.1 + 0.01 * (k % 2))) is None
    return watch


def test_shards_that_differ_as_shards_do_are_no_alarm():
    assert monitor(30).look(result()) is None


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (result({"water": 0.6, "sand": 0.4}), "distance of its classes from the usual ones 1.00, usually 0.0"),
        (result(confidence=0.4), "mean confidence 0.40, usually 0.89"),
        (result(ignored=0.8), "ignored share of the pixels 0.80, usually 0.1"),
        (result(n_empty=12), "share of pictures without any class 0.75, usually 0.00"),
    ],
    ids=["classes", "confidence", "ignored", "empty"],
)
def test_a_shard_far_off_is_an_alarm(odd, said):
    line = monitor().look(odd)
    assert line.startswith(f"alarm: shard shard is far off the {LEAST_SHARDS} before it: ")
    assert said in line
    assert "swapped colour channels" in line


@pytest.mark.parametrize(("n", "n_blank", "is_alarm"), [(8, 2, False), (8, 6, True), (256, 64, True)])
def test_two_blank_pictures_among_eight_are_chance_and_a_quarter_of_many_is_none(n, n_blank, is_alarm):
    watch = ShardMonitor()
    for _ in range(LEAST_SHARDS):
        watch.look(result(n=n, ignored=0.0))
    line = watch.look(result(n=n, n_empty=n_blank, ignored=n_blank / n))
    assert (line is not None) is is_alarm


def test_the_classes_that_changed_are_named():
    assert "water 60% for 0%, sky 0% for 52%, sand 40% for 0%" in monitor().look(result({"water": 0.6, "sand": 0.4}))


def test_what_is_usual_is_the_mean_of_the_last_shards_and_holds_no_class_that_is_gone():
    usual, mixes = UsualMix(), []
    for k in range(3 * REMEMBERED):
        mixes.append({f"class {k // 40 + n}": share for n, share in enumerate((0.7, 0.2, 0.1 / (k + 1)))})
        usual.add(mixes[-1])
        last = mixes[-REMEMBERED:]
        names = {name for mix in last for name in mix}
        mean = {name: sum(mix.get(name, 0.0) for mix in last) / len(last) for name in names}
        assert (len(usual), usual.mean()) == (len(last), pytest.approx(mean, abs=1e-12))


def test_too_few_shards_or_pictures_tell_nothing():
    assert monitor(LEAST_SHARDS - 1).look(result(confidence=0.1)) is None
    assert monitor().look(result(confidence=0.1, n=3)) is None
    assert monitor().look(result(confidence=0.1, n=8, n_failed=8)) is None
    assert monitor().look(result(confidence=0.1, vocabulary="w")) is None


def test_what_is_usual_may_change():
    watch = monitor()
    lines = [watch.look(result({"water": 1.0}, confidence=0.5)) for _ in range(60)]
    assert lines[0] is not None
    assert lines[-1] is None


EXPECTED = Expectation(
    n_pictures=1000,
    n_pilot=64,
    pictures_per_s=Interval(low=1.8, found=2.0, high=2.2),
    failed_fraction=Interval(low=0.0, found=0.01, high=0.05),
    ignored_fraction=0.1,
    ignored_spread=0.2,
    classes=USUAL,
    class_spread=0.8,
)


def strayed(some, n=8):
    watch = PlanWatch(EXPECTED)
    found = [watch.look(some) for _ in range(n)]
    assert sum(map(bool, found)) <= 1  # each kind once
    return next((lines for lines in found if lines), {})


def test_a_run_as_planned_is_not_spoken_of():
    assert strayed(result()) == {}


@pytest.mark.parametrize(
    ("odd", "kind", "said"),
    [
        (result(per_s=1.0), "slower", "1.00 pictures a second and actor, planned were 1.80 to 2.20"),
        (result(per_s=4.0), "faster", "4.00 pictures a second and actor, planned were 1.80 to 2.20"),
        (result(n_failed=8), "failures", "50.0% failed, planned were at most 5.0%"),
        (result(ignored=0.5), "ignored", "50.0% of the pixels are ignored, planned were 10.0%"),
        (result({"water": 1.0}), "classes", "other classes than planned: water 100% for 0%, sky 0% for 50%"),
    ],
    ids=["slower", "faster", "failures", "ignored", "classes"],
)
def test_a_run_that_strays_is_told_of(odd, kind, said):
    lines = strayed(odd)
    assert list(lines) == [kind]
    n_pictures = 48 if kind in ("slower", "faster") else 32  # the first shard tells nothing of the rate
    assert lines[kind].startswith(f"strayed from the plan after {n_pictures} pictures: ")
    assert said in lines[kind]


def test_the_first_shard_of_an_actor_tells_nothing_of_its_rate():
    watch = PlanWatch(EXPECTED)
    for per_s, actors in ((0.5, range(4)), (2.0, (0, 1))):
        for actor in actors:
            assert watch.look(replace(result(per_s=per_s), actor=actor)) == {}
    assert list(watch.look(replace(result(per_s=0.5), actor=2))) == ["slower"]


def test_the_first_pictures_tell_nothing():
    assert strayed(result({"water": 1.0}), n=1) == {}
