import pytest

from pipeline.actors.probe import Probe
from schemas.errors import JobFailedError
from schemas.job import ShardRef


def shards(*sizes):
    return [(ShardRef(f"s{i}", "words", "part", i, size), size) for i, size in enumerate(sizes)]


def test_a_job_stops_when_the_shards_of_its_first_hundred_pictures_all_failed():
    first, second, third = shards(60, 60, 60)
    probe = Probe([first, second, third], has_labels=False)
    probe.withhold(third[0], "fetch/forbidden")
    probe.withhold(first[0], "fetch/forbidden")
    probe.check()
    probe.withhold(second[0], "fetch/forbidden")
    with pytest.raises(JobFailedError, match="the first 100 pictures all failed, the last one with fetch/forbidden"):
        probe.check()


def test_one_label_releases_what_was_withheld_once():
    first, second = shards(100, 100)
    probe = Probe([first, second], has_labels=False)
    probe.withhold(first[0], "decode/corrupt")
    assert probe.take_released() == []
    probe.pass_()
    probe.check()
    assert probe.take_released() == [first[0]]
    assert probe.take_released() == []


@pytest.mark.parametrize("sizes", [(99,), (50, 49)])
def test_small_jobs_have_nothing_to_find_out(sizes):
    probe = Probe(shards(*sizes), has_labels=False)
    assert (probe.passed, probe.withholds) == (True, "none")


def test_where_labels_are_already_only_what_storage_does_not_give_is_withheld():
    first, second = shards(100, 100)
    assert Probe([first, second], has_labels=False).withholds == "failed"
    probe = Probe([first, second], has_labels=True)
    assert probe.withholds == "unreadable"
    probe.withhold(first[0], "fetch/forbidden")
    with pytest.raises(JobFailedError, match="the first 100 pictures all failed, the last one with fetch/forbidden"):
        probe.check()
