"""The shard size where nobody chose: by how many pictures there are, with a bounded look ahead."""

import weakref

import pytest

from pipeline.output.shard_size import choose_shard_size, shard_size_of_update
from schemas.manifest import ManifestRow


def batches(n_rows, n_each=1000, image=None):
    rows = [ManifestRow(image_id=str(i), uri="", image=image) for i in range(n_rows)]
    return [rows[start : start + n_each] for start in range(0, n_rows, n_each)]


def flat(found):
    return [row.image_id for batch in found for row in batch]


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "expected"),
    [
        (0, 1, 8), (12, 1, 8), (200, 1, 8), (257, 1, 9), (3200, 1, 100), (8191, 1, 256), (9000, 1, 256),
        (12, 16, 16), (3200, 16, 112), (12, 300, 256),
    ],
)  # fmt: skip
def test_a_small_job_has_32_shards_of_whole_batches_as_far_as_they_are_worth_it(n_rows, batch_size, expected):
    size, listed = choose_shard_size(batches(n_rows), None, batch_size)
    assert size == expected
    assert flat(listed) == [str(i) for i in range(n_rows)]


def watched(given, seen):
    for batch in given:
        seen.append(len(batch))
        yield batch


def test_no_more_is_looked_at_ahead_than_decides():
    seen = []
    size, listed = choose_shard_size(watched(batches(20_000), seen), None, 1)
    assert (size, sum(seen)) == (256, 9000)
    assert flat(listed) == [str(i) for i in range(20_000)]

    seen.clear()
    size, _ = choose_shard_size(watched(batches(100, 10, image=b"x" * 50), seen), None, 1, max_bytes=1000)
    assert (size, sum(seen)) == (256, 30)

    seen.clear()
    size, _ = choose_shard_size(watched(batches(100), seen), 5, 1)
    assert (size, seen) == (5, [])


class Batch(list):
    """A list that can be watched."""


@pytest.mark.parametrize("max_bytes", [1000, 10**6])
def test_what_was_looked_at_ahead_is_let_go_when_it_is_taken(max_bytes):
    given = [Batch(batch) for batch in batches(100, 10, image=b"x" * 50)]
    held = [weakref.ref(batch) for batch in given]
    _, listed = choose_shard_size((given.pop(0) for _ in held), None, 1, max_bytes=max_bytes)
    for position, batch in enumerate(listed):
        assert not any(each() for each in held[:position])
        del batch
    assert position == 9


@pytest.mark.parametrize(
    ("kept", "n_added", "batch_size", "expected"),
    [(8, 0, 1, 8), (8, 100, 1, 8), (8, 3200, 1, 100), (8, 10**6, 1, 256), (16, 3200, 16, 112), (1000, 10**6, 1, 1000)],
)
def test_an_update_keeps_the_shard_size_unless_its_new_pictures_would_be_too_many_shards(
    kept, n_added, batch_size, expected
):
    assert shard_size_of_update(kept, n_added, batch_size) == expected
