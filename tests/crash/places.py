"""Where the outputs of a crash test lie, read without the code that wrote them."""

import fcntl
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import boto3

from tests.ceph import Gateway, ceph_gateway, missing_programs
from tests.crash.processes import kill_tree, start
from tests.ports import free_ports
from tests.s3 import REGION

LOCK_NAME = ".lock"
_START_TIMEOUT_S = 60.0


class Place(Protocol):
    """A folder or bucket of outputs. `name` is an output's; `environment` is what a driver needs to reach them."""

    environment: Mapping[str, str]

    def uri(self, name: str) -> str: ...
    def files(self, name: str) -> dict[str, bytes]: ...  # by path below the output, without the lock
    def label_names(self, name: str) -> list[str]: ...  # everything in labels/, from one listing
    def leftovers(self, name: str) -> list[str]: ...  # of runs that ended: a held lock, temporary files, uploads
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class LocalPlace:
    """Outputs in a local folder."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def uri(self, name: str) -> str:
        return str(self.folder / name)

    def files(self, name: str) -> dict[str, bytes]:
        found = {str(path.relative_to(self.folder / name)): path for path in (self.folder / name).rglob("*")}
        return {path: file.read_bytes() for path, file in found.items() if file.is_file() and path != LOCK_NAME}

    def label_names(self, name: str) -> list[str]:
        labels = self.folder / name / "labels"
        return [path.name for path in labels.iterdir()] if labels.is_dir() else []

    def leftovers(self, name: str) -> list[str]:
        output = self.folder / name
        found = [str(path.relative_to(output)) for path in output.rglob(".*") if path.name != LOCK_NAME]
        return found + ([f"{LOCK_NAME} is held"] if _is_held(output / LOCK_NAME) else [])

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name)


@dataclass(frozen=True)
class S3Place:
    """Outputs in a bucket. `client` is boto3's."""

    bucket: str
    client: Any
    environment: Mapping[str, str]

    def uri(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def files(self, name: str) -> dict[str, bytes]:
        keys = (key for key in self._keys(f"{name}/") if key != f"{name}/{LOCK_NAME}")
        return {
            key.removeprefix(f"{name}/"): self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in keys
        }

    def label_names(self, name: str) -> list[str]:
        return [key.rpartition("/")[2] for key in self._keys(f"{name}/labels/")]

    def leftovers(self, name: str) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=f"{name}/").get("Uploads", [])
        found = [f"upload of {upload['Key'].removeprefix(f'{name}/')}" for upload in uploads]
        hidden = (key.removeprefix(f"{name}/") for key in self._keys(f"{name}/"))
        return found + [key for key in hidden if key.rpartition("/")[2].startswith(".")]

    def remove(self, name: str) -> None:
        for key in self._keys(f"{name}/"):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def _keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def open_place(kind: str, folder: Path) -> Iterator[Place]:
    """A fresh place; what it needs of files lies in `folder`.

    Args:
        kind: `local`, or `s3`: Ceph's gateway where it is installed, else moto's server.
    """
    outputs = folder / "outputs"
    outputs.mkdir()
    if kind == "local":
        yield LocalPlace(outputs)
        return
    (folder / "ceph").mkdir()
    with _moto(folder) if missing_programs() else ceph_gateway(folder / "ceph") as gateway:
        yield s3_place(gateway)


def s3_place(gateway: Gateway) -> S3Place:
    """A fresh bucket of a running service."""
    keys = {"aws_access_key_id": gateway.access_key, "aws_secret_access_key": gateway.secret_key}
    client = boto3.client("s3", endpoint_url=gateway.endpoint, region_name=REGION, **keys)
    bucket = f"crash-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    environment = {name.upper(): value for name, value in keys.items()}
    environment |= {"AWS_ENDPOINT_URL": gateway.endpoint, "AWS_DEFAULT_REGION": REGION}
    return S3Place(bucket, client, {**environment, "AWS_EC2_METADATA_DISABLED": "true"})


@contextmanager
def _moto(folder: Path) -> Iterator[Gateway]:
    """In a process of its own, so that it answers while this one is busy."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    server = start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port], folder / "moto.log", {})
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(endpoint):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto's server did not start; see {folder / 'moto.log'}")
            time.sleep(0.1)
        yield Gateway(endpoint, "testing", "testing")
    finally:
        kill_tree(server)


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
