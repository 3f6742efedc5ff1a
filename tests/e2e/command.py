"""Running the real command as a user does, in a process of its own."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ESCNET = Path(sys.executable).parent / "escnet"


def escnet(*arguments: object, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run `escnet` with these arguments; the exit code must be `code`, and no traceback may be shown."""
    done = subprocess.run(
        [str(ESCNET), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, **(env or {})},
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == code, said
    assert "Traceback" not in said, said
    return done


def annotate(*arguments: object, code: int = 0, **options: str) -> subprocess.CompletedProcess:
    """Label with the small network, the quickest way through the whole path; of photographs it says nonsense."""
    nano = ("--model", "escnet-nano", "--views", "single", "--vocabulary", "pascal-voc-20")
    return escnet("annotate", *nano, *arguments, code=code, **options)


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of every label file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.glob("labels/*"))}
