"""Every kind of SOURCE gives its pictures, in one order, and a bad one gives one line."""

import os
import random

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sources
from pipeline.sources import SourceSummary, list_source, list_sources
from pipeline.storage import StorageOptions, read_bytes
from pipeline.storage.s3 import LiteralS3FileSystem
from schemas.errors import InputError, ManifestError, SourceError
from schemas.manifest import ManifestRow
from tests.s3 import fresh_clients

OPTIONS = StorageOptions()
TREE = {
    "b.JPG": b"1", "a/2.png": b"22", "a/10.webp": b"333", "a.jpg": b"4", "a-b/c.tiff": b"5", "Z.gif": b"",
    "é/日本 #?%.avif": b"6", "x::y*[1].bmp": b"7", "v.jpeg?versionId=1.tif": b"8",
    "notes.txt": b"n", "a/data.json": b"{}", "README": b"", "list.txt": b"",
    ".hidden.jpg": b"h", ".git/c.jpg": b"g", "__MACOSX/._a.jpg": b"m",
}  # fmt: skip
PICTURES = [
    "Z.gif", "a-b/c.tiff", "a.jpg", "a/10.webp", "a/2.png", "b.JPG", "v.jpeg?versionId=1.tif", "x::y*[1].bmp",
    "é/日本 #?%.avif",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    """The tree as a local folder."""
    for name, data in TREE.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "photos"


@pytest.fixture
def prefix(s3):
    """The same tree below a prefix of a bucket."""
    for name, data in TREE.items():
        s3.put(f"photos/{name}", data)
    s3.put("photos/a/", b"")  # the marker that a web console makes for a folder
    s3.put("photos-of-others/x.jpg", b"")
    return s3.uri("photos")


def ids(*given_sources, **options):
    return [row.image_id for row in list_sources([str(s) for s in given_sources], OPTIONS, SourceSummary(), **options)]


def error_of(*given_sources, kind=SourceError, **options):
    with pytest.raises(kind) as caught:
        ids(*given_sources, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_every_picture_below_it_in_byte_order_of_the_paths(photos):
    summary = SourceSummary()
    rows = list(list_sources([str(photos)], OPTIONS, summary))
    assert [row.image_id for row in rows] == PICTURES == sorted(PICTURES, key=str.encode)
    assert rows == [ManifestRow(name, f"{photos}/{name}", size_bytes=len(TREE[name])) for name in PICTURES]
    assert (summary.pictures, summary.bytes) == (9, sum(len(TREE[name]) for name in PICTURES))
    assert summary.other_files == {".txt": 2, ".json": 1, "without suffix": 1, "hidden": 3}
    assert summary.other_files_text() == "3 hidden, 2 .txt, 1 .json, 1 without suffix"


def test_a_prefix_gives_the_same_rows_with_etags(prefix):
    summary = SourceSummary()
    rows = list(list_sources([prefix + "/"], OPTIONS, summary))
    assert [(row.image_id, row.uri, row.size_bytes) for row in rows] == [
        (name, f"{prefix}/{name}", len(TREE[name])) for name in PICTURES
    ]
    assert rows[2].etag == "a87ff679a2f3e71d9181a67b7542122c"  # of b"4"
    assert summary.other_files == {".txt": 2, ".json": 1, "without suffix": 1, "hidden": 3}
    assert ids(prefix) == PICTURES


def test_every_listed_uri_can_be_read(photos, prefix):
    for source in (str(photos), prefix):
        for row in list_source(source, OPTIONS, SourceSummary()):
            assert read_bytes(row.uri, OPTIONS) == TREE[row.image_id]


def test_other_storage_gives_the_same_order():
    fs = fsspec.filesystem("memory")
    try:
        for name in ("b.jpg", "a/c.jpg", "a-b.jpg", "a.txt"):
            fs.pipe_file(f"/listing/{name}", b"x")
        rows = list(list_source("memory://listing", OPTIONS, SourceSummary()))
    finally:
        fs.rm("/listing", recursive=True)
    assert [(row.image_id, row.uri) for row in rows] == [
        (name, f"memory://listing/{name}") for name in ("a-b.jpg", "a/c.jpg", "b.jpg")
    ]


file_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@settings(max_examples=50)
@given(names=st.lists(file_names.filter(lambda name: name[0] != "."), max_size=8), data=st.data())
def test_any_tree_is_listed_whole_and_in_byte_order(names, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for number, name in enumerate(names):
        folder = data.draw(st.sampled_from(["", "a/", "a/b/", "a-/", "é/"]))
        path = f"{folder}{number}{name}.jpg"
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
        made.add(path)
    found = [row.image_id for row in list_source(str(root), OPTIONS, SourceSummary())] if made else []
    assert found == sorted(made, key=str.encode)


def test_a_large_folder_is_sorted_across_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sources.listing._NAMES_A_BATCH", 3)
    names = [f"{number:03}.jpg" for number in range(20)]
    for name in random.Random(0).sample(names, len(names)):
        (tmp_path / name).touch()
    assert ids(tmp_path) == names


def test_a_relative_source_gives_absolute_uris(photos, monkeypatch):
    monkeypatch.chdir(photos)
    uris = {row.uri for row in list_source(".", OPTIONS, SourceSummary())}
    assert uris == {f"{photos}/{name}" for name in PICTURES}
    assert [row.uri for row in list_source("a/2.png", OPTIONS, SourceSummary())] == [f"{photos}/a/2.png"]


def test_links_are_followed_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jpg").write_bytes(b"bb")
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"a")
    (root / "file.jpg").symlink_to("a.jpg")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "below" / "up").symlink_to("..")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "pipe.jpg")
    summary = SourceSummary()
    rows = list(list_source(str(root), OPTIONS, summary))
    assert [(row.image_id, row.size_bytes) for row in rows] == [
        ("a.jpg", 1), ("file.jpg", 1), ("folder/b.jpg", 2), ("gone.jpg", None), ("self.jpg", None),
    ]  # fmt: skip
    assert summary.other_files == {"link to a folder above it": 2, "not a file": 1}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["Z.gif", "a.jpg", "b.JPG", "v.jpeg?versionId=1.tif", "x::y*[1].bmp"]),
        ("*.jpg", ["a.jpg"]),
        ("**/*.webp", ["a/10.webp"]),
        ("a/**", ["10.webp", "2.png"]),
        ("a*/*", ["a-b/c.tiff", "a/10.webp", "a/2.png"]),
        ("a/?.png", ["2.png"]),
        ("[ab].*", ["a.jpg", "b.JPG"]),
        ("**", PICTURES),
    ],
)
def test_globs_on_both_sides(photos, prefix, pattern, found):
    assert ids(f"{photos}/{pattern}") == found
    assert ids(f"{prefix}/{pattern}") == found


