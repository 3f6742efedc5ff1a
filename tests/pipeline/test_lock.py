import subprocess
import sys

import pytest

from pipeline.lock import lock_output
from pipeline.storage import StorageOptions
from schemas.errors import OutputError

STORAGE = StorageOptions()
HOLD = """
import sys
from pipeline.lock import lock_output
from pipeline.storage import StorageOptions
with lock_output(sys.argv[1], StorageOptions()):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_a_dead_one_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputError, match="another run is at work there"),
            lock_output(str(tmp_path / "out"), STORAGE),
        ):
            pass
        other.kill()
        other.wait()
    with lock_output(str(tmp_path / "out"), STORAGE):
        pass
