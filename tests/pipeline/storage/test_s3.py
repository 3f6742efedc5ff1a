"""What only a real gateway shows: uploads in parts and their remains, names as keys, every way to be configured."""

import errno
import io
import ssl
import tarfile
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline import storage
from pipeline.output.plan import cut_shards, read_plan, read_shard_rows, write_plan
from pipeline.picture.fetch import fetch
from pipeline.sources import list_sources
from pipeline.sources.listing import SourceSummary
from pipeline.storage import (
    STORAGE_ERRORS,
    StorageOptions,
    list_files,
    new_file,
    read_bytes,
    retries,
    storage_error,
    sweep_temporary,
    write_new,
    write_replace,
)
from pipeline.storage.s3 import LiteralS3FileSystem
from schemas.manifest import ManifestRow
from tests.e2e.fault_proxy import FAULTS, fault_proxy
from tests.s3 import fresh_clients

OPTIONS = StorageOptions()
PART = 5 * 2**20  # the least that S3 takes of a part that is not the last
NASTY = "a b/ü 日本/#1?x=1&y/50%20/+plus/::/[1]*"


@pytest.fixture
def small_puts(monkeypatch):
    """One PUT takes less than two parts."""
    for name, value in {"_PUT_LIMIT_BYTES": PART + 1, "_SPOOL_PUT_LIMIT_BYTES": PART + 1, "_PART_BYTES": PART}.items():
        monkeypatch.setattr(storage, name, value)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    with fresh_clients():
        yield


def large(letter):
    return letter * (2 * PART + 7)


def n_parts(bucket, key):
    return int(bucket.client.head_object(Bucket=bucket.name, Key=key)["ETag"].strip('"').partition("-")[2])


def uploads(bucket):
    return sorted(item["Key"] for item in bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []))


@pytest.mark.usefixtures("small_puts")
def test_a_large_object_goes_in_parts_and_stays_unless_replaced(ceph):
    uri = ceph.uri(f"{NASTY}/a.parquet")
    assert write_new(uri, large(b"1"), OPTIONS)
    assert n_parts(ceph, f"{NASTY}/a.parquet") == 3
    assert not write_new(uri, large(b"2"), OPTIONS)
    assert ceph.get(f"{NASTY}/a.parquet") == large(b"1")
    write_replace(uri, large(b"3"), OPTIONS)
    assert ceph.get(f"{NASTY}/a.parquet") == large(b"3")
    assert uploads(ceph) == []


@pytest.mark.usefixtures("small_puts")
def test_a_file_too_large_for_memory_goes_in_parts(ceph):
    with new_file(ceph.uri("a.csv"), OPTIONS, replace=False) as file:
        file.write(large(b"1"))
    assert n_parts(ceph, "a.csv") == 3
    with pytest.raises(FileExistsError), new_file(ceph.uri("a.csv"), OPTIONS, replace=False) as file:
        file.write(large(b"2"))
    with pytest.raises(FileExistsError), new_file(ceph.uri("a.csv"), OPTIONS, replace=False) as file:
        file.write(b"small")
    assert ceph.get("a.csv") == large(b"1")
    with new_file(ceph.uri("a.csv"), OPTIONS, replace=True) as file:
        file.write(large(b"3"))
    assert ceph.get("a.csv") == large(b"3")
    assert uploads(ceph) == []


def patch_requests(monkeypatch, before=None, after=None):
    """Do something before or after requests; what it raises is what the caller gets."""
    real = LiteralS3FileSystem.call_s3

    def call_s3(fs, method, **request):
        if before:
            before(method, request)
        answer = real(fs, method, **request)
        if after:
            after(method)
        return answer

    monkeypatch.setattr(LiteralS3FileSystem, "call_s3", call_s3)


@pytest.mark.usefixtures("small_puts")
def test_an_upload_that_fails_is_aborted(ceph, monkeypatch):
    def forbid_second(method, request):
        if method == "upload_part" and request["PartNumber"] == 2:
            assert uploads(ceph) == ["a"]
            raise PermissionError(errno.EACCES, "x")

    patch_requests(monkeypatch, before=forbid_second)
    with pytest.raises(PermissionError):
        write_new(ceph.uri("a"), large(b"1"), OPTIONS)
    assert ceph.keys() == []
    assert uploads(ceph) == []


@pytest.mark.usefixtures("small_puts")
def test_answers_that_get_lost_leave_one_object_and_no_upload(ceph, monkeypatch):
    lost = set()

    def lose_first(method):
        if method not in lost:
            lost.add(method)
            raise ConnectionResetError(errno.ECONNRESET, "x")

    patch_requests(monkeypatch, after=lose_first)
    assert write_new(ceph.uri("dir/a"), large(b"1"), OPTIONS)
    assert {"create_multipart_upload", "upload_part", "complete_multipart_upload"} <= lost
    assert ceph.get("dir/a") == large(b"1")
    sweep_temporary(ceph.uri("dir"), OPTIONS)  # of the upload that was begun twice
    assert uploads(ceph) == []


def test_the_sweep_aborts_what_killed_writers_left_and_nothing_elsewhere(ceph):
    for key in ("out/labels/a.parquet", "out/labels/b.parquet", "out/labels/below/c", "out/labels2/d", "other/e"):
        ceph.client.create_multipart_upload(Bucket=ceph.name, Key=key)
    ceph.put("out/labels/done.parquet", b"x")
    assert sweep_temporary(ceph.uri("out/labels"), OPTIONS) == 2
    assert uploads(ceph) == ["other/e", "out/labels/below/c", "out/labels2/d"]
    assert sweep_temporary(ceph.uri("out/labels"), OPTIONS) == 0
    assert ceph.keys() == ["out/labels/done.parquet"]


