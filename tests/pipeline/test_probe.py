import pytest

from pipeline.probe import Probe
from schemas.errors import JobFailedError
from schemas.job import ShardRef


def shards(*sizes):
    return [ShardRef(f"s{i}", "words", "part", i, size) for i, size in enumerate(sizes)]


def test_a_job_stops_when_the_shards_of_its_first_hundred_pictures_all_failed():
    first, second, third = shards(60, 60, 60)
    probe = Probe([first, second, third], has_labels=False)
    probe.withhold(third, "fetch/forbidden")
    probe.withhold(first, "fetch/forbidden")
    probe.check()
    probe.withhold(second, "fetch/forbidden")
    with pytest.raises(JobFailedError, match="the first 100 pictures all failed, the last one with fetch/forbidden"):
        probe.check()


def test_one_label_releases_what_was_withheld_once():
    first, second = shards(100, 100)
    probe = Probe([first, second], has_labels=False)
    probe.withhold(first, "decode/corrupt")
    assert probe.take_released() == []
    probe.pass_()
    probe.check()
    assert probe.take_released() == [first]
    assert probe.take_released() == []


@pytest.mark.parametrize(("sizes", "has_labels"), [((99,), False), ((50, 49), False), ((500,), True)])
def test_small_jobs_and_outputs_with_labels_have_nothing_to_find_out(sizes, has_labels):
    assert Probe(shards(*sizes), has_labels=has_labels).passed
