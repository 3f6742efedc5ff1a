"""From a pilot's shards to what the whole job will come to."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.actors.placement import Placement
from pipeline.estimate.pilot import PilotPicture, PilotShard
from pipeline.estimate.plan import Estimate
from pipeline.estimate.reckoning import expect, label_bytes
from pipeline.estimate.summary import estimate_json, estimate_lines
from schemas.errors import JobFailedError
from schemas.labels import ShardTotals

FAILED = PilotPicture(is_labelled=False)
HALF_SKY = PilotPicture(True, 1000, 0.2, {"sky": 400, "grass": 400})


def pilot_of(shards):
    pictures = [picture for shard in shards for picture in shard.pictures]
    n_failed = sum(not picture.is_labelled for picture in pictures)
    report = SimpleNamespace(totals=ShardTotals(failed={"decode/corrupt": n_failed}))
    return SimpleNamespace(shards=shards, pictures=pictures, report=report)


def shards(n, seconds, pictures=(HALF_SKY,) * 4, *, is_first=False):
    n_segmented = sum(p.is_labelled for p in pictures)
    return [PilotShard(is_first, n_segmented, seconds, list(pictures), 4000, 500) for _ in range(n)]


def test_the_first_shard_of_every_actor_is_cold_and_no_part_of_the_rate():
    cold = shards(2, 100.0, is_first=True)
    rate = expect(pilot_of([*cold, *shards(8, 2.0)]), 1000).pictures_per_s
    assert expect(pilot_of(cold), 1000).pictures_per_s.found == 0.04  # better than nothing
    assert rate.found == 2.0
    assert (rate.low, rate.high) == (pytest.approx(2.0 * 0.92), pytest.approx(2.0 * 1.08))  # never surer than that


def test_rates_that_differ_make_a_wide_interval():
    rate = expect(pilot_of([*shards(6, 1.0), *shards(6, 4.0)]), 1000).pictures_per_s
    assert rate.found == pytest.approx(48 / 30)
    assert rate.low < 1.3
    assert rate.high > 2.0


def test_failures_and_classes_of_the_pilot_are_expected_of_the_job():
    expected = expect(pilot_of(shards(4, 1.0, (HALF_SKY, HALF_SKY, HALF_SKY, FAILED))), 1000)
    assert (expected.n_pictures, expected.n_pilot) == (1000, 16)
    assert expected.failed_fraction.found == 0.25
    assert expected.failed_fraction.high == pytest.approx(0.495, abs=0.01)
    assert expected.ignored_fraction == pytest.approx(0.2)
    assert expected.classes == {"sky": 0.5, "grass": 0.5}
    assert expected.class_spread == 0.0  # all pictures are alike


def test_pictures_that_differ_let_a_run_stray():
    sky, grass = PilotPicture(True, 1000, 0.0, {"sky": 1000}), PilotPicture(True, 1000, 1.0, {})
    spread = expect(pilot_of(shards(8, 1.0, (sky, PilotPicture(True, 1000, 0.0, {"grass": 1000}), sky, grass))), 9)
    assert 0.5 < spread.class_spread < 2
    assert 0.5 < spread.ignored_spread < 2


def test_a_pilot_without_a_label_is_no_plan():
    with pytest.raises(JobFailedError, match=r"none of the pilot's 8 pictures could be labelled \(decode/corrupt 8\)"):
        expect(pilot_of(shards(2, 1.0, (FAILED,) * 4)), 1000)


@pytest.fixture
def estimate():
    pilot = pilot_of(shards(9, 2.0))
    place = Placement(4, 1, 0.5)
    return Estimate(
        5_000_000,
        40,
        180,
        place,
        {"fetch/not_found": 1},
        30.0,
        10.0,
        1.0,
        label_bytes(pilot, 7200, 40),
        expect(pilot, 7200),
        3.0,
    )


def test_hours_and_cost_follow_from_the_rate(estimate):
    assert estimate.actor_hours.found == pytest.approx(1.0)  # 7200 pictures at 2 a second
    assert estimate.seconds.found == pytest.approx(911.0)  # four actors, the start and the end
    assert estimate.gpu_hours.found == pytest.approx(0.5)
    assert estimate.cost.found == pytest.approx(1.5)
    assert estimate.actor_hours.low == pytest.approx(1 / 1.08)
    assert estimate.label_bytes.found == 7_200_000 + 40 * 500


def test_a_shard_is_one_actors(estimate):
    few = replace(estimate, n_shards=5, shard_size=1440)  # four actors: one of them has two
    assert few.seconds.found == pytest.approx(2 * 1440 / 2 + 11)
    one = replace(estimate, n_shards=1, shard_size=10_000)
    assert one.seconds.found == pytest.approx(7200 / 2 + 11)


def test_an_estimate_in_words_and_as_data(estimate):
    lines = estimate_lines(estimate)
    assert lines[0] == "7,200 pictures (5.0 MB) in 40 shards"
    assert "  time:     15 min 11 s (14 min 4 s to 16 min 29 s) with 4 actors, 10 s of it to start" in lines
    assert "  work:     0.5 (0.46 to 0.54) GPU-hours" in lines
    assert "  cost:     1.50 (1.39 to 1.63), at 3 an hour" in lines
    assert "  classes:  2 found: sky 50.0%, grass 50.0%" in lines
    plain = estimate_json(estimate)
    assert plain["gpu_hours"]["found"] == pytest.approx(0.5)
    assert plain["expected"]["n_pictures"] == 7200
