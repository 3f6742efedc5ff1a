"""Ray's servers beside the process group of the command that starts them."""

import os
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from pipeline.actors.placement import ray_cluster
from pipeline.actors.process_groups import apart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there, see process_groups.py")


def group_of_child() -> tuple[int, int]:
    """The process id of a child that Python forks with a hook, and its process group."""
    command = [sys.executable, "-c", "import os; print(os.getpid(), os.getpgrp())"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=lambda: None).stdout
    pid, group = map(int, said.split())
    return pid, group


def test_children_lead_groups_of_their_own_only_within():
    with apart():
        pid, group = group_of_child()
    assert group == pid
    assert group_of_child()[1] == os.getpgrp()


def test_no_server_of_ray_is_in_the_group_of_the_command():
    with ray_cluster(None):
        groups = {}
        for server in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, ProcessLookupError):  # some are there for a moment alone
                groups[server.name()] = os.getpgid(server.pid)
        assert {"raylet", "gcs_server"} <= groups.keys()
        assert os.getpgrp() not in groups.values()
