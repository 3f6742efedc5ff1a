from dataclasses import replace

import pytest

import pipeline.annotation.plan_spool
from pipeline.annotation.plan_spool import PlanSpool
from pipeline.output.plan import cut_shards, read_plan, write_plan
from pipeline.storage import StorageOptions
from schemas.errors import ManifestError, OutputError
from schemas.manifest import ManifestRow

STORAGE = StorageOptions()
SIGNED = "https://host/{}.jpg?X-Amz-Signature={}"


def rows(*names, **fields):
    return [ManifestRow(name, f"/photos/{name}", **fields) for name in names]


def identify(shard_rows, vocabulary):
    return f"{vocabulary}-{shard_rows[0].image_id}"


def planned(folder, found, shard_size=2, vocabularies=("v", "w")):
    files = write_plan(cut_shards([found], vocabularies, shard_size, identify), str(folder), STORAGE)
    return read_plan(files, str(folder), STORAGE)


def compared(folder, listed, shard_size=2, vocabularies=("v", "w")):
    """The shards that come of a listing, and the changes."""
    with PlanSpool.of(folder[1], str(folder[0]), STORAGE, vocabularies, listed) as spool:
        shards = list(spool.shards(identify, shard_size))
        assert list(spool.shards(identify, shard_size)) == shards
    return shards, spool.changes


@pytest.fixture
def plan(tmp_path):
    """Five pictures in shards of two, and where they lie."""
    return tmp_path, planned(tmp_path, rows("a", "b", "c", "d", "e", size_bytes=1, image=b"\x00pixels"))


def test_rows_keep_their_places_whatever_the_order_of_the_listing(plan):
    listed = rows("e", "c", "a", "d", "b", size_bytes=1, image=b"\x00pixels")
    shards, changes = compared(plan, listed)
    assert [shard.shard_id for shard in shards] == ["v-a", "v-c", "v-e"]
    assert [row for shard in shards for row in shard.rows] == sorted(listed, key=lambda row: row.image_id)
    assert str(changes) == "the same ones, in another order"


@pytest.mark.parametrize(
    "change",
    [{"uri": "/b"}, {"size_bytes": 2}, {"etag": "x"}, {"byte_offset": 0, "byte_length": 9}, {"image": b"\x00others"}],
)
def test_a_row_of_another_picture_is_changed_and_stays_at_its_place(plan, change):
    a, b, *rest = rows("a", "b", "c", "d", "e", size_bytes=1, image=b"\x00pixels")
    shards, changes = compared(plan, [a, replace(b, **change), *rest])
    assert shards[0].rows == [a, replace(b, **change)]
    assert str(changes) == "1 changed ('b')"


@pytest.mark.parametrize("change", [{"split": "train"}, {"mask_uri": "m.png"}, {"width": 3}, {"vocabulary": "v"}])
def test_what_else_is_known_of_a_picture_comes_along_and_is_no_change(plan, change):
    listed = rows("a", "b", "c", "d", "e", size_bytes=1, image=b"\x00pixels")
    listed[1] = replace(listed[1], **change)
    shards, changes = compared(plan, listed)
    assert [row for shard in shards for row in shard.rows] == listed
    assert (changes.new.n, changes.changed.n, changes.gone.n) == (0, 0, 0)


def test_todays_signatures_take_the_place_of_yesterdays(tmp_path):
    yesterday, today = ([ManifestRow(i, SIGNED.format(i, day)) for i in "abc"] for day in ("1", "2"))
    shards, changes = compared((tmp_path, planned(tmp_path, yesterday)), today)
    assert [row for shard in shards for row in shard.rows] == today
    assert changes.changed.n == 0


def test_new_rows_are_cut_in_the_order_of_the_listing_by_vocabulary(plan):
    new = [replace(row, vocabulary=name) for row, name in zip(rows(*"zyxwu"), ["v", "w", None, "w", "w"], strict=True)]
    shards, changes = compared(plan, new, shard_size=2)
    assert [shard.rows for shard in shards] == [[new[0], new[2]], [new[1], new[3]], [new[4]]]
    assert [shard.vocabulary for shard in shards] == ["v", "w", "w"]
    assert str(changes) == "5 new ('z', 'y', 'x', ...), 5 gone ('a', 'b', 'c', ...)"


def test_rows_of_a_vocabulary_that_the_job_no_longer_has_move_to_the_one_they_get(tmp_path):
    plan = (tmp_path, planned(tmp_path, rows("a", "b", vocabulary="w") + rows("c")))
    listed = rows("a", "b", "c")
    shards, changes = compared(plan, listed, vocabularies=("v",))
    assert [(shard.vocabulary, shard.rows) for shard in shards] == [("v", [listed[2]]), ("v", listed[:2])]
    assert str(changes) == "2 changed ('a', 'b')"
    with pytest.raises(ManifestError, match="'a' asks for vocabulary 'w'"):
        compared(plan, rows("a", vocabulary="w"), vocabularies=("v",))


def test_a_full_temporary_folder_is_one_line(plan, monkeypatch):
    connect = pipeline.annotation.plan_spool.sqlite3.connect

    def small(name):
        database = connect(name)
        database.execute("PRAGMA max_page_count = 4")
        return database

    monkeypatch.setattr(pipeline.annotation.plan_spool.sqlite3, "connect", small)
    with pytest.raises(OutputError, match=r"cannot be kept in the temporary folder \(database or disk is full\); free"):
        compared(plan, [])


@pytest.mark.parametrize("content", [None, b"no Parquet"])
def test_a_plan_that_is_gone_or_damaged_is_one_line(plan, content):
    (part,) = (plan[0] / "manifest").iterdir()
    part.write_bytes(content) if content else part.unlink()
    with pytest.raises(OutputError, match=r"part-.*\.parquet: (not found|holds other rows than its footer names)"):
        compared(plan, [])


def test_a_plan_with_other_rows_than_its_footer_names_is_damaged(plan):
    refs = [replace(ref, n_rows=ref.n_rows + 1) for ref in plan[1]]
    with pytest.raises(OutputError, match="holds other rows than its footer names"):
        compared((plan[0], refs), [])
