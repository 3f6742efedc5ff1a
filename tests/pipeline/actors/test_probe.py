import pytest

from pipeline.actors.probe import Probe
from schemas.errors import JobFailedError
from schemas.job import ShardRef


def shards(*sizes):
    return [(ShardRef(f"s{i}", "words", "part", i, size), size) for i, size in enumerate(sizes)]


def test_a_job_stops_when_the_shards_of_its_first_hundred_pictures_all_failed():
    first, second, third = shards(60, 60, 60)
    probe = Probe([first, second, third], has_labels=False)
    probe.withhold(third[0], "fetch/forbidden", is_refused=False)
    probe.withhold(first[0], "fetch/forbidden", is_refused=False)
    probe.check()
    probe.withhold(second[0], "fetch/forbidden", is_refused=False)
    with pytest.raises(JobFailedError, match="the first 100 pictures all failed, the last one with fetch/forbidden"):
        probe.check()


def test_one_label_releases_what_was_withheld_once():
    first, second = shards(100, 100)
    probe = Probe([first, second], has_labels=False)
    probe.withhold(first[0], "decode/corrupt", is_refused=False)
    assert probe.take_released() == []
    probe.pass_()
    probe.check()
    assert probe.take_released() == [first[0]]
    assert probe.take_released() == []


@pytest.mark.parametrize("sizes", [(99,), (50, 49)])
def test_small_jobs_have_nothing_to_find_out(sizes):
    probe = Probe(shards(*sizes), has_labels=False)
    assert (probe.passed, probe.withholds) == (True, "refused")


def test_where_labels_are_already_only_what_storage_does_not_give_is_withheld():
    first, second = shards(100, 100)
    assert Probe([first, second], has_labels=False).withholds == "failed"
    probe = Probe([first, second], has_labels=True)
    assert probe.withholds == "unreadable"
    probe.withhold(first[0], "fetch/forbidden", is_refused=False)
    with pytest.raises(JobFailedError, match="the first 100 pictures all failed, the last one with fetch/forbidden"):
        probe.check()


def ran_out(*sizes):
    """A probe that has passed, and shards of these sizes."""
    found = shards(*sizes)
    probe = Probe(found, has_labels=False)
    probe.pass_()
    return probe, [ref for ref, _ in found]


def test_a_job_stops_at_a_hundred_pictures_in_a_row_that_storage_refuses_by_now():
    probe, (first, second) = ran_out(60, 60)
    assert probe.withholds == "refused"
    probe.withhold(first, "fetch/forbidden: a", is_refused=True)
    probe.check()
    probe.withhold(second, "fetch/forbidden: b", is_refused=True)
    with pytest.raises(
        JobFailedError, match="refuses by now what it gave before, the last one with fetch/forbidden: b"
    ):
        probe.check()


def test_a_shard_published_in_between_releases_what_was_refused():
    probe, (first, third) = ran_out(60, 60)
    probe.withhold(first, "fetch/forbidden", is_refused=True)
    assert probe.take_released() == []
    probe.pass_()
    assert probe.take_released() == [first]
    probe.withhold(third, "fetch/forbidden", is_refused=True)
    probe.check()


def test_a_run_does_not_end_well_with_shards_withheld():
    probe, (first,) = ran_out(3)
    probe.end()
    probe.withhold(first, "fetch/forbidden", is_refused=True)
    probe.check()
    with pytest.raises(JobFailedError, match="credentials may have run out"):
        probe.end()


def test_credentials_that_run_out_within_the_first_hundred_are_said_as_such():
    (first,) = shards(200)
    probe = Probe([first], has_labels=False)
    probe.withhold(first[0], "fetch/forbidden", is_refused=True)
    with pytest.raises(JobFailedError, match="credentials may have run out"):
        probe.check()


def test_a_shard_of_failures_that_was_handed_out_before_the_first_label_is_done_again_at_once():
    probe, (first, _) = ran_out(200, 200)
    probe.withhold(first, "decode/corrupt", is_refused=False)
    probe.check()
    assert probe.take_released() == [first]
