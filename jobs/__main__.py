"""`python -m jobs`: the command `escnet` where only its packages are, as in a job that was sent to a cluster."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (the node's, which nobody chose with this program in mind)
    sys.stderr.write(
        f"Error: Python {sys.version.split()[0]} on this node, 3.11 or newer is needed; choose a newer image\n"
    )
    sys.exit(2)

from jobs.program import run

run()