def test_a_glob_enters_only_folders_that_can_match(photos):
    locked = photos / "locked"
    (photos / "a" / "2.png").rename(photos / "a" / "3.png")
    locked.mkdir()
    (locked / "link").symlink_to(photos)
    entered = []
    real = sources.find_files

    def spy(*args, enters, **kwargs):
        return real(*args, enters=lambda folder: entered.append(folder) or enters(folder), **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "find_files", spy)
        assert ids(f"{photos}/a*/3.png") == ["a/3.png"]
    assert sorted(entered) == ["a", "a-b", "locked", "é"]  # asked for each, but nothing below `locked` was looked at


def test_a_glob_lists_only_keys_that_begin_like_it(prefix, monkeypatch):
    asked = []
    real = LiteralS3FileSystem.call_s3

    def spy(fs, method, **request):
        asked.append(request["Prefix"])
        return real(fs, method, **request)

    with fresh_clients():
        monkeypatch.setattr(LiteralS3FileSystem, "call_s3", spy)
        assert ids(f"{prefix}/a-*/*.tiff") == ["a-b/c.tiff"]
        assert asked == ["photos/a-"]


def test_a_name_that_exists_is_no_pattern(tmp_path, s3):
    (tmp_path / "set[1]*").mkdir()
    (tmp_path / "set[1]*" / "a.jpg").touch()
    (tmp_path / "set1").mkdir()
    (tmp_path / "set1" / "b.jpg").touch()
    assert ids(tmp_path / "set[1]*") == ["a.jpg"]
    assert ids(tmp_path / "set[1]*" / "?.jpg") == ["a.jpg"]
    assert ids(tmp_path / "set[1]" / "?.jpg") == ["set1/b.jpg"]
    s3.put("set[1]/a.jpg", b"")
    s3.put("set1/b.jpg", b"")
    assert ids(s3.uri("set[1]")) == ["a.jpg"]
    assert ids(s3.uri("set[1]/*.jpg")) == ["a.jpg"]
    assert ids(s3.uri("set[12]/*.jpg")) == ["set1/b.jpg"]


def test_one_picture(photos, prefix):
    (row,) = list_source(f"{photos}/x::y*[1].bmp", OPTIONS, SourceSummary())
    assert row == ManifestRow("x::y*[1].bmp", f"{photos}/x::y*[1].bmp", size_bytes=1)
    (row,) = list_source(f"{prefix}/a.jpg", OPTIONS, SourceSummary())
    assert row == ManifestRow("a.jpg", f"{prefix}/a.jpg", size_bytes=1, etag="a87ff679a2f3e71d9181a67b7542122c")
    (row,) = list_source("https://host/b/a.jpg?x=1&X-Amz-Signature=s", OPTIONS, SourceSummary())
    assert row == ManifestRow("a.jpg", "https://host/b/a.jpg?x=1&X-Amz-Signature=s")


