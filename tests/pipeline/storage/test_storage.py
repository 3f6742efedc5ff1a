"""Literal names, publication that is atomic and exclusive, and errors in one line: on this machine and on S3."""

import errno
import gzip
import json
import os
import pickle
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.exceptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import (
    STORAGE_ERRORS,
    FileInfo,
    StorageOptions,
    TooManyBytesError,
    classify,
    exists,
    find_info,
    join,
    list_files,
    local_files,
    locate,
    new_file,
    open_file,
    read_bytes,
    retries,
    storage_error,
    sweep_temporary,
    write_new,
    write_replace,
)
from pipeline.storage.s3 import LiteralS3FileSystem
from schemas.errors import InputError, OutputError, SourceError
from tests.s3 import fresh_clients

OPTIONS = StorageOptions()
NASTY_NAMES = [
    "a b.jpg", "ü/日本.jpg", "a#b.jpg", "a?b=1&c.jpg", "a%20b.jpg", "a::b.jpg", "[1]*.jpg", "a.jpg?versionId=3",
    "~/a.jpg", "file:a.jpg", "s3:/a.jpg", "{0}.jpg", "back\\slash.jpg", " lead and trail ", "a+b.jpg", "'\"`$x.jpg",
]  # fmt: skip


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    """URI of an empty folder, on this machine and in a bucket."""
    return str(tmp_path / "dir") if request.param == "local" else request.getfixturevalue("s3").uri("d i/r #1?%20+ü")


@pytest.fixture
def new_clients():
    with fresh_clients():
        yield


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_name_is_taken_literally(folder, name):
    uri = join(folder, name)
    assert write_new(uri, name.encode(), OPTIONS)
    assert read_bytes(uri, OPTIONS) == name.encode()
    assert read_bytes(uri, OPTIONS, offset=1, length=2) == name.encode()[1:3]
    with open_file(uri, OPTIONS) as file:
        assert file.read() == name.encode()
    assert find_info(uri, OPTIONS)["type"] == "file"


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_the_key_on_s3_is_the_name(s3, name):
    write_new(s3.uri(name), b"x", OPTIONS)
    assert s3.keys() == [name]


@settings(max_examples=50)
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60))
def test_any_local_name_comes_back(name, tmp_path_factory):
    if name in (".", ".."):
        return
    uri = join(str(tmp_path_factory.mktemp("names")), name)
    assert write_new(uri, b"x", OPTIONS)
    assert os.listdir(os.path.dirname(uri)) == [name]
    assert read_bytes(uri, OPTIONS) == b"x"


def test_a_relative_name_with_a_colon_or_tilde_is_a_file_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("file:x.jpg", OPTIONS).path == f"{tmp_path}/file:x.jpg"
    assert locate("~x.jpg", OPTIONS).path == f"{tmp_path}/~x.jpg"
    assert locate(f"file://{tmp_path}/a b.jpg", OPTIONS).path == f"{tmp_path}/a b.jpg"


def test_dots_go_to_the_parent_of_a_links_target(tmp_path):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "a.jpg").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    assert read_bytes(f"{tmp_path}/link/../a.jpg", OPTIONS) == b"x"


def test_byte_ranges(folder):
    uri = join(folder, "a.bin")
    write_new(uri, b"0123456789", OPTIONS)
    assert read_bytes(uri, OPTIONS, offset=0, length=3) == b"012"
    assert read_bytes(uri, OPTIONS, offset=7) == b"789"
    assert read_bytes(uri, OPTIONS, offset=8, length=5) == b"89"
    assert read_bytes(uri, OPTIONS, offset=4, length=0) == b""


def test_write_new_leaves_what_is_there(folder):
    uri = join(folder, "job.json")
    assert write_new(uri, b"first", OPTIONS)
    assert not write_new(uri, b"second", OPTIONS)
    assert read_bytes(uri, OPTIONS) == b"first"


def test_write_replace_replaces(folder):
    uri = join(folder, "lock")
    write_replace(uri, b"first", OPTIONS)
    write_replace(uri, b"second", OPTIONS)
    assert read_bytes(uri, OPTIONS) == b"second"
    assert [info.name for info in list_files(folder, OPTIONS)] == ["lock"]


