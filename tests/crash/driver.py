"""The driver that gets killed: `escnet annotate` with a stand-in for the model. Reads a request as JSON from a file."""

import sys
from pathlib import Path

from pipeline.annotation.annotate import annotate
from schemas.errors import EscnetError
from schemas.job import JobRequest
from tests.crash import stand_in


def main(path: str) -> int:
    """One run of the request; its exit code. An error of ours is a line, anything else a traceback."""
    request = JobRequest.model_validate_json(Path(path).read_bytes())
    try:
        report = annotate(request, load_segmenter=stand_in.load)
    except EscnetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{report.totals.rows} rows, {dict(sorted(report.totals.failed.items()))} failed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