def test_several_sources_each_have_their_own_root(photos, tmp_path):
    (tmp_path / "m.csv").write_text("uri,image_id\n/x.jpg,from manifest\n")
    assert ids(f"{photos}/a", f"{photos}/a-b", tmp_path / "m.csv") == ["10.webp", "2.png", "c.tiff", "from manifest"]


def test_a_limit_takes_the_first(photos, tmp_path):
    (tmp_path / "m.csv").write_text("uri,image_id\n/x.jpg,a\n/y.jpg,b\n/z.jpg,a\n")
    assert ids(photos, limit=2) == PICTURES[:2]
    assert ids(tmp_path / "m.csv", limit=2) == ["a", "b"]
    assert "image_id 'a'" in error_of(tmp_path / "m.csv", limit=3, kind=ManifestError)


def test_an_image_id_that_stands_for_two_pictures(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
        (tmp_path / folder / f"{folder}.jpg").touch()
    assert error_of(tmp_path / "one", tmp_path / "two", kind=ManifestError) == (
        f"image_id 'a.jpg' stands for two pictures: {tmp_path}/one/a.jpg and {tmp_path}/two/a.jpg; "
        "give their common folder as one SOURCE, or a manifest with unique image_ids"
    )
    assert error_of(tmp_path / "one", tmp_path / "one", kind=ManifestError) == (
        f"image_id 'a.jpg' comes twice, both times from {tmp_path}/one/a.jpg; leave one out"
    )


def test_equal_hashes_of_different_ids_are_no_duplicates(photos, monkeypatch):
    monkeypatch.setattr(sources, "hash", lambda _name: 7, raising=False)
    assert ids(photos) == PICTURES


def test_sources_that_are_not_there(tmp_path, s3):
    assert "not found, expected a folder, a glob" in error_of(tmp_path / "nix")
    assert "not found" in error_of(tmp_path / "nix.csv")
    assert error_of(tmp_path / "nix" / "*.jpg").endswith(f"the folder {tmp_path}/nix is not there")
    assert "no pictures there; found nothing" in error_of(s3.uri("nix"))
    assert "no such bucket" in error_of("s3://no-such-bucket/photos")
    assert "no such bucket" in error_of("s3://no-such-bucket/*.jpg")


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    assert "no pictures there; found nothing" in error_of(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    assert f"{tmp_path}: no pictures there; found 2 .txt; expected" in error_of(tmp_path)
    (tmp_path / "c.tar").touch()
    assert error_of(tmp_path).endswith(f"to read the pictures inside, give {tmp_path}/*.tar")


def test_each_source_has_to_give_pictures(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("uri\n")
    assert error_of(photos, tmp_path / "empty").startswith(f"{tmp_path}/empty: no pictures there; found nothing")
    assert error_of(tmp_path / "m.csv").startswith(f"{tmp_path}/m.csv: no pictures there")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.txt").touch()
    assert f"{tmp_path}/a.txt: not a kind of file we read, expected" in error_of(tmp_path / "a.txt")


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    assert error_of(tmp_path) == (
        f"{tmp_path}: the name b'caf\\xe9.jpg' is not UTF-8, which a manifest must be; rename it"
    )


def test_a_folder_that_may_not_be_read(photos, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if os.fsdecode(folder).endswith("/a"):
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr("pipeline.sources.listing.os.scandir", scandir)
    assert error_of(photos) == f"{photos}/a: permission denied; check the rights or the credentials"


def test_a_bucket_that_may_not_be_read(s3, monkeypatch):
    def forbidden(*_args, **_kwargs):
        raise PermissionError("Access Denied (request id 123)")

    with fresh_clients():
        monkeypatch.setattr(LiteralS3FileSystem, "call_s3", forbidden)
        assert error_of(s3.uri()) == f"{s3.uri()}: permission denied; check the rights or the credentials"


def test_patterns_and_options_that_make_no_sense(tmp_path):
    assert "`**` stands only between slashes" in error_of(tmp_path / "**.jpg")
    assert "a web address cannot be listed" in error_of("https://host/photos/*.jpg")
    assert "none of the sources is a COCO .json" in error_of(tmp_path, image_root="x", kind=InputError)


def test_the_real_photographs(shared_data):
    rows = list(list_sources([str(shared_data / "photos" / "images")], OPTIONS, SourceSummary()))
    assert len(rows) == 100
    assert all(row.size_bytes == os.path.getsize(row.uri) for row in rows)
    summary = SourceSummary()
    assert len(list(list_sources([str(shared_data / "hard")], OPTIONS, summary))) == 40
    assert summary.other_files == {".csv": 1}
