"""What travels to a cluster with a job: its own files, and the code unless the cluster's image has it."""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.actors.forks import SAFE_FORKS

Code = Literal["send", "cluster"]

PACKAGES = ("schemas", "escnet", "pipeline", "jobs", "vocabularies")
_DISTRIBUTION = "escnet-pipeline"
# Ray's default is SIGTERM, and SIGKILL 3 seconds later: too soon to end actors, save a state and let go of a lock.
# For SIGINT it forks the driver in a way that needs SAFE_FORKS.
_ENVIRONMENT = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "120", **SAFE_FORKS}


def runtime_environment(folder: Path, files: Mapping[str, str], code: Code) -> dict[str, Any]:
    """Ray's runtime environment of a job; what it names lies below `folder` until the job is submitted.

    Args:
        folder: empty.
        files: text by name; they lie in the job's working directory.
        code: "send" this machine's packages, or use those of the cluster.
    """
    for name, text in files.items():
        path = folder / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    environment: dict[str, Any] = {"working_dir": str(folder / "job"), "env_vars": dict(_ENVIRONMENT)}
    if code == "send":
        environment["py_modules"] = [str(path) for path in _copy_code(folder / "code")]
    return environment


def command_on_cluster(code: Code) -> str:
    """How `escnet` is called there."""
    return "escnet" if code == "cluster" else "python -m jobs"


def _copy_code(folder: Path) -> list[Path]:
    """The packages without caches, and the name and version that `importlib.metadata` gives of them."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(os.path.dirname(spec.origin), folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    version = importlib.metadata.version(_DISTRIBUTION)
    about = folder / f"{_DISTRIBUTION.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_DISTRIBUTION}\nVersion: {version}\n")
    return sorted(folder.iterdir())
