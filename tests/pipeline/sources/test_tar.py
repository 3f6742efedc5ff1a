"""Pictures inside a tar are found by byte range, and a tar that lies is refused."""

import gc
import io
import tarfile

import pytest

from pipeline.sources import SourceSummary, list_source, list_sources
from pipeline.storage import StorageOptions, read_bytes
from pipeline.storage.s3 import LiteralS3FileSystem
from schemas.errors import ManifestError, SourceError
from tests.s3 import fresh_clients

OPTIONS = StorageOptions()
LONG = "/".join(["a-folder-with-a-rather-long-name"] * 9) + "/日本.jpg"
MEMBERS = {
    "000.jpg": b"first", "000.json": b"{}", "000.cls": b"1", "./sub/b c#?.PNG": b"second" * 500, LONG: b"third",
    "../up.jpg": b"4", "/abs.jpg": b"5", "__MACOSX/._a.jpg": b"", ".hidden.jpg": b"", "empty.webp": b"",
}  # fmt: skip
PICTURES = {
    "000.jpg": b"first", "sub/b c#?.PNG": b"second" * 500, LONG: b"third", "../up.jpg": b"4", "/abs.jpg": b"5",
    "empty.webp": b"",
}  # fmt: skip


def tar_bytes(members, kind=tarfile.GNU_FORMAT, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def rows_of(source):
    return list(list_source(str(source), OPTIONS, SourceSummary()))


def error_of(source):
    with pytest.raises(SourceError) as caught:
        rows_of(source)
    return str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("where", ["local", "s3"])
def test_members_are_read_in_place(tmp_path, request, where, kind):
    data = tar_bytes(MEMBERS, kind)
    if where == "local":
        (tmp_path / "a b.tar").write_bytes(data)
        source = f"{tmp_path}/a b.tar"
    else:
        source = request.getfixturevalue("s3").put("a b.tar", data)
    summary = SourceSummary()
    rows = list(list_sources([source], OPTIONS, summary))
    assert [row.image_id for row in rows] == list(PICTURES)
    for row in rows:
        assert row.uri == source
        assert row.size_bytes == row.byte_length == len(PICTURES[row.image_id])
        assert read_bytes(row.uri, OPTIONS, row.byte_offset, row.byte_length) == PICTURES[row.image_id]
        assert (row.etag is not None) == (where == "s3")
    assert summary.other_files == {".json": 1, ".cls": 1, "hidden": 2}


def test_nothing_is_extracted(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(tar_bytes(MEMBERS))
    rows_of(tmp_path / "in" / "a.tar")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_a_remote_tar_is_not_downloaded(s3, monkeypatch):
    source = s3.put("a.tar", tar_bytes({f"{n}.jpg": bytes(2**20) for n in range(4)}))
    fetched = []
    real = LiteralS3FileSystem._call_s3

    async def record(self, method, *args, **kwargs):
        if method == "get_object":
            first, last = kwargs["Range"].removeprefix("bytes=").split("-")
            fetched.append(int(last) - int(first) + 1)
        return await real(self, method, *args, **kwargs)

    with fresh_clients():
        monkeypatch.setattr(LiteralS3FileSystem, "_call_s3", record)
        assert len(rows_of(source)) == 4
        assert 0 < sum(fetched) < 2**20


def test_headers_do_not_pile_up(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes({f"{n}.jpg": b"" for n in range(100)}))
    rows = list_source(f"{tmp_path}/a.tar", OPTIONS, SourceSummary())
    for _ in range(99):
        next(rows)
    held = sum(isinstance(thing, tarfile.TarInfo) for thing in gc.get_objects())
    assert held < 20
    rows.close()


def test_several_tars_by_a_glob_keep_their_names_apart(tmp_path):
    for number in range(2):
        (tmp_path / f"train-{number}.tar").write_bytes(tar_bytes({"000.jpg": b"x"}))
    (tmp_path / "other.jpg").touch()
    rows = list(list_sources([f"{tmp_path}/train-*.tar"], OPTIONS, SourceSummary()))
    assert [row.image_id for row in rows] == ["train-0.tar/000.jpg", "train-1.tar/000.jpg"]


def test_a_member_that_comes_twice_is_a_duplicate(tmp_path):
    data = tar_bytes({"a.jpg": b"old"})
    with tarfile.open(fileobj=(buffer := io.BytesIO(data)), mode="a") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO(b""))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    with pytest.raises(ManifestError, match=r"'a\.jpg' comes twice"):
        list(list_sources([f"{tmp_path}/a.tar"], OPTIONS, SourceSummary()))


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w:gz"), ("a.tar", "w:xz")]
)
def test_a_compressed_tar_is_refused_by_name_or_by_content(tmp_path, name, mode):
    (tmp_path / name).write_bytes(tar_bytes(MEMBERS, mode=mode))
    assert error_of(tmp_path / name) == (
        f"{tmp_path}/{name}: a compressed tar; unpack it, or decompress it to a plain .tar"
    )


def test_a_tar_cut_short_at_any_member_is_refused(tmp_path):
    data = tar_bytes({"a.jpg": b"a" * 3000, "b.jpg": b"b" * 3000})
    for length in (600, 1600, 4200, 5200, 6100):  # in headers and in data
        (tmp_path / "a.tar").write_bytes(data[:length])
        assert "damaged or no tar" in error_of(tmp_path / "a.tar") or "is no header" in error_of(tmp_path / "a.tar")


def test_a_damaged_header_in_the_middle_is_refused(tmp_path):
    data = bytearray(tar_bytes({"a.jpg": b"a", "b.jpg": b"b"}))
    at = data.index(b"b.jpg")
    data[at : at + 20] = b"\xff" * 20
    (tmp_path / "a.tar").write_bytes(data)
    assert f"what stands at byte {at} is no header" in error_of(tmp_path / "a.tar")


def test_joined_archives_are_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes({"a.jpg": b"a"}) + tar_bytes({"b.jpg": b"b"}))
    assert "several were joined" in error_of(tmp_path / "a.tar")


def test_a_file_that_is_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"nothing like a tar" * 100)
    assert f"{tmp_path}/a.tar: damaged or no tar" in error_of(tmp_path / "a.tar")
    (tmp_path / "empty.tar").touch()
    assert "damaged or no tar" in error_of(tmp_path / "empty.tar")


def test_links_inside_a_tar_are_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        archive.addfile(link)
    summary = SourceSummary()
    assert [row.image_id for row in list_source(f"{tmp_path}/a.tar", OPTIONS, summary)] == ["a.jpg"]
    assert summary.other_files == {"link or sparse member of a tar": 1}


def test_a_members_name_that_is_not_utf8(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("caf\udce9.jpg"))
    assert "has a name that is not UTF-8" in error_of(tmp_path / "a.tar")
