"""A Ceph cluster with an S3 gateway, small enough for a test session: one monitor, one manager, one OSD in memory.

It is the object storage that people run themselves, and stricter than a fake: its own answers to conditions,
multipart uploads that stay behind, keys that must be encoded rightly.
"""

import json
import shutil
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_ports

PROGRAMS = (
    "ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin",
)  # fmt: skip
START_TIMEOUT_S = 120.0

# cephx must be on: without it the gateway hangs. One copy on one disk, and few placement groups: pools appear quickly.
_SETTINGS = """\
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
log file = {folder}/$name.log
mon data = {folder}/mon
mgr data = {folder}/mgr
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 1000
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 1
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw enable usage log = false
rgw enable ops log = false
"""


@dataclass(frozen=True)
class Gateway:
    """Where the gateway listens, and the keys of its one user."""

    endpoint: str
    access_key: str
    secret_key: str


def missing_programs() -> list[str]:
    """What of Ceph is not installed on this machine."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def ceph_gateway(folder: Path) -> Iterator[Gateway]:
    """Run Ceph in `folder` while the block runs; its daemons end with it, and also when this process is killed."""
    with ExitStack() as daemons:
        try:
            gateway = _start(folder / "first", daemons)
        except (RuntimeError, subprocess.TimeoutExpired):  # a port that was free may have been taken meanwhile
            daemons.close()
            gateway = _start(folder / "second", daemons)
        yield gateway


def _start(folder: Path, daemons: ExitStack) -> Gateway:
    """Start all daemons, in the order in which they need each other."""
    folder.mkdir()
    mon_port, gateway_port = free_ports(2)
    settings = _SETTINGS.format(fsid=uuid.uuid4(), folder=folder, mon_port=mon_port, gateway_port=gateway_port)
    folder.joinpath("ceph.conf").write_text(settings)
    endpoint = f"http://127.0.0.1:{gateway_port}"
    _make_keys(folder)
    _start_monitor(folder, mon_port, daemons)
    daemons.enter_context(_daemon(folder, "ceph-mgr", "-i", "x"))
    osd_uuid = str(uuid.uuid4())  # the monitor ignores a disk that comes with another one
    _run(folder, "ceph", "osd", "new", osd_uuid, "0")
    _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
    daemons.enter_context(_daemon(folder, "ceph-osd", "-i", "0"))
    daemons.enter_context(_daemon(folder, "radosgw", "--name", "client.rgw"))
    user = ("user", "create", "--uid", "tester", "--display-name", "tester")
    keys = json.loads(_run(folder, "radosgw-admin", *user))["keys"][0]
    _wait_for_answer(endpoint, folder)
    return Gateway(endpoint, keys["access_key"], keys["secret_key"])


def _make_keys(folder: Path) -> None:
    """One keyring with the keys of all, which the monitor takes over when it is made."""
    rights = {
        "mon.": {"mon": "allow *"},
        "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
        "client.rgw": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
        "mgr.x": {"mon": "allow *", "osd": "allow *"},
        "osd.0": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    }
    folder.joinpath("keyring").touch()
    for name, granted in rights.items():
        caps = [word for part, right in granted.items() for word in ("--cap", part, right)]
        _run(folder, "ceph-authtool", str(folder / "keyring"), "--gen-key", "-n", name, *caps)


def _start_monitor(folder: Path, port: int, daemons: ExitStack) -> None:
    for name in ("mon", "mgr", "osd"):
        folder.joinpath(name).mkdir()
    monmap = str(folder / "monmap")
    fsid = next(line for line in folder.joinpath("ceph.conf").read_text().splitlines() if line.startswith("fsid"))
    _run(folder, "monmaptool", "--create", "--add", "a", f"127.0.0.1:{port}", "--fsid", fsid.split()[-1], monmap)
    _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
    daemons.enter_context(_daemon(folder, "ceph-mon", "-i", "a"))


def _run(folder: Path, program: str, *arguments: str) -> str:
    conf = () if program in ("ceph-authtool", "monmaptool") else ("--conf", str(folder / "ceph.conf"))
    command = [program, *conf, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def _daemon(folder: Path, program: str, *arguments: str) -> Iterator[None]:
    with folder.joinpath(f"{program}.out").open("wb") as log:
        process = subprocess.Popen(
            [program, "--conf", str(folder / "ceph.conf"), "-f", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests; the daemons end after them
        )
    # Reads until this process is gone, however it ended. A death signal would not do: the manager runs itself anew.
    watch = ["sh", "-c", 'cat >/dev/null; kill -KILL "$0"', str(process.pid)]
    watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()
        process.kill()  # all of it is in memory, or in a folder that goes too
        process.wait()


def _wait_for_answer(endpoint: str, folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Ceph's gateway did not answer within {START_TIMEOUT_S:.0f} s; see the logs in {folder}")