def test_a_sweep_sees_more_uploads_than_one_page(ceph, monkeypatch):
    for number in range(5):
        ceph.client.create_multipart_upload(Bucket=ceph.name, Key=f"dir/{number}")
    real = LiteralS3FileSystem.call_s3
    with fresh_clients():
        monkeypatch.setattr(
            LiteralS3FileSystem,
            "call_s3",
            lambda fs, method, **request: real(
                fs, method, **request, **({"MaxUploads": 2} if method == "list_multipart_uploads" else {})
            ),
        )
        assert sweep_temporary(ceph.uri("dir"), OPTIONS) == 5
    assert uploads(ceph) == []


def test_pictures_and_tar_members_below_any_prefix_are_listed_and_read(ceph):
    member = tarfile.TarInfo("ü #1.jpg")
    member.size = 5
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(member, io.BytesIO(b"bytes"))
    ceph.put(f"{NASTY}/pictures/{NASTY}.jpg", b"whole")
    tar_uri = ceph.put(f"{NASTY}/a+b %41.tar", packed.getvalue())
    for source, image_id, data in (
        (ceph.uri(f"{NASTY}/pictures"), f"{NASTY}.jpg", b"whole"),
        (tar_uri, "ü #1.jpg", b"bytes"),
    ):
        (row,) = list_sources([source], OPTIONS, SourceSummary())
        assert row.image_id == image_id
        assert fetch(row, OPTIONS) == data
    write_new(ceph.uri(f"{NASTY}/out/labels/a.parquet"), b"x", OPTIONS)
    assert [info.name for info in list_files(ceph.uri(f"{NASTY}/out/labels"), OPTIONS)] == ["a.parquet"]
    assert ceph.get(f"{NASTY}/out/labels/a.parquet") == b"x"


@pytest.mark.parametrize("way", ["environment", "endpoint option", "profile with its endpoint", "profile and option"])
def test_every_way_to_say_where_and_who(s3, s3_server, monkeypatch, tmp_path, way):
    s3.put("a", b"found")
    options = OPTIONS
    if way != "environment":
        monkeypatch.delenv("AWS_ENDPOINT_URL")
    if way == "endpoint option":
        options = StorageOptions(endpoint_url=s3_server.endpoint)
    if way.startswith("profile"):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        lines = ["[profile work]", "region = us-east-1"]
        if way == "profile with its endpoint":
            lines.append(f"endpoint_url = {s3_server.endpoint}")
        (tmp_path / "config").write_text("\n".join(lines))
        keys = f"aws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}"
        (tmp_path / "credentials").write_text(f"[work]\n{keys}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        endpoint = None if way == "profile with its endpoint" else s3_server.endpoint
        options = StorageOptions(endpoint_url=endpoint, profile="work")
    with fresh_clients():
        assert read_bytes(s3.uri("a"), options) == b"found"
        assert write_new(s3.uri("b"), b"x", options)


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "NOBODYNOBODYNOBODY00")]
)
def test_wrong_credentials_fail_at_once_and_stay_secret(ceph, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    clock = SimpleNamespace(sleep=lambda _s: pytest.fail("waited"), monotonic=time.monotonic)
    monkeypatch.setattr(retries, "time", clock)
    uri = ceph.uri("a")
    with fresh_clients():
        for call in (
            lambda: read_bytes(uri, OPTIONS),
            lambda: write_new(uri, b"x", OPTIONS),
            lambda: list_files(uri, OPTIONS),
            lambda: storage.find_info(uri, OPTIONS),
        ):
            with pytest.raises(PermissionError) as caught:
                call()
            said = str(storage_error(caught.value, uri))
            assert said == f"{uri}: permission denied; check the rights or the credentials"


@pytest.fixture
def certificate(tmp_path):
    """A certificate for localhost that nobody signed, with its key; the path of the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "localhost.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.usefixtures("small_puts")
def test_over_tls_too(ceph, certificate, monkeypatch):
    """What botocore sends there by itself, a checksum behind a body without a length, Ceph 16 refuses."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with fault_proxy(ceph.endpoint, one_in=0, tls=tls) as proxy:
        options = StorageOptions(endpoint_url=proxy.endpoint)
        with pytest.raises(STORAGE_ERRORS) as caught:
            write_new(ceph.uri("a"), b"x", options)
        assert "the server's certificate is not trusted" in str(storage_error(caught.value, ceph.uri("a")))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        LiteralS3FileSystem.clear_instance_cache()
        for name, data in (("small", b"x"), ("large", large(b"1"))):
            assert write_new(ceph.uri(name), data, options)
            assert not write_new(ceph.uri(name), data, options)
            assert ceph.get(name) == data == read_bytes(ceph.uri(name), options)


def test_a_plan_is_read_though_a_tenth_of_all_requests_fails(s3, monkeypatch):
    monkeypatch.setattr(LiteralS3FileSystem, "stall_s", 1.0)
    rows = [ManifestRow(f"{i}.png", f"s3://b/{i}.png") for i in range(48)]
    with fault_proxy(s3.endpoint) as proxy, fresh_clients():
        options = StorageOptions(endpoint_url=proxy.endpoint)
        shards = cut_shards([rows], ("words",), 1, lambda shard, _: shard[0].image_id)
        refs = read_plan(write_plan(shards, s3.uri("out"), options), s3.uri("out"), options)
        assert [read_shard_rows(ref, s3.uri("out"), options)[0].image_id for ref in refs] == [r.image_id for r in rows]
    assert set(proxy.faults) == set(FAULTS)