def test_of_many_writers_one_publishes_and_its_bytes_stay(folder):
    uri = join(folder, "shard.parquet")
    won = []

    def write(number):
        if write_new(uri, str(number).encode() * 1000, OPTIONS):
            won.append(number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1
    assert read_bytes(uri, OPTIONS) == str(won[0]).encode() * 1000


@pytest.mark.usefixtures("new_clients")
def test_a_failed_precondition_without_a_name_means_taken(s3, monkeypatch):
    """Ceph's answer does not say which condition failed."""
    response = {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": 412}}

    def refuse(*_args, **_kwargs):
        raise OSError(errno.EINVAL, "x") from botocore.exceptions.ClientError(response, "PutObject")

    monkeypatch.setattr(LiteralS3FileSystem, "pipe_file", refuse)
    assert not write_new(s3.uri("a"), b"x", OPTIONS)


@pytest.mark.usefixtures("new_clients")
def test_a_conflict_of_two_creates_is_tried_again(s3, monkeypatch):
    real, codes = LiteralS3FileSystem.pipe_file, ["ConditionalRequestConflict"]

    def conflict_once(*args, **kwargs):
        if codes:
            raise OSError(errno.EBUSY, "x") from botocore.exceptions.ClientError(
                {"Error": {"Code": codes.pop()}}, "Put"
            )
        return real(*args, **kwargs)

    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0)
    monkeypatch.setattr(LiteralS3FileSystem, "pipe_file", conflict_once)
    assert write_new(s3.uri("a"), b"x", OPTIONS)
    assert s3.get("a") == b"x"


@pytest.mark.usefixtures("new_clients")
def test_exclusive_files_go_as_one_put_with_the_create_condition(s3, monkeypatch):
    calls = []

    async def record(_self, method, *_args, **kwargs):
        calls.append((method, kwargs.get("IfNoneMatch")))
        return {}

    monkeypatch.setattr(LiteralS3FileSystem, "_call_s3", record)
    assert write_new(s3.uri("big"), bytes(110 * 2**20), OPTIONS)  # s3fs itself would upload this in parts
    assert calls == [("put_object", "*")]


@pytest.mark.usefixtures("new_clients")
def test_a_picture_is_one_request(s3, monkeypatch):
    s3.put("a.jpg", b"x" * 1000)
    calls = []
    real = LiteralS3FileSystem._call_s3

    async def record(self, method, *args, **kwargs):
        calls.append(method)
        return await real(self, method, *args, **kwargs)

    monkeypatch.setattr(LiteralS3FileSystem, "_call_s3", record)
    read_bytes(s3.uri("a.jpg"), OPTIONS)
    assert calls == ["get_object"]


def test_a_killed_writer_leaves_no_file_and_the_sweep_its_rest(tmp_path):
    def stop_half_way():
        with new_file(f"{tmp_path}/a", OPTIONS, replace=False) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".{'0' * 32}.partial").write_bytes(b"half")  # what SIGKILL leaves
    (tmp_path / ".hidden").write_bytes(b"mine")
    assert list_files(str(tmp_path), OPTIONS) == []
    assert sweep_temporary(str(tmp_path), OPTIONS) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]
    assert sweep_temporary(f"{tmp_path}/missing", OPTIONS) == 0


def test_new_file_publishes_at_the_end_of_the_block(folder):
    uri = join(folder, "manifest.csv")
    with new_file(uri, OPTIONS, replace=False) as file:
        file.write(b"first")
        assert not exists(uri, OPTIONS)
    assert read_bytes(uri, OPTIONS) == b"first"
    with pytest.raises(FileExistsError), new_file(uri, OPTIONS, replace=False) as file:
        file.write(b"second")
    assert read_bytes(uri, OPTIONS) == b"first"
    with new_file(uri, OPTIONS, replace=True) as file:
        file.write(b"third")
    assert read_bytes(uri, OPTIONS) == b"third"


