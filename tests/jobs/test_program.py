"""The end of the process: with the right exit code, everything said, and Python not taken down."""

import os
import subprocess
import sys

import pytest

BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}  # so that what is printed is written at the end
ENDS = """
import atexit, sys
import jobs.program

class Kept:
    def __del__(self):
        print("taken down")

kept = Kept()

def main():
    atexit.register(print, "at exit")
    print("said", end=" ")
    {end}

jobs.program.main = main
jobs.program.run()
"""


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("sys.exit(130)", 130), ("raise ValueError('why')", 1)]
)
def test_a_command_ends_with_its_code_after_all_that_others_want_done(end, code):
    command = [sys.executable, "-c", ENDS.format(end=end)]
    done = subprocess.run(command, capture_output=True, text=True, env=BUFFERED, check=False)
    assert (done.returncode, done.stdout) == (code, "said at exit\n")
    assert ("ValueError: why" in done.stderr) == (code == 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_output_that_cannot_be_written_is_no_success():
    command = [sys.executable, "-c", ENDS.format(end="sys.exit(0)")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, env=BUFFERED, check=False)
    assert done.returncode == 1
