"""Two outputs compared: whole results on pictures of a few pixels."""

import numpy as np
import pytest

from pipeline.comparison import compare
from pipeline.comparison.counts import count_pairs
from pipeline.comparison.summary import comparison_lines
from schemas.errors import InputError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

# The same two names under other ids, and one name of each list alone.
FIRST = Vocabulary(name="first", classes=["land", "water", "sky"])
SECOND = Vocabulary(
    name="second",
    classes=[{"id": 300, "name": "water"}, {"id": 4, "name": "land"}, {"id": 9, "name": "fog", "min_confidence": 0.9}],
)


def row_of(*codes, level=200):
    return Answer(np.array([codes], np.int32), level)


def write(folder, name, words, answers, **options):
    write_output(str(folder / name), {words.name: answers}, [words], **options)
    return str(folder / name)


@pytest.fixture
def outputs(tmp_path):
    first = {
        "a": row_of(0, 0, 1, 1), "b": row_of(0, 1, 2, 2), "only": row_of(0), "size": row_of(0, 1),
        "bad": Failure(), "worse": Failure(), "poor": row_of(1),
    }  # fmt: skip
    second = {
        "poor": Failure(), "b": row_of(4, 300, 300, 9), "more": row_of(4), "most": row_of(4), "size": row_of(4, 4, 4),
        "worse": Failure(), "bad": row_of(4), "a": row_of(4, 4, 300, 300),
    }  # fmt: skip
    return write(tmp_path, "1", FIRST, first, shard_size=3), write(tmp_path, "2", SECOND, second, shard_size=2)


def test_counts_are_of_the_pictures_that_both_have_labelled(outputs):
    found = compare(*outputs).as_json()
    assert {key: value for key, value in found.items() if key.startswith("n_")} == {
        "n_compared": 2, "n_pixels": 8, "n_only_first": 1, "n_only_second": 2, "n_failed_first": 1,
        "n_failed_second": 1, "n_failed_both": 1, "n_other_size": 1,
        "n_corrected_first": 0, "n_corrected_second": 0,
    }  # fmt: skip


def test_classes_are_the_same_by_name(outputs):
    found = compare(*outputs).as_json()
    # a: all four agree. b: land and water do, sky became water and an ignored pixel (fog was not sure enough).
    assert found["pixel_agreement"] == 6 / 8
    assert found["labelled_agreement"] == 6 / 7
    assert (found["ignored_first"], found["ignored_second"]) == (0.0, 1 / 8)
    assert found["per_class"] == [
        {"name": "sky", "iou": 0.0, "pixels": (2, 0), "becomes": {"": 1, "water": 1}},
        {"name": "water", "iou": 3 / 4, "pixels": (3, 4), "becomes": {}},
        {"name": "land", "iou": 1.0, "pixels": (3, 3), "becomes": {}},
    ]
    assert found["miou"] == pytest.approx((0 + 3 / 4 + 1) / 3)


def test_the_worst_pictures_come_first(outputs):
    assert compare(*outputs).worst == [("b", 0.5, ()), ("a", 1.0, ())]
    assert compare(*outputs, n_worst=1).worst == [("b", 0.5, ())]
    assert compare(*outputs, n_worst=0).worst == []


def test_the_other_way_round_changes_sides_alone(outputs):
    there, back = compare(*outputs).as_json(), compare(*reversed(outputs)).as_json()
    assert (back["pixel_agreement"], back["miou"]) == (there["pixel_agreement"], there["miou"])
    assert (back["n_only_first"], back["n_failed_first"]) == (there["n_only_second"], there["n_failed_second"])
    assert {each["name"]: each["pixels"][::-1] for each in back["per_class"]} == {
        each["name"]: each["pixels"] for each in there["per_class"]
    }


def test_what_is_said_names_classes_and_pictures(outputs):
    lines = comparison_lines(compare(*outputs))
    assert lines[1] == "  pixel agreement  0.750  of 8 pixels"
    assert lines[-6:] == [
        "  CLASS    IOU  FIRST  SECOND  IN THE SECOND ALSO",
        "  sky    0.000  25.0%    0.0%  ignored 50%, water 50%",
        "  water  0.750  37.5%   50.0%  -",
        "",
        "Pictures that differ most, by agreement:",
        "  0.500  b",
    ]
    left_out = next(line for line in lines if line.startswith("  left out"))
    assert left_out.split("left out")[1].strip() == (
        "1 only in the first, 2 only in the second, 1 failed in the first alone, 1 failed in the second alone, "
        "1 failed in both, 1 of another size in each"
    )


def test_shares_that_would_be_rounded_to_nothing_are_left_out(tmp_path):
    first = write(tmp_path, "1", FIRST, {"a": row_of(*[0] * 999, 1)})
    second = write(tmp_path, "2", FIRST, {"a": row_of(*[0] * 998, 1, 2)})
    lines = comparison_lines(compare(first, second))
    assert "  land   0.999  99.9%   99.8%  -" in lines
    assert "  water  0.000   0.1%    0.1%  sky 100%" in lines


def test_runs_that_agree_in_every_pixel_name_no_class_and_no_picture(tmp_path):
    output = write(tmp_path, "1", FIRST, {"a": row_of(0, 1), "b": row_of(1, 1)})
    lines = comparison_lines(compare(output, output))
    assert (lines[1], lines[-1]) == ("  pixel agreement  1.000  of 4 pixels", "No pixel differs.")
    assert not any("CLASS" in line or line.startswith("Pictures") for line in lines)


def test_ignored_pixels_agree_with_ignored_ones(tmp_path):
    answers = {"a": row_of(9, 9, 4, level=100)}
    output = write(tmp_path, "1", SECOND, answers)
    found = compare(output, output)
    assert (found.pixel_agreement, found.labelled_agreement, found.ignored(0)) == (1.0, 1.0, 2 / 3)


def test_two_outputs_without_a_common_picture_are_refused(tmp_path):
    first = write(tmp_path, "1", FIRST, {"a": row_of(0)})
    second = write(tmp_path, "2", FIRST, {"b": row_of(0)})
    with pytest.raises(InputError, match="no picture of one name and size is labelled in both"):
        compare(first, second)


def test_pairs_are_counted_as_one_by_one_would():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 5, (2, 30, 40)) * 7
    found = count_pairs(first, second)
    for a in range(0, 35, 7):
        for b in range(0, 35, 7):
            assert found[a, b] == int(((first == a) & (second == b)).sum())