def test_without_hard_links_a_file_is_still_not_replaced(tmp_path, monkeypatch):
    def no_links(*_args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(local_files.os, "link", no_links)
    assert write_new(f"{tmp_path}/a", b"first", OPTIONS)
    assert not write_new(f"{tmp_path}/a", b"second", OPTIONS)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_in_the_folders_place_is_no_publication(tmp_path):
    (tmp_path / "labels").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        write_new(f"{tmp_path}/labels/a.parquet", b"x", OPTIONS)
    (tmp_path / "dir").mkdir()
    with pytest.raises(IsADirectoryError):
        write_new(f"{tmp_path}/dir", b"x", OPTIONS)


def test_list_files_sees_new_files_at_once_and_only_this_folder(folder):
    assert list_files(folder, OPTIONS, ".parquet") == []
    write_new(join(folder, "b.parquet"), b"22", OPTIONS)
    assert [info.name for info in list_files(folder, OPTIONS, ".parquet")] == ["b.parquet"]
    for name in ("a.parquet", "c.json", "below/d.parquet"):
        write_new(join(folder, name), b"1", OPTIONS)
    found = list_files(folder, OPTIONS, ".parquet")
    assert [(info.name, info.size) for info in found] == [("a.parquet", 1), ("b.parquet", 2)]


def test_no_listing_is_remembered(s3):
    place = locate(s3.uri("dir"), OPTIONS)
    s3.put("dir/a", b"")
    assert len(place.fs.ls(place.path)) == 1
    s3.put("dir/b", b"")
    assert len(place.fs.ls(place.path)) == 2


def test_etags_come_without_quotes(s3):
    s3.put("dir/a", b"x")
    assert list_files(s3.uri("dir"), OPTIONS) == [FileInfo("a", 1, "9dd4e461268c8034f5c8564e155c67a6")]


def test_exists_and_folders(folder):
    assert not exists(folder, OPTIONS)
    write_new(join(folder, "below/a"), b"", OPTIONS)
    assert exists(join(folder, "below/a"), OPTIONS)
    assert find_info(join(folder, "below/"), OPTIONS)["type"] == "directory"
    assert not exists(join(folder, "below/a/b"), OPTIONS)


@pytest.mark.usefixtures("new_clients")
def test_more_than_a_page_of_objects(s3, monkeypatch):
    real = LiteralS3FileSystem.call_s3
    monkeypatch.setattr(
        LiteralS3FileSystem, "call_s3", lambda fs, name, **request: real(fs, name, MaxKeys=2, **request)
    )
    for name in "abcde":
        s3.put(f"dir/{name}", b"")
    assert [info.name for info in list_files(s3.uri("dir"), OPTIONS)] == ["a", "b", "c", "d", "e"]


def test_options_reach_the_client_and_travel(s3_server, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    options = pickle.loads(pickle.dumps(StorageOptions(endpoint_url=s3_server.endpoint, profile="work")))
    fs = locate("s3://bucket/key", options).fs
    assert (fs.endpoint_url, fs.kwargs) == (s3_server.endpoint, {"profile": "work"})


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gs://bucket/a", "gs://bucket/a: no driver for gs://. Please install gcsfs to access Google Storage"),
        ("ssh2://host/a", "ssh2://host/a: unknown scheme ssh2://, expected one of s3, gs, az, http, https, file"),
    ],
)
def test_a_missing_driver_is_named(uri, said):
    with pytest.raises(InputError) as caught:
        read_bytes(uri, OPTIONS)
    assert str(caught.value) == said


def failure_of(call):
    with pytest.raises(STORAGE_ERRORS) as caught:
        call()
    return caught.value


def test_what_is_missing_on_s3(s3):
    missing = failure_of(lambda: read_bytes(s3.uri("nix"), OPTIONS))
    assert classify(missing) == "not_found"
    assert str(storage_error(missing, s3.uri("nix"))) == f"{s3.uri('nix')}: not found; check the name"
    for call in (
        lambda: read_bytes("s3://no-such-bucket/a", OPTIONS),
        lambda: write_new("s3://no-such-bucket/a", b"", OPTIONS),
        lambda: list_files("s3://no-such-bucket/a", OPTIONS),
    ):
        error = failure_of(call)
        assert classify(error) == "not_found"
        assert "no such bucket" in str(storage_error(error, "s3://no-such-bucket/a"))


