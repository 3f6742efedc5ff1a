"""An S3 service on this machine, and a fresh bucket for each test that asks for the fixture `s3`.

The service is Ceph's gateway where Ceph is installed, and moto elsewhere. Tests that need the real one ask for `ceph`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import boto3
import pytest

from pipeline.storage.s3 import LiteralS3FileSystem
from tests.ceph import Gateway, ceph_gateway, missing_programs

REGION = "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """One bucket of the service. `client` is boto3's, so that a test does not check our code with our code."""

    endpoint: str
    name: str
    client: Any

    def uri(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes) -> str:
        """Store an object; returns its URI."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return self.uri(key)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The service, which lives as long as the test session."""
    if not missing_programs():
        with ceph_gateway(tmp_path_factory.mktemp("ceph")) as gateway:
            yield gateway
        return
    from moto.server import ThreadedMotoServer  # slow to load, and needed nowhere else

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Gateway(f"http://{host}:{port}", "testing", "testing")
    server.stop()


@cache
def _client(server: Gateway) -> Any:
    """Making one takes half a second, so all tests share it."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )


@pytest.fixture
def s3(s3_server: Gateway, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket; address and credentials stand in the environment, also for child processes."""
    environment = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    bucket = Bucket(s3_server.endpoint, f"bucket-{uuid4().hex}", _client(s3_server))
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture
def ceph(request: pytest.FixtureRequest) -> Bucket:
    """The same on the real gateway, for what a fake cannot show."""
    if missing := missing_programs():
        pytest.skip(f"needs Ceph's S3 gateway; not installed: {', '.join(missing)} (.ci/run says which packages)")
    return request.getfixturevalue("s3")


@contextmanager
def fresh_clients() -> Iterator[None]:
    """s3fs keeps clients by their arguments, whatever the environment or a patch: none from before, none for later."""
    LiteralS3FileSystem.clear_instance_cache()
    try:
        yield
    finally:
        LiteralS3FileSystem.clear_instance_cache()
