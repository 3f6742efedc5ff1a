"""What may pass is tried again, by every function of `pipeline.storage` and for a bounded time; what stays is not."""

import errno
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import botocore.exceptions as boto
import pytest
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from multidict import CIMultiDict

from pipeline import storage
from pipeline.storage import StorageOptions, retries
from pipeline.storage.errors import asked_wait_s, classify, is_transient
from pipeline.storage.retries import FIRST_WAIT_S, LONGEST_WAIT_S, OUTAGE_S, WEB_OUTAGE_S, retried
from pipeline.storage.s3 import LiteralS3FileSystem
from tests.s3 import fresh_clients

OPTIONS = StorageOptions()
URI = "s3://bucket/labels/a.parquet"
WEB = "https://example.org/a.jpg"


class Clock:
    """Time that passes only where somebody waits, or a call takes `call_s`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    monkeypatch.setattr(retries, "_said_at", float("-inf"))
    return clock


def failing(*errors):
    """A call that raises these, one after the other, and then gives "done"; the last for ever if it is an Ellipsis."""
    left = list(errors)

    def call():
        if not left:
            return "done"
        if left[-1] is ... and len(left) == 2:
            raise left[0]
        raise left.pop(0)

    return call


def s3_answer(status, code="", cause_of=None):
    error = boto.ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
    if cause_of is not None:
        cause_of.__cause__ = error
    return cause_of or error


def web_answer(status):
    return aiohttp.ClientResponseError(None, (), status=status)


PASSING = [
    s3_answer(500, "InternalError", OSError(errno.EREMOTEIO, "x")),
    s3_answer(500, "UnknownError", OSError(errno.EIO, "x")),
    s3_answer(502, "502"),
    s3_answer(503, "SlowDown", OSError(errno.EBUSY, "x")),
    s3_answer(503, "503"),
    s3_answer(429, "TooManyRequests"),
    s3_answer(400, "RequestTimeout", TimeoutError("x")),
    s3_answer(409, "ConditionalRequestConflict", OSError(errno.EBUSY, "x")),
    boto.EndpointConnectionError(endpoint_url="http://x"),
    boto.ConnectTimeoutError(endpoint_url="http://x"),
    boto.ReadTimeoutError(endpoint_url="http://x"),
    boto.ConnectionClosedError(endpoint_url="http://x"),
    boto.HTTPClientError(error=ConnectionResetError()),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    boto.ResponseStreamingError(error="x"),
    ResponseParserError("half of an answer"),
    ConnectionResetError(errno.ECONNRESET, "x"),
    ConnectionRefusedError(errno.ECONNREFUSED, "x"),
    TimeoutError(),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
    web_answer(503),
    web_answer(429),
    OSError(errno.ESTALE, "a network disk"),
]
STAYING = [
    s3_answer(403, "AccessDenied", PermissionError("x")),
    s3_answer(403, "InvalidAccessKeyId", PermissionError("x")),
    s3_answer(403, "SignatureDoesNotMatch", PermissionError("x")),
    s3_answer(404, "NoSuchBucket", FileNotFoundError("x")),
    s3_answer(404, "NoSuchKey", FileNotFoundError("x")),
    s3_answer(412, "PreconditionFailed", OSError(errno.EINVAL, "x")),
    s3_answer(400, "InvalidRequest", OSError(errno.EINVAL, "x")),
    s3_answer(501, "NotImplemented", OSError(errno.ENOSYS, "x")),
    boto.NoCredentialsError(),
    boto.ProfileNotFound(profile="x"),
    boto.ParamValidationError(report="x"),
    web_answer(404),
    web_answer(401),
    OSError(errno.ENOSPC, "x"),
    OSError(errno.EROFS, "x"),
    FileExistsError(errno.EEXIST, "x"),
    FileNotFoundError(errno.ENOENT, "x"),
    PermissionError(errno.EACCES, "x"),
    ValueError("embedded null byte"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(clock, error):
    assert retried(URI, failing(error, error)) == "done"
    assert len(clock.waits) == 2


@pytest.mark.parametrize("error", STAYING, ids=repr)
def test_what_stays_is_raised_at_once(clock, error):
    with pytest.raises(type(error)) as caught:
        retried(URI, failing(error))
    assert caught.value is error
    assert clock.waits == []
    assert not is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        s3_answer(400, "ExpiredToken", PermissionError("x")),
        s3_answer(400, "InvalidToken", OSError(errno.EINVAL, "x")),
        s3_answer(400, "TokenRefreshRequired", OSError(errno.EINVAL, "x")),
        boto.CredentialRetrievalError(provider="sso", error_msg="x"),
        boto.UnauthorizedSSOTokenError(),
    ],
    ids=repr,
)
def test_credentials_that_ran_out_are_a_refusal_and_pass_with_no_time(error):
    assert classify(error) == "forbidden"
    assert not is_transient(error)


@pytest.mark.parametrize(("uri", "patience"), [(URI, OUTAGE_S), (WEB, WEB_OUTAGE_S)])
def test_an_outage_ends_in_a_bounded_time(clock, uri, patience):
    started = clock.now
    with pytest.raises(TimeoutError):
        retried(uri, failing(TimeoutError(), ...))
    assert patience - LONGEST_WAIT_S < clock.now - started <= patience
    assert clock.waits[0] <= FIRST_WAIT_S
    assert max(clock.waits) <= LONGEST_WAIT_S


def busy(retry_after, status=429):
    return aiohttp.ClientResponseError(None, (), status=status, headers=CIMultiDict({"retry-after": retry_after}))


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_web_server_is_asked_again_when_it_says(clock, status):
    assert retried(WEB, failing(busy("20", status), busy("20", status))) == "done"
    assert all(20 < wait < 20 + LONGEST_WAIT_S for wait in clock.waits)
    assert len(set(clock.waits)) == 2


def test_a_web_server_that_is_busy_for_too_long_is_not_asked_again(clock):
    for errors, n_waits in (([busy("3600")], 0), ([busy("40")] * 3, 1)):
        clock.waits.clear()
        with pytest.raises(aiohttp.ClientResponseError):
            retried(WEB, failing(*errors))
        assert len(clock.waits) == n_waits


def test_how_long_a_server_is_busy_may_be_a_date_or_nonsense():
    assert asked_wait_s(busy(format_datetime(datetime.now(UTC) + timedelta(seconds=30)))) == pytest.approx(30, abs=3)
    assert asked_wait_s(busy("Wed, 21 Oct 2015 07:28:00 GMT")) == 0.0
    for nonsense in ("soon", "", "-5", "1e3"):
        assert asked_wait_s(busy(nonsense)) is None
    assert asked_wait_s(busy("5", status=403)) is None
    assert asked_wait_s(web_answer(429)) is None


def test_a_call_that_took_all_the_time_gets_one_more_chance(clock):
    n_calls = 0

    def stall():
        nonlocal n_calls
        n_calls += 1
        clock.now += 2 * OUTAGE_S
        raise TimeoutError

    with pytest.raises(TimeoutError):
        retried(URI, stall)
    assert n_calls == 2


def test_waits_grow_and_differ_so_that_actors_do_not_come_back_together(clock):
    for _ in range(5):
        retried(URI, failing(*[TimeoutError()] * 3))
    assert len(set(clock.waits)) == 15
    for number, wait in enumerate(clock.waits):
        longest = FIRST_WAIT_S * 2 ** (number % 3)
        assert longest / 2 <= wait <= longest


@pytest.mark.usefixtures("clock")
def test_a_long_wait_is_said_once(capsys):
    with pytest.raises(TimeoutError):
        retried(URI, failing(TimeoutError(), ...))
    advice = "check the network, and --endpoint-url or AWS_ENDPOINT_URL"
    said = f"{URI}: storage cannot be reached; {advice}; trying again for up to 60 seconds\n"
    assert capsys.readouterr().err == said
    retried(URI, failing(TimeoutError()))
    assert capsys.readouterr().err == ""


@pytest.fixture
def stumbling(s3, monkeypatch):
    """The first request of each kind fails, before it is sent; returns the kinds."""
    failed = set()
    real = LiteralS3FileSystem._call_s3

    async def stumble(self, method, *args, **kwargs):
        if method not in failed:
            failed.add(method)
            raise s3_answer(503, "SlowDown", OSError(errno.EBUSY, "x"))
        return await real(self, method, *args, **kwargs)

    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    with fresh_clients():
        monkeypatch.setattr(LiteralS3FileSystem, "_call_s3", stumble)
        monkeypatch.setattr(LiteralS3FileSystem, "call_s3", sync_wrapper(stumble))
        s3.put("dir/a", b"0123456789")
        yield failed


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda folder: storage.read_bytes(f"{folder}/a", OPTIONS), b"0123456789"),
        (lambda folder: storage.read_bytes(f"{folder}/a", OPTIONS, 2, 3), b"234"),
        (lambda folder: storage.open_file(f"{folder}/a", OPTIONS).read(), b"0123456789"),
        (lambda folder: storage.exists(f"{folder}/a", OPTIONS), True),
        (lambda folder: [info.name for info in storage.list_files(folder, OPTIONS)], ["a"]),
        (lambda folder: storage.write_new(f"{folder}/b", b"x", OPTIONS), True),
        (lambda folder: storage.write_replace(f"{folder}/a", b"x", OPTIONS), None),
        (lambda folder: storage.remove(f"{folder}/a", OPTIONS), None),
        (lambda folder: storage.sweep_temporary(folder, OPTIONS), 0),
    ],
)
def test_every_function_of_storage_tries_again(s3, stumbling, call, result):
    assert call(s3.uri("dir")) == result
    assert stumbling


def test_a_new_file_is_tried_again(s3, stumbling):
    with storage.new_file(s3.uri("dir/new"), OPTIONS, replace=False) as file:
        file.write(b"x")
    assert stumbling
    assert s3.get("dir/new") == b"x"


def test_a_published_file_whose_answer_got_lost_is_ones_own(s3, monkeypatch):
    real = LiteralS3FileSystem.pipe_file
    lost = []

    def lose_first(*args, **kwargs):
        real(*args, **kwargs)
        if not lost:
            lost.append(1)
            raise ConnectionResetError(errno.ECONNRESET, "x")

    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    with fresh_clients():
        monkeypatch.setattr(LiteralS3FileSystem, "pipe_file", lose_first)
        assert storage.write_new(s3.uri("a"), b"mine", OPTIONS)
        lost.clear()
        assert not storage.write_new(s3.uri("a"), b"another", OPTIONS)
    assert s3.get("a") == b"mine"


@pytest.mark.parametrize("size", [10, 8 * 2**20])
def test_a_connection_on_which_nothing_moves_is_a_failure(s3, monkeypatch, size):  # noqa: ARG001
    """Small bodies wait to be asked for, large ones for a reader: aiohttp has no time-out for either."""
    monkeypatch.setattr(LiteralS3FileSystem, "stall_s", 0.5)
    monkeypatch.setattr(retries, "OUTAGE_S", 0.0)
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as listener, fresh_clients():
        threading.Thread(target=lambda: kept.extend(listener.accept() for _ in range(2)), daemon=True).start()
        options = StorageOptions(endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ConnectionError, match="nothing moved") as failure:
            storage.write_new("s3://bucket/a", bytes(size), options)
        assert failure.value.errno == errno.ETIMEDOUT
        assert 1.0 <= time.monotonic() - started < 60


def test_an_upload_that_is_slow_but_moves_is_not_cut_off(s3, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(LiteralS3FileSystem, "stall_s", 2.0)
    size, got = 24 * 2**20, []  # the kernel swallows up to 4 MiB at once

    def read_slowly(listener):
        connection, _ = listener.accept()
        while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
            time.sleep(0.01)
        headers = connection.recv(connection.recv(65536, socket.MSG_PEEK).index(b"\r\n\r\n") + 4)
        if b"100-continue" in headers:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while sum(got) < size:
            got.append(len(connection.recv(2**18)))
            time.sleep(0.03)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "x"\r\n\r\n')

    with socket.create_server(("127.0.0.1", 0)) as listener, fresh_clients():
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        threading.Thread(target=read_slowly, args=(listener,), daemon=True).start()
        options = StorageOptions(endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        assert storage.write_new("s3://bucket/a", bytes(size), options)
        assert time.monotonic() - started > 2.5
    assert sum(got) == size
