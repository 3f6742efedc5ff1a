"""A real Ray cluster on this machine: a head, and further nodes that can be killed as a power cut does."""

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import psutil

from tests.crash.processes import kill_tree, start, tree
from tests.ports import free_ports

N_NODES = 2  # besides the head; each node has room for one actor
START_TIMEOUT_S = 240.0
_RAY = Path(sys.executable).parent / "ray"
_ACTOR_TITLE = "ray::Replica"
_OBJECT_STORE_BYTES = 100 * 2**20
_COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
)  # fmt: skip
# Ray's stand-in for a cloud knows the head by this id. It looks every second rather than every five.
_HEAD_ID = "f" * 51 + "00000"
_AUTOSCALED = {
    "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
    "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
}  # fmt: skip
# Ray counts a node as lost after 15 seconds by default; 5 make room for more kills.
_SOONER = {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "1000"}


@dataclass
class Cluster:
    """`address` is what a driver connects to, with `environment` in its own. `folder` is for Ray's sockets and logs.

    `dashboard` is the address for job submission, where the cluster was started with one.
    """

    address: str
    dashboard: str
    folder: Path
    logs: Path
    environment: Mapping[str, str]
    head: Popen[bytes]
    nodes: list[Popen[bytes]] = field(default_factory=list)
    n_died: int = 0  # nodes that ended without having been killed
    _joins_at: list[float] = field(default_factory=list)
    _n_started: int = 0

    def tend(self) -> None:
        """Let nodes join that are due, and replace those that ended by themselves."""
        if self.head.poll() is not None:
            raise RuntimeError(f"the head of the cluster ended with exit code {self.head.returncode}; see {self.logs}")
        for node in [node for node in self.nodes if node.poll() is not None]:
            self.n_died += 1
            self._lose(node, pause_s=0.0)
        for _ in [due for due in self._joins_at if due <= time.monotonic()]:
            self._joins_at.remove(min(self._joins_at))
            self.start_node()

    def full_nodes(self) -> list[Popen[bytes]]:
        """Nodes, without the head, that have an actor."""
        return [node for node in self.nodes if self.actors_of(node)]

    def actors_of(self, node: Popen[bytes]) -> list[psutil.Process]:
        return _actors(node)

    def actors(self) -> list[psutil.Process]:
        """All actors, in the order of their process ids."""
        found = [actor for node in (self.head, *self.nodes) for actor in _actors(node)]
        return sorted(found, key=lambda actor: actor.pid)

    def kill_node(self, node: Popen[bytes], pause_s: float) -> None:
        """SIGKILL for a node and all that runs on it; a fresh one joins after `pause_s`."""
        self._lose(node, pause_s)

    def _lose(self, node: Popen[bytes], pause_s: float) -> None:
        kill_tree(node)
        self.nodes.remove(node)
        self._joins_at.append(time.monotonic() + pause_s)

    def start_node(self, *options: str) -> Popen[bytes]:
        """Let a node join; `options` are further ones of `ray start`."""
        self._n_started += 1
        # A folder each, as on a machine each: two nodes that start in one at a time want sockets of the same name.
        command = [*_ray_start(), f"--address={self.address}", f"--temp-dir={self.folder / str(self._n_started)}"]
        node = start([*command, *options], self.logs / f"node-{self._n_started}.log", self.environment)
        self.nodes.append(node)
        return node


@contextmanager
def running_cluster(
    logs: Path,
    environment: Mapping[str, str],
    *,
    labels: Sequence[str] = ("",) * N_NODES,
    has_dashboard: bool = False,
    n_to_come: int = 0,
) -> Iterator[Cluster]:
    """Start a cluster whose processes have `environment`; all of them are gone afterwards.

    Args:
        labels: of each node besides the head, "key=value" or "".
        has_dashboard: for job submission. Then the head has no core, so that no actor goes there.
        n_to_come: further nodes that Ray's autoscaler may start, when something waits that the others cannot hold.
    """
    port, dashboard = free_ports(2)
    # Not below `logs`: the paths of Ray's sockets must not be long.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as session:
        # A token of its own: Ray listens on the network, and would else take the one that the user keeps in a file.
        environment = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        head_only = ["--head", f"--port={port}", f"--temp-dir={session}/0", f"--include-dashboard={has_dashboard}"]
        head_only += [f"--dashboard-port={dashboard}", "--num-cpus=0"] if has_dashboard else []
        head_environment = {**environment, **_SOONER}
        if n_to_come:
            head_only += [f"--autoscaling-config={_autoscaling_file(Path(session), port, n_to_come)}"]
            head_environment |= _AUTOSCALED
        head = start([*_ray_start(), *head_only], logs / "head.log", head_environment)
        cluster = Cluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", Path(session), logs, environment, head)
        try:
            _wait_until_up(head, logs / "head.log")
            nodes = [cluster.start_node(*([f"--labels={label}"] if label else [])) for label in labels]
            for number, node in enumerate(nodes, start=1):  # a job that comes before them would find no place
                _wait_until_up(node, logs / f"node-{number}.log")
            yield cluster
        finally:
            for node in (*cluster.nodes, head):
                kill_tree(node)
            _kill_orphans(session)


def _ray_start() -> list[object]:
    """Ports that clusters on this machine would quarrel over are named, and all others are left to the kernel."""
    agent, client, runtime_env = free_ports(3)
    return [
        _RAY, "start", "--block", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats",
        f"--object-store-memory={_OBJECT_STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
        f"--runtime-env-agent-port={runtime_env}", "--include-log-monitor=false",
    ]  # fmt: skip


def _autoscaling_file(session: Path, port: int, n_to_come: int) -> Path:
    """What Ray's autoscaler is to know: the head, and nodes of one core that its stand-in for a cloud can start."""
    node = {"node_config": {}, "resources": {"CPU": 1}}
    provider = {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}"}
    provider |= dict.fromkeys(("use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check"), True)
    config = {
        "cluster_name": "growing",
        "max_workers": n_to_come,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "file_mounts_sync_continuously": False,
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {**node, "max_workers": 0},
            "more": {**node, "min_workers": 0, "max_workers": n_to_come},
        },
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in _COMMANDS},
    }
    path = session / "autoscaling.json"
    path.write_text(json.dumps(config))
    return path


def _kill_orphans(session: str) -> None:
    """Agents of a raylet that failed to start are nobody's children; they name the folder, this cluster's alone."""
    for process in psutil.process_iter(["cmdline"]):
        if session in " ".join(process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                process.kill()


def _wait_until_up(node: Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while "--block" not in log.read_text():  # which it names as the reason why it does not return
        if node.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the cluster did not start: {log.read_text()}")
        time.sleep(0.1)


def _actors(node: Popen[bytes]) -> list[psutil.Process]:
    found = []
    for process in tree(node):
        with suppress(psutil.Error):
            if "".join(process.cmdline()).startswith(_ACTOR_TITLE):
                found.append(process)
    return found
