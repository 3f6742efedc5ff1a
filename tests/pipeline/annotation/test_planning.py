"""An output holds one job: what is refused says what differs, and what to do."""

import pyarrow.parquet as pq
import pytest

from schemas.errors import OutputError


def test_a_refusal_names_what_changed_and_what_to_do(world, old):
    world.draw("3", 100, (64, 64))
    for name in ("1", "2", "4", "5"):
        world.erase(name)
    world.draw("6", 0)
    with pytest.raises(OutputError) as refusal:
        world.annotate(old)
    assert str(refusal.value) == (
        f"{old}: holds another job (pictures: 6 there, 3 now: 1 new ('6.png'), 1 changed ('3.png'), "
        f"4 gone ('1.png', '2.png', '4.png', ...)); label what differs into a new output with "
        f"`--update {old} --output NEW`, or give the options and pictures that job.json there was begun with"
    )


def test_a_refusal_says_when_only_the_order_differs(world, tmp_path):
    for name, order in {"there": "0123", "now": "0132"}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["image_id,uri", *(f"{i},photos/{i}.png" for i in order)]))
    world.annotate(tmp_path / "old", source="there.csv")
    with pytest.raises(OutputError, match="pictures: 4 there, 4 now: the same ones, in another order"):
        world.annotate(tmp_path / "old", source="now.csv")


def test_a_refusal_says_which_words_differ(world, old):
    world.words("w", "even", "uneven", "neither")
    expected = r"vocabulary w: 1 class added \(2 'neither'\), 1 class re-worded \(1 'uneven'\)\)"
    with pytest.raises(OutputError, match=expected):
        world.annotate(old)
    with pytest.raises(OutputError, match="shard-size: 2 there, 5 now"):
        world.annotate(old, vocabularies=[world.words("w", "even", "odd")], shard_size=5)


def test_a_refusal_before_the_listing_needs_no_pictures(world, old):
    for i in range(6):
        world.erase(str(i))
    with pytest.raises(OutputError, match="max-pixels: 178956970 there, 99 now"):
        world.annotate(old, max_pixels=99)


def test_a_vocabulary_that_is_not_as_it_was_written_is_named_by_its_fingerprints(world, old):
    world.words("w", "even", "uneven")
    (old / "vocabularies" / "w.yaml").write_text("classes: 5")
    with pytest.raises(OutputError, match=r"holds another job \(vocabulary w: [0-9a-f]{32} there, [0-9a-f]{32} now\)"):
        world.annotate(old)


def test_parts_of_a_plan_that_was_never_finished_go_with_the_next_run(world, old):
    (part,) = (old / "manifest").iterdir()
    left = part.with_name("part-00007-0123abcd.parquet")
    left.write_bytes(part.read_bytes())
    world.annotate(old)
    assert list((old / "manifest").iterdir()) == [part]


def sizes(output):
    return [pq.read_metadata(path).num_rows for path in sorted(output.glob("labels/*"))]


def test_nobody_need_choose_a_shard_size_and_a_chosen_one_stays(world, old, tmp_path):
    for i in range(6, 11):
        world.draw(str(i), i)
    world.annotate(tmp_path / "new", shard_size=None)
    assert sorted(sizes(tmp_path / "new")) == [3, 8]
    before = sorted(old.rglob("labels/*"))
    world.annotate(tmp_path / "updated", update=str(old), shard_size=None)
    assert sorted(sizes(tmp_path / "updated")) == [1, 2, 2, 2, 2, 2]
    world.annotate(tmp_path / "updated", update=str(old), shard_size=None)  # goes on with its own
    for i in range(6, 11):
        world.erase(str(i))
    world.annotate(old, shard_size=None)
    assert sorted(old.rglob("labels/*")) == before


def test_many_pictures_that_come_to_a_few_do_not_become_as_many_small_shards(world, old, tmp_path):
    for i in range(6, 6 + 65):
        world.draw(str(i), i)
    for _ in range(2):  # it goes on with what it began with
        world.annotate(tmp_path / "updated", update=str(old), shard_size=None)
        assert sorted(sizes(tmp_path / "updated")) == [2] * 4 + [3] * 21
    world.annotate(tmp_path / "as asked", update=str(old), shard_size=40)
    assert sorted(sizes(tmp_path / "as asked")) == [2, 2, 2, 25, 40]
