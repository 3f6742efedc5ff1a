"""Rows as columns: the same rows and the same identities as one by one, or no table at all."""

from dataclasses import astuple, fields

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import MANIFEST_SCHEMA, ManifestRow, public_uri, row_identity
from schemas.manifest_table import ManifestTable, identity_lines

NAMES = [field.name for field in fields(ManifestRow)]
SIGNED = "https://host/a.jpg?X-Amz-Signature=s"

places = st.sampled_from(
    ["/data", "s3://bucket", "https://host:80", "http://u:p@host", "s3://k:s@b", "HTTP://h", "a::s3:/"]
)
names = st.text(st.sampled_from('ab/é "\\\n\t?#@;%[]:'), min_size=1, max_size=8)
uris = st.builds("{}/{}".format, places, names)
sizes = st.none() | st.integers(0, 2**63 - 1)
rows = st.lists(
    st.builds(ManifestRow, names, uris, size_bytes=sizes, etag=st.none() | names, byte_offset=sizes, byte_length=sizes),
    min_size=1,
    max_size=4,
)


def table_of(some: list[ManifestRow]) -> ManifestTable | None:
    columns = {name: [getattr(row, name) for row in some] for name in NAMES}
    return ManifestTable.of(pa.RecordBatch.from_pydict(columns, schema=MANIFEST_SCHEMA))


@given(rows)
def test_a_table_says_of_its_rows_what_each_says_of_itself(some):
    table = table_of(some)
    if table is not None:
        assert list(table) == some
        assert bytes(identity_lines(table)) == bytes(identity_lines(some))
        assert all(row.uri == public_uri(row.uri) for row in some)


def photographs(n: int) -> list[ManifestRow]:
    names = [f"a/é {i}.jpg" for i in range(n)]
    uris = [f"s3://bucket/{name}" for name in names]
    return [
        ManifestRow(name, uri, size_bytes=i or None, etag=f"e{i}", split="val" * (i % 2) or None)
        for i, (name, uri) in enumerate(zip(names, uris, strict=True))
    ]


def test_identities_are_those_of_the_rows():
    table = table_of(photographs(5))
    assert bytes(identity_lines(table)).decode() == "".join(f"{row_identity(row)}\n" for row in photographs(5))


def test_slices_and_joined_slices_are_the_rows_between():
    some, table = photographs(7), table_of(photographs(7))
    assert (len(table), table[2], table[-1]) == (7, some[2], some[6])
    parts = [table[5:], table[:2], table[3:3]]
    joined = ManifestTable.join(parts)
    assert list(joined) == some[5:] + some[:2]
    assert bytes(joined.identity_lines()) == bytes(identity_lines(some[5:] + some[:2]))
    assert bytes(table[3:3].identity_lines()) == b""
    with pytest.raises(ValueError, match="step 2"):
        table[::2]


@pytest.mark.parametrize(
    "odd",
    [
        ManifestRow('a"b', "/a"),
        ManifestRow("a\nb", "/a"),
        ManifestRow("a", "relative.jpg"),
        ManifestRow("a", SIGNED),
        ManifestRow("a", "https://user:secret@host/a"),
        ManifestRow("a", "ftp://user:secret@host/a"),
        ManifestRow("a", "HTTPS://host/a"),
        ManifestRow("a", "https://[half/a"),
        ManifestRow("a", "/a", image=b"x"),
        ManifestRow("a", "/a", mask_uri="masks/a.png"),
    ],
    ids=str,
)
def test_rows_that_are_to_be_looked_at_one_by_one_are_no_table(odd):
    assert table_of([*photographs(2), odd]) is None


def test_text_that_is_no_unicode_is_no_table():
    texts = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    row = dict(zip(NAMES, astuple(ManifestRow("a", "/a")), strict=True))
    columns = [texts if f.name == "image_id" else pa.array([row[f.name]], f.type) for f in MANIFEST_SCHEMA]
    assert ManifestTable.of(pa.RecordBatch.from_arrays(columns, schema=MANIFEST_SCHEMA)) is None
