"""The search for the picture that ends its process, with a process that is only told of."""

import pytest

from pipeline.actors.shard_work import MAX_FRUITLESS, MAX_POISON, ShardWork
from pipeline.actors.suspects import N_DEATHS_ALONE, Search
from schemas.job import ShardRef


def search_with(n, culprits):
    """Run a search over n pictures; the culprits found, and the groups tried."""
    search, groups = Search(range(n)), []
    while (group := search.group) is not None:
        groups.append(group)
        if culprits & set(group):
            search.died("killed")
        else:
            search.survived()
    return search.found, groups


@pytest.mark.parametrize("culprits", [set(), {0}, {255}, {77}, {3, 4}, {0, 128, 200}, set(range(8))])
def test_exactly_the_culprits_are_found(culprits):
    found, groups = search_with(256, culprits)
    assert found == dict.fromkeys(culprits, "killed")
    for culprit in culprits:
        assert groups.count((culprit,)) == N_DEATHS_ALONE


def test_one_culprit_costs_eight_halvings_of_256():
    _, groups = search_with(256, {77})
    assert sum(77 in group for group in groups) == 7 + N_DEATHS_ALONE
    assert len(groups) <= 2 * 8 + N_DEATHS_ALONE - 1


def test_a_death_that_does_not_come_again_blames_nobody():
    search = Search(range(2))
    search.died("killed")
    search.died("killed")
    while search.group is not None:
        search.survived()
    assert search.found == {}


def work(n_rows=4):
    return ShardWork(ShardRef("id", "words", "part", 0, n_rows))


def test_the_first_death_is_nobodys_fault_and_the_second_begins_a_search():
    shard = work()
    shard.died("killed", was_alone=False)
    assert shard.is_suspect
    assert shard.search is None
    shard.died("killed", was_alone=True)
    assert shard.search.group == (0, 1)


def test_who_shares_a_process_is_not_searched():
    shard = work()
    for _ in range(5):
        shard.died("killed", was_alone=False)
    assert shard.search is None


def test_a_picture_that_the_model_is_stuck_at_is_to_blame_at_once():
    shard = work()
    shard.died("timeout", was_alone=True, stuck=(2,))
    order = shard.order()
    assert [(i, error.stage, error.kind) for i, error in order.poison.items()] == [(2, "segment", "timeout")]


def test_a_batch_that_the_model_is_stuck_at_is_searched_and_nothing_else():
    shard = work(8)
    shard.died("timeout", was_alone=False, stuck=(4, 5))
    assert shard.search.group == (4,)
    shard.died("timeout", was_alone=True, stuck=(4,))
    assert shard.search.group == (5,)
    shard.survived()
    assert (shard.search, shard.poison) == (None, {4: "timeout"})


def test_a_shard_that_ends_processes_though_no_picture_of_it_does_is_hopeless_in_the_end():
    shard = work(1)
    shard.died("killed", was_alone=True)
    for _ in range(MAX_FRUITLESS):
        assert not shard.is_hopeless
        shard.died("killed", was_alone=True)
        shard.survived()
    assert shard.is_hopeless


def test_where_no_suspect_is_left_a_death_begins_no_search():
    shard = work(1)
    shard.died("timeout", was_alone=True, stuck=(0,))
    shard.died("killed", was_alone=True)
    assert shard.search is None


def test_a_shard_of_which_too_many_pictures_end_processes_is_hopeless():
    shard = work(100)
    for position in range(MAX_POISON + 1):
        assert not shard.is_hopeless
        shard.died("timeout", was_alone=True, stuck=(position,))
    assert shard.is_hopeless
