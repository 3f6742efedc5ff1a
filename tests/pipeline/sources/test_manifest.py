"""Manifests in three formats: what is written comes back, and what is wrong is named with its row."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources import manifest
from pipeline.sources.listing import SourceSummary
from pipeline.sources.manifest import read_manifest, write_manifest
from pipeline.storage import StorageOptions
from schemas.errors import ManifestError, OutputError
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow
from schemas.manifest_table import ManifestTable

OPTIONS = StorageOptions()
SUFFIXES = [".parquet", ".csv", ".jsonl"]
ROWS = [
    ManifestRow("a", "/data/a.jpg"),
    ManifestRow("b, \"quoted\"\r\nüber #?%::*[1]", "s3://bucket/b?versionId=1", 640, 480, 10**12, "abc", 512, 99),
    ManifestRow("c", "/data/c.jpg", mask_uri="/masks/c.png", vocabulary="voc", split="val"),
]  # fmt: skip


def read(uri, summary=None):
    return [row for batch in read_manifest(str(uri), OPTIONS, summary) for row in batch]


def text_file(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back_as_they_were_written(tmp_path, suffix):
    assert write_manifest(ROWS, f"{tmp_path}/m{suffix}", OPTIONS) == 3
    assert read(f"{tmp_path}/m{suffix}") == ROWS


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back_from_object_storage(s3, suffix):
    write_manifest(ROWS, s3.uri(f"m{suffix}"), OPTIONS)
    assert s3.keys() == [f"m{suffix}"]
    assert read(s3.uri(f"m{suffix}")) == ROWS


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=50)
@given(ids=st.lists(names, max_size=5))
def test_any_name_comes_back(ids, suffix, tmp_path_factory):
    rows = [ManifestRow(name, f"/{name}", etag=name) for name in ids]
    path = tmp_path_factory.mktemp("m") / f"m{suffix}"
    write_manifest(rows, str(path), OPTIONS)
    assert read(path) == rows


def test_a_written_parquet_has_the_schema(tmp_path):
    write_manifest(ROWS, f"{tmp_path}/m.parquet", OPTIONS)
    assert pq.read_schema(tmp_path / "m.parquet").equals(MANIFEST_SCHEMA)


def test_pictures_inside_rows_come_back_from_parquet_alone(tmp_path):
    rows = [ManifestRow("a", "/p.parquet", image=b"\xff\xd8"), ManifestRow("b", "/p.parquet", image=b"")]
    write_manifest(rows, f"{tmp_path}/m.parquet", OPTIONS)
    assert read(tmp_path / "m.parquet") == rows
    with pytest.raises(ManifestError, match="only Parquet holds pictures themselves"):
        write_manifest(rows, f"{tmp_path}/m.csv", OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_a_manifest_is_replaced_only_when_asked(tmp_path):
    uri = f"{tmp_path}/m.csv"
    write_manifest(ROWS, uri, OPTIONS)

    def never_read():
        raise AssertionError("listed before looking at the output")
        yield

    with pytest.raises(OutputError, match=r"m\.csv: already there; choose another name or give --overwrite"):
        write_manifest(never_read(), uri, OPTIONS)
    assert write_manifest(ROWS[:1], uri, OPTIONS, replace=True) == 1
    assert read(uri) == ROWS[:1]


def test_rows_that_end_in_an_error_leave_no_manifest(tmp_path):
    def rows():
        yield ROWS[0]
        raise ManifestError("a duplicate, say")

    for suffix in SUFFIXES:
        with pytest.raises(ManifestError):
            write_manifest(rows(), f"{tmp_path}/m{suffix}", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"a manifest ends in \.parquet, \.csv or \.jsonl"):
        write_manifest(ROWS, f"{tmp_path}/m.txt", OPTIONS)
    with pytest.raises(ManifestError, match=r"ends in \.parquet, \.csv or \.jsonl"):
        read(text_file(tmp_path / "m.txt", "uri\na.jpg\n"))


def test_relative_uris_are_below_the_manifests_folder(tmp_path, s3):
    text = "uri,mask_uri\nx/a b.jpg,x/a.png\n./c#1.jpg,\n../d.jpg,\n/abs/e.jpg,\ns3://other/f.jpg,\n"
    (tmp_path / "dir").mkdir()
    local = read(text_file(tmp_path / "dir" / "m.csv", text))
    here = f"{tmp_path}/dir"
    assert [(row.image_id, row.uri) for row in local] == [
        ("x/a b.jpg", f"{here}/x/a b.jpg"),
        ("c#1.jpg", f"{here}/c#1.jpg"),
        (f"{tmp_path}/d.jpg", f"{tmp_path}/d.jpg"),
        ("/abs/e.jpg", "/abs/e.jpg"),
        ("s3://other/f.jpg", "s3://other/f.jpg"),
    ]
    assert local[0].mask_uri == f"{here}/x/a.png"
    remote = read(s3.put("dir/m.csv", text.encode()))
    assert [row.uri for row in remote] == [
        s3.uri("dir/x/a b.jpg"),
        s3.uri("dir/c#1.jpg"),
        s3.uri("d.jpg"),
        "/abs/e.jpg",
        "s3://other/f.jpg",
    ]
    assert [row.image_id for row in remote][:2] == ["x/a b.jpg", "c#1.jpg"]


def test_a_signature_stays_out_of_the_default_image_id(tmp_path):
    rows = read(text_file(tmp_path / "m.csv", "uri\nhttps://host/a.jpg?v=1&X-Amz-Signature=secret\n"))
    assert rows[0].image_id == "https://host/a.jpg?v=1"
    assert rows[0].uri.endswith("secret")


def test_numbers_as_pandas_and_spreadsheets_write_them(tmp_path):
    table = pa.table({"uri": ["/a", "/b"], "width": [640.0, float("nan")], "image_id": [7, 8]})
    pq.write_table(table, tmp_path / "m.parquet")
    assert read(tmp_path / "m.parquet") == [ManifestRow("7", "/a", width=640), ManifestRow("8", "/b")]
    csv = text_file(tmp_path / "m.csv", "\ufeffuri,width,split\r\n/a,640,\r\n\r\n/b,,val\r\n")
    assert read(csv) == [
        ManifestRow("/a", "/a", width=640),
        ManifestRow("/b", "/b", split="val"),
    ]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_any_kind_of_text_column_is_text(tmp_path, kind):
    pq.write_table(pa.table({"uri": pa.array(["/a", "/a2"], pa.string()).cast(kind)}), tmp_path / "m.parquet")
    assert [row.uri for row in read(tmp_path / "m.parquet")] == ["/a", "/a2"]


def test_columns_that_mean_nothing_are_named_once(tmp_path):
    summary = SourceSummary()
    read(text_file(tmp_path / "m.csv", "uri,caption,width\n/a,cat,1\n/b,dog,2\n"), summary)
    read(text_file(tmp_path / "m.jsonl", '{"uri": "/c", "score": 1}\n'), summary)
    assert summary.ignored_columns == {"caption", "score"}


BAD = {
    "no uri column": ("m.csv", "path,width\n/a,1\n", "missing column 'uri', found ['path', 'width']"),
    "no column at all": ("m.csv", "", "missing column 'uri', found []"),
    "two columns of one name": ("m.csv", "uri,uri\n/a,/b\n", "more than one column is named ['uri']"),
    "empty uri": ("m.csv", "uri,width\n/a,1\n,2\n", "line 3: uri is empty"),
    "empty image_id": ("m.csv", "uri,image_id\n/a,a\n/b,\n", "line 3: image_id is empty"),
    "no number": ("m.csv", "uri,width\n/a,wide\n", "line 2: width is 'wide', expected a whole number"),
    "a broken number": ("m.jsonl", '{"uri": "/a", "width": 1.5}', "line 1: width is 1.5, expected a whole number"),
    "a negative number": ("m.csv", "uri,size_bytes\n/a,-1\n", "line 2: size_bytes is '-1'"),
    "a number too large": ("m.csv", "uri,width\n/a,2147483648\n", "line 2: width is '2147483648'"),
    "a yes for a number": ("m.jsonl", '{"uri": "/a", "height": true}', "line 1: height is True"),
    "half a byte range": ("m.csv", "uri,byte_offset\n/a,5\n", "byte_offset and byte_length go together"),
    "too many values": ("m.csv", "uri,width\n/a,1,2\n", "line 2: 3 values, expected 2"),
    "too few values": ("m.csv", "uri,width\n/a\n", "line 2: 1 values, expected 2"),
    "an open quote": ("m.csv", 'uri\n"/a\n/b\n', "no valid CSV"),
    "no JSON": ("m.jsonl", '{"uri": "/a"}\n{"uri": \n', "line 2: no valid JSON"),
    "JSON but no object": ("m.jsonl", '["/a"]\n', "line 1: expected an object"),
    "a later line without uri": ("m.jsonl", '{"uri": "/a"}\n{"url": "/b"}\n', "line 2: uri is empty"),
    "a uri that is no text": ("m.jsonl", '{"uri": 5}\n', "line 1: uri is 5, expected text"),
    "an address nobody can parse": (
        "m.csv",
        "uri\n/a\nhttp://[x/a.jpg?sig=1\n",
        "line 3: uri is 'http://[x/a.jpg', which",
    ),
    "a mask's address nobody can parse": ("m.jsonl", '{"uri": "/a", "mask_uri": "http://[x"}', "line 1: mask_uri is"),
    "a name nothing can have": ("m.jsonl", '{"uri": "../\\u0000"}', "line 1: uri is '../\\x00', which is no valid"),
    "half a character": ("m.jsonl", '{"uri": "/\\ud800"}\n', "no valid Unicode"),
    "a picture's name for its bytes": ("m.jsonl", '{"uri": "/a", "image": "a.jpg"}\n', "line 1: image is str"),
    "no Parquet": ("m.parquet", "uri\n/a\n", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_file_and_row(tmp_path, case):
    name, text, said = BAD[case]
    path = text_file(tmp_path / name, text)
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8(tmp_path):
    for name in ("m.csv", "m.jsonl"):
        (tmp_path / name).write_bytes(b"uri\n/caf\xe9.jpg\n" if name == "m.csv" else b'{"uri": "/caf\xe9.jpg"}\n')
        with pytest.raises(ManifestError, match="not UTF-8 text"):
            read(tmp_path / name)


def test_a_truncated_parquet(tmp_path):
    write_manifest(ROWS, f"{tmp_path}/m.parquet", OPTIONS)
    whole = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ManifestError, match=r"cut\.parquet: cannot be read as Parquet"):
        read(tmp_path / "cut.parquet")


def test_a_manifest_that_is_not_there(tmp_path, s3):
    with pytest.raises(ManifestError, match=r"m\.csv: not found"):
        read(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="no such bucket"):
        read("s3://no-such-bucket/m.csv")
    with pytest.raises(ManifestError, match="not found"):
        read(s3.uri("m.parquet"))


def test_parquet_is_read_as_columns_wherever_no_row_needs_a_look(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_ROWS_A_BATCH", 2)
    path = str(tmp_path / "m.parquet")
    columns = {"uri": ["/a", "/b", "/c", "d"], "image_id": list("abcd"), "etag": ["x", None, "", None]}
    pq.write_table(pa.table(columns | {"size_bytes": pa.array([1, 2, 3, 4], pa.uint16())}), path)
    first, second = read_manifest(path, OPTIONS)
    assert isinstance(first, ManifestTable)
    assert list(first) == [ManifestRow("a", "/a", size_bytes=1, etag="x"), ManifestRow("b", "/b", size_bytes=2)]
    assert second == [ManifestRow("c", "/c", size_bytes=3), ManifestRow("d", f"{tmp_path}/d", size_bytes=4)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_pass_in_batches(tmp_path, suffix, monkeypatch):
    """A manifest of ten million rows is never held whole: neither when written nor when read."""
    monkeypatch.setattr(manifest, "_ROWS_A_BATCH", 10)
    path = tmp_path / f"m{suffix}"
    write_manifest((ManifestRow(str(n), f"/{n}", size_bytes=n) for n in range(25)), str(path), OPTIONS)
    assert [len(batch) for batch in read_manifest(str(path), OPTIONS)] == [10, 10, 5]
    if suffix == ".parquet":
        assert pq.ParquetFile(path).num_row_groups == 3
    else:
        path.write_text(path.read_text() + "broken")
        assert len(next(read_manifest(str(path), OPTIONS))) == 10


def test_the_written_jsonl_is_one_object_a_line(tmp_path):
    write_manifest(ROWS[:1], f"{tmp_path}/m.jsonl", OPTIONS)
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {"image_id": "a", "uri": "/data/a.jpg"}