def test_what_is_forbidden_on_s3(s3):
    s3.put("a.jpg", b"x")
    rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{s3.name}/*"}
    s3.client.put_bucket_policy(Bucket=s3.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]}))
    error = failure_of(lambda: read_bytes(s3.uri("a.jpg"), OPTIONS))
    assert classify(error) == "forbidden"
    assert "permission denied" in str(storage_error(error, s3.uri("a.jpg")))


@pytest.mark.usefixtures("new_clients")
def test_no_credentials_and_no_profile(s3, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    error = failure_of(lambda: read_bytes(s3.uri("a"), OPTIONS))
    assert classify(error) == "forbidden"
    assert "no credentials found; set AWS_ACCESS_KEY_ID" in str(storage_error(error, s3.uri("a")))
    error = failure_of(lambda: read_bytes(s3.uri("a"), StorageOptions(profile="nobody")))
    assert "no such profile" in str(storage_error(error, s3.uri("a")))


def test_an_impossible_bucket_name_is_not_found(s3):  # noqa: ARG001
    assert classify(failure_of(lambda: read_bytes("s3://a/x", OPTIONS))) in ("not_found", "forbidden")
    assert classify(failure_of(lambda: read_bytes("s3://UPPER case/x", OPTIONS))) == "not_found"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "x"), "storage", "the disk is full"),
        (OSError(errno.EROFS, "x"), "storage", "read-only"),
        (PermissionError(errno.EACCES, "x"), "forbidden", "permission denied"),
        (FileExistsError(errno.EEXIST, "x"), "storage", "a file stands where a folder is needed"),
        (NotADirectoryError(errno.ENOTDIR, "x"), "not_found", "a file stands where a folder is needed"),
        (IsADirectoryError(errno.EISDIR, "x"), "not_found", "is a folder"),
        (OSError(errno.ENAMETOOLONG, "x"), "not_found", "not found"),
        (OSError(errno.EIO, "request id 123"), "storage", "storage failed (Input/output error)"),
        (ValueError("embedded null byte"), "not_found", "not found"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), "storage", "cannot be reached"),
        (TimeoutError(), "storage", "cannot be reached"),
    ],
)
def test_errors_become_a_kind_and_one_line(error, kind, said):
    assert classify(error) == kind
    line = str(storage_error(error, "/data/a", OutputError))
    assert line.startswith("/data/a: ")
    assert said in line
    assert "\n" not in line
    assert "123" not in line


def test_a_local_error_names_the_file_it_was(tmp_path):
    error = failure_of(lambda: read_bytes(f"{tmp_path}/missing/a", OPTIONS))
    assert str(storage_error(error, "the source", SourceError)) == f"{tmp_path}/missing/a: not found; check the name"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)  # the whole name may be too long for a socket


def make_link_to_fifo(path):
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [os.mkfifo, make_link_to_fifo, make_socket, lambda path: path.symlink_to("/dev/zero")])
def test_what_has_no_end_is_refused_before_it_is_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jpg"
    make(path)
    for arguments in ((), (0, 4)):
        error = failure_of(lambda arguments=arguments: read_bytes(str(path), OPTIONS, *arguments))
        assert classify(error) == "not_found"
        said = str(storage_error(error, str(path)))
        assert said == f"{path}: not a regular file; name a file, or copy what it gives into one"


def test_a_folder_is_said_to_be_one_and_a_link_to_a_file_is_read(tmp_path):
    error = failure_of(lambda: read_bytes(str(tmp_path), OPTIONS))
    assert str(storage_error(error, str(tmp_path))) == f"{tmp_path}: is a folder, expected a file"
    (tmp_path / "real.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    assert read_bytes(f"{tmp_path}/link.jpg", OPTIONS) == b"x"


def test_an_error_names_the_folder_and_no_temporary_name():
    error = PermissionError(errno.EACCES, "x", f"/out/.{'0' * 32}.partial")
    assert str(storage_error(error, "/out/a")) == "/out: permission denied; check the rights or the credentials"


@pytest.fixture
def web_server():
    """Answers `/whole` with ten bytes whatever range is asked for, `/endless` with bytes until nobody takes them any
    more, `/packed` with a million that are few on their way, and `/403` and the like with that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0].removeprefix("/bucket")
            if path == "/endless":
                self.send_response(200)
                self.end_headers()
                with suppress(ConnectionError):
                    while True:
                        self.wfile.write(bytes(2**16))
                return
            if path == "/packed":
                data = gzip.compress(bytes(10**6))
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return
            status = 200 if path == "/whole" else int(path[1:])
            self.send_response(status)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"0123456789")

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_web_server_without_ranges_gives_the_range_all_the_same(web_server):
    assert read_bytes(f"{web_server}/whole", OPTIONS, offset=2, length=3) == b"234"
    assert read_bytes(f"{web_server}/whole", OPTIONS, offset=2, length=3, max_bytes=10) == b"234"


@pytest.mark.parametrize("path", ["whole", "endless", "packed"])
def test_a_web_server_cannot_send_more_than_is_taken(web_server, path):
    with pytest.raises(TooManyBytesError):
        read_bytes(f"{web_server}/{path}", OPTIONS, max_bytes=9)
    with pytest.raises(TooManyBytesError):
        read_bytes(f"{web_server}/{path}", OPTIONS, offset=2, length=3, max_bytes=9)


def test_a_bound_that_is_not_reached_changes_nothing_of_what_the_web_gives(web_server):
    assert read_bytes(f"{web_server}/whole", OPTIONS, max_bytes=10) == b"0123456789"
    assert read_bytes(f"{web_server}/packed", OPTIONS, max_bytes=10**6) == bytes(10**6)
    error = failure_of(lambda: read_bytes(f"{web_server}/404?X-Amz-Signature=secret", OPTIONS, max_bytes=10))
    assert classify(error) == "not_found"


@pytest.mark.parametrize("kind", ["local", "memory", "s3"])
def test_no_more_is_read_than_is_taken(request, tmp_path, kind):
    uri = {"local": str(tmp_path / "a"), "memory": "memory://bounded/a"}.get(kind)
    if kind == "s3":
        uri = request.getfixturevalue("s3").put("a", b"0123456789")
        request.getfixturevalue("s3").put("empty", b"")
        assert read_bytes(uri.replace("/a", "/empty"), OPTIONS, max_bytes=9) == b""
    else:
        write_new(uri, b"0123456789", OPTIONS)
    assert read_bytes(uri, OPTIONS, max_bytes=10) == b"0123456789"
    assert read_bytes(uri, OPTIONS, 2, 3, max_bytes=3) == b"234"
    assert read_bytes(uri, OPTIONS, 2, max_bytes=8) == b"23456789"
    for part in ((None, None), (0, 10), (1, None)):
        with pytest.raises(TooManyBytesError):
            read_bytes(uri, OPTIONS, *part, max_bytes=8)
    error = failure_of(lambda: read_bytes(f"{uri}-none", OPTIONS, max_bytes=9))
    assert classify(error) == "not_found"


def test_a_gateway_that_does_not_say_how_much_is_to_come_is_read(s3, monkeypatch):
    uri = s3.put("a", b"0123456789")
    system = locate(uri, OPTIONS).fs
    call_s3 = system._call_s3

    async def call(*args, **kwargs):
        answer = await call_s3(*args, **kwargs)
        del answer["ContentLength"]
        return answer

    monkeypatch.setattr(system, "_call_s3", call)
    assert read_bytes(uri, OPTIONS, max_bytes=10) == b"0123456789"
    with pytest.raises(TooManyBytesError):
        read_bytes(uri, OPTIONS, max_bytes=9)


def test_an_answer_of_s3_without_an_end_is_left(web_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(TooManyBytesError):
        read_bytes("s3://bucket/endless", StorageOptions(endpoint_url=web_server), max_bytes=10**7)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "not_found"), (410, "not_found"), (401, "forbidden"), (403, "forbidden"), (500, "storage")],
)
def test_web_errors_hide_the_signature(web_server, status, kind):
    uri = f"{web_server}/{status}?X-Amz-Signature=secret"
    error = failure_of(lambda: read_bytes(uri, OPTIONS))
    assert classify(error) == kind
    assert str(storage_error(error, uri)).startswith(f"{web_server}/{status}: ")
    assert "secret" not in str(storage_error(error, uri))
