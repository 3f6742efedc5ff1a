"""The end of a run: how fast, how much of what the model could do, and what to do about the rest."""

import pytest

from pipeline.annotation.speed import speed_lines
from schemas.timings import RunTimings, ShardTimings


def run(*, start_s=2.0, segment=90.0, model_s=90.0, n_actors=1, seconds=None, **waits) -> RunTimings:
    """A hundred seconds an actor, in which a hundred pictures were labelled."""
    stages = {"segment": segment, **(seconds or {})}
    shards = ShardTimings(stages, model_s, waits, n_pictures=100, n_segmented=100)
    return RunTimings(n_actors, start_s, 100.0, 1.0, shards)


def test_a_run_says_what_the_model_alone_would_do():
    assert speed_lines(run(segment=97.0, model_s=97.0)) == [
        "  speed:   the model alone does 1.03 pictures a second on 1 actor; while labelling this run came to 1.00, "
        "97% of that",
        "  time:    2.0 s to start, 100.0 s labelling, 1.0 s to end",
    ]
    assert "does 1.03 pictures a second on 2 actors" in speed_lines(run(n_actors=2, segment=194, model_s=194))[0]


@pytest.mark.parametrize(
    ("timings", "said"),
    [
        (run(pictures=9.0, seconds={"fetch": 5.0, "decode": 2.0}), "9% by fetching pictures"),
        (run(pictures=9.0, seconds={"fetch": 1.0, "decode": 2.0}), "9% by decoding pictures"),
        (run(pictures=9.0, seconds={"memory": 3.0, "decode": 2.0}), "9% by pictures so large"),
        (run(encoding=9.0), "9% by encoding labels"),
        (run(segment=90.0, model_s=80.0), "10% by decoding, encoding or other programs on the cores"),
        (run(), "10% by actors without a shard"),
        (run(segment=97.0, model_s=97.0, start_s=60.0), "37% by the start"),
    ],
)
def test_what_held_the_run_up_is_named_with_what_helps(timings, said):
    assert speed_lines(timings)[2].startswith(f"  held up: {said}")
    assert len(speed_lines(timings)) == 3


def test_a_run_of_seconds_gets_no_advice():
    assert len(speed_lines(RunTimings(1, 20.0, 8.0, 1.0, run().shards))) == 2


def test_without_a_labelled_picture_nothing_is_said():
    assert speed_lines(RunTimings(1, 2.0, 0.0, 1.0, ShardTimings())) == []
