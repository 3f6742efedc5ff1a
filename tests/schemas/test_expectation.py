"""How far a run may stray from what a pilot found."""

import pytest
from scipy.stats import binomtest

from schemas.expectation import Expectation, Interval, class_distance, wilson


@pytest.mark.parametrize(("n_hits", "n"), [(0, 10), (10, 10), (3, 64), (1, 1), (500, 1000)])
def test_the_interval_of_a_fraction_is_wilsons(n_hits, n):
    found, theirs = wilson(n_hits, n), binomtest(n_hits, n).proportion_ci(method="wilson")
    assert (found.low, found.found, found.high) == pytest.approx((theirs.low, n_hits / n, theirs.high), abs=1e-4)


def test_of_nothing_nothing_is_known():
    assert wilson(0, 0) == Interval(low=0, found=0, high=1)


def test_the_distance_of_classes_is_from_0_to_1():
    assert class_distance({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}) == 0
    assert class_distance({"a": 1.0}, {"b": 1.0}) == 1
    assert class_distance({"a": 0.5, "b": 0.5}, {"a": 0.75, "c": 0.25}) == pytest.approx(0.5)


def test_the_fewer_pictures_the_farther_a_mean_may_stray():
    rate = Interval(low=1, found=1, high=1)
    expected = Expectation(
        n_pictures=1000, n_pilot=100, pictures_per_s=rate, failed_fraction=rate, ignored_fraction=0, ignored_spread=0,
        classes={}, class_spread=1.0,
    )  # fmt: skip
    assert not expected.strayed(0.13, 1.0, 100)  # sqrt(1/100 + 1/100) = 0.141
    assert expected.strayed(0.13, 1.0, 10_000)
    assert not expected.strayed(0.3, 1.0, 10)
