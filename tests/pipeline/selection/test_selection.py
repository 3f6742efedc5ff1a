"""Which pictures are chosen, why, and that the manifest of them can be labelled."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.output.labelled import open_labelled
from pipeline.selection import reason_of, select
from pipeline.selection.scoring import COLUMNS, rarities, score_shard
from pipeline.selection.spreading import Candidate, Pool, choose
from pipeline.sources.manifest import read_manifest
from pipeline.storage import StorageOptions
from schemas.errors import InputError, OutputError
from schemas.job import ShardRef
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, Failure, write_output

WORDS = Vocabulary(name="words", classes=["land", "water", "gold"])
REF = ShardRef("s", "words", "m", 0, 1)


def picture(*shares, level=250):
    """20 x 20 pixels with these classes and numbers of rows."""
    rows = [np.full((n, 20), class_id, np.int32) for class_id, n in shares]
    return Answer(np.concatenate(rows), level)


def write(folder, answers, **options):
    write_output(str(folder / "out"), {"words": answers}, [WORDS], **options)
    return str(folder / "out")


def candidate(name, unsure=0.0, rare=0.0, odd=0.0, shares=((("words", 0), 1.0),)):
    return Candidate(name, REF, 0, unsure, rare, odd, "gold", shares)


def test_the_numbers_of_a_shard_are_as_documented(tmp_path):
    answers = {"a": picture((0, 20)), "b": picture((0, 10), (1, 10)), "c": Failure(), "d": picture((1, 20), level=100)}
    labels = open_labelled(write(tmp_path, answers, shard_size=4), StorageOptions())
    table = labels.columns(labels.done[0], COLUMNS)
    found = score_shard(table, rarities({0: 2, 1: 2}, 3))
    assert found.position.tolist() == [0, 1, 3]
    assert found.unsure == pytest.approx([1 - 125 / 255, 1 - 125 / 255, 1 - 50 / 255])  # margins are half the level
    assert found.rare == pytest.approx([np.log(1.5) / np.log(3)] * 3)
    assert found.odd == pytest.approx([0.5, 0.0, 0.5])
    assert found.rarest.tolist()[::2] == [0, 1]


def test_a_class_that_one_picture_has_is_as_rare_as_can_be():
    assert rarities({1: 1, 2: 10, 3: 100}, 100) == {1: pytest.approx(1.0), 2: pytest.approx(0.5), 3: 0.0}
    assert rarities({1: 1}, 1) == {1: 0.0}


def test_a_tiny_share_of_a_rare_class_counts_in_proportion(tmp_path):
    winner = np.zeros((20, 20), np.int32)
    winner[0, 0] = 2  # a 400th
    labels = open_labelled(write(tmp_path, {"a": Answer(winner)}), StorageOptions())
    found = score_shard(labels.columns(labels.done[0], COLUMNS), {0: 0.0, 2: 0.8})
    assert found.rare == pytest.approx([0.8 * 0.25])


def test_the_choice_is_spread_over_the_classes():
    land, water = ((("words", 0), 1.0),), ((("words", 1), 1.0),)
    some = [candidate(f"l{k}", unsure=0.9 - k / 100, shares=land) for k in range(5)]
    some += [candidate(f"w{k}", unsure=0.6 - k / 100, shares=water) for k in range(5)]
    chosen = choose(some, 4)
    assert [each.candidate.image_id for each in chosen] == ["l0", "w0", "l1", "l2"]
    assert [each.new for each in chosen] == pytest.approx([1, 1, 2**0.5 - 1, 3**0.5 - 2**0.5])
    assert chosen[1].score == pytest.approx((0.6 + 1) / 4)
    assert choose(reversed(some), 4) == chosen


def test_the_lazy_choice_is_that_of_looking_at_all():
    rng = np.random.default_rng(3)
    some = [
        candidate(
            f"{k:02}", *rng.random(3), tuple((("words", int(c)), float(rng.random())) for c in rng.permutation(6)[:3])
        )
        for k in range(40)
    ]
    left, filled, best = list(some), {}, []
    while left:

        def total(each):
            h = np.array([share for _, share in each.shares])
            before = np.array([filled.get(key, 0.0) for key, _ in each.shares])
            return each.own + (np.sqrt(before + h) - np.sqrt(before)).sum() / np.sqrt(h).sum()

        first = max(left, key=total)
        best.append(first.image_id)
        left.remove(first)
        for key, share in first.shares:
            filled[key] = filled.get(key, 0.0) + share
    assert [each.candidate.image_id for each in choose(some, 40)] == best


def test_the_pool_keeps_the_best_in_any_order():
    some = [candidate(name, unsure=unsure) for name, unsure in (("a", 0.1), ("b", 0.5), ("c", 0.5), ("d", 0.9))]
    for order in (some, some[::-1]):
        pool = Pool(2)
        assert pool.lowest == 0.0
        for each in order:
            pool.offer(each)
        assert (sorted(each.image_id for each in pool), pool.lowest) == (["b", "d"], 0.5)


def test_the_manifest_says_which_and_why_and_can_be_read(tmp_path):
    answers = {f"{k}.jpg": picture((0, 20)) for k in range(6)}
    answers |= {"gold.jpg": picture((0, 19), (2, 1)), "unsure.jpg": picture((0, 20), level=5), "bad.jpg": Failure()}
    output = write(tmp_path, answers, shard_size=3)
    done = select(output, 2, str(tmp_path / "look.parquet"))
    assert (done.n_labelled, done.n_chosen, done.reasons) == (8, 2, {"unsure": 1, "rare class": 1})
    table = pq.read_table(tmp_path / "look.parquet").to_pylist()
    assert [(row["image_id"], row["reason"]) for row in table] == [
        ("gold.jpg", "rare class: gold"), ("unsure.jpg", "unsure"),
    ]  # fmt: skip
    for row in table:
        assert row["score"] == pytest.approx((row["unsure"] + row["rare"] + row["odd"] + row["new"]) / 4)
    rows = [row for batch in read_manifest(str(tmp_path / "look.parquet"), StorageOptions()) for row in batch]
    assert [row.image_id for row in rows] == ["gold.jpg", "unsure.jpg"]


def test_a_budget_above_all_pictures_takes_them_all(tmp_path):
    output = write(tmp_path, {name: picture((0, 20)) for name in "abc"})
    assert select(output, 10, str(tmp_path / "look.parquet")).n_chosen == 3
    first = (tmp_path / "look.parquet").read_bytes()
    select(output, 10, str(tmp_path / "look.parquet"), replace=True)
    assert (tmp_path / "look.parquet").read_bytes() == first


def test_the_reason_is_the_largest_of_a_pictures_own_numbers():
    assert reason_of(candidate("a", 0.2, 0.3, 0.1)) == "rare class: gold"
    assert reason_of(candidate("a", 0.2, 0.1, 0.3)) == "unlike its shard"


def test_what_cannot_be_is_refused(tmp_path):
    output = write(tmp_path, {"a": Failure()})
    with pytest.raises(InputError, match="has no labelled picture"):
        select(output, 1, str(tmp_path / "look.parquet"))
    with pytest.raises(OutputError, match=r"ends in \.parquet"):
        select(output, 1, str(tmp_path / "look.csv"))
    (tmp_path / "taken.parquet").write_text("mine")
    with pytest.raises(OutputError, match="already there"):
        select(output, 1, str(tmp_path / "taken.parquet"))
    with pytest.raises(OutputError, match=r"found no job\.json"):
        select(str(tmp_path), 1, str(tmp_path / "look.parquet"))


def test_a_damaged_label_file_ends_it(tmp_path):
    output = write(tmp_path, {name: picture((0, 20)) for name in "abcd"})
    sorted((tmp_path / "out" / "labels").glob("*.parquet"))[0].write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"1 label files cannot be read.*run `escnet verify`"):
        select(output, 2, str(tmp_path / "look.parquet"))
