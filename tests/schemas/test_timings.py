"""Where the time went: parts add up, and what is missing has a reason."""

import pytest

from schemas.timings import RunTimings, ShardTimings, add_up


def shard(**changes) -> ShardTimings:
    whole = {
        "seconds": {"fetch": 3.0, "segment": 10.0}, "model_s": 8.0, "waits": {"pictures": 4.0, "encoding": 1.0},
        "n_pictures": 11, "n_segmented": 10, "n_batches": 5, "n_ready": 20, "n_encoding": 10,
    }  # fmt: skip
    return ShardTimings(**{**whole, **changes})


def test_shards_add_up():
    total = add_up([shard(), shard(seconds={"decode": 2.0}), ShardTimings()])
    assert {name: seconds for name, seconds in total.seconds.items() if seconds} == {
        "fetch": 3.0, "segment": 10.0, "decode": 2.0,
    }  # fmt: skip
    assert (total.model_s, total.waits["pictures"], total.n_segmented, total.n_ready) == (16.0, 8.0, 20, 40)
    plain = total.as_json()
    assert (plain["ready_mean"], plain["encoding_mean"], plain["n_batches"]) == (4.0, 2.0, 10)


def test_the_model_alone_and_what_a_run_reached_of_it():
    timings = RunTimings(n_actors=2, start_s=5.0, labelling_s=10.0, end_s=1.0, shards=shard())
    assert timings.alone_per_s == 2 * 10 / 8.0
    assert timings.labelled_per_s == 1.0
    assert timings.reached == pytest.approx(0.4)
    # Of 20 actor seconds the model had 8: 4 without pictures, 1 behind the encoder, 2 without its core, 5 the rest.
    assert timings.lost() == {"pictures": 0.2, "encoding": 0.05, "cores": 0.1, "shards": 0.25}
    assert timings.reached + sum(timings.lost().values()) == pytest.approx(1.0)


def test_a_run_that_labelled_nothing_has_no_speed():
    timings = RunTimings(n_actors=1, start_s=5.0, labelling_s=0.0, end_s=1.0, shards=ShardTimings())
    assert (timings.alone_per_s, timings.reached, timings.labelled_per_s, timings.lost()) == (None, None, 0.0, {})
    assert timings.as_json()["reached"] is None
