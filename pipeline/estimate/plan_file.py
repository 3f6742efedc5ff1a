"""A plan as a job file: the options of the job, and under `expected` what a pilot lets it expect."""

import os

import yaml

from escnet.config import PRESET_NAMES
from pipeline.storage import StorageOptions, locate
from pipeline.vocabularies import bundled_names
from schemas.expectation import Expectation
from schemas.job import JobRequest

_OWN_NAMES = {"vocabularies": "vocabulary", "node_labels": "node-label"}
_HEAD = """\
# Written by `escnet plan`. `escnet annotate --job` of this file does the job, and says so when it strays from what is
# expected; --strict stops it then.
"""


def plan_yaml(request: JobRequest, expectation: Expectation) -> str:
    """The text of a plan file. Local names in it are absolute, so that it can be used from anywhere."""
    storage = StorageOptions(endpoint_url=request.endpoint_url, profile=request.profile)
    asked = request.model_dump(mode="json", exclude_defaults=True, exclude={"expected", "strict"})
    if request.output == "-":  # none was given yet
        del asked["output"]
    for name in ("sources", "vocabularies"):
        asked[name] = [_absolute(value, storage) for value in asked[name]]
    asked["model"] = _absolute(request.model, storage)
    options = {_OWN_NAMES.get(name, name).replace("_", "-"): value for name, value in asked.items()}
    expected = expectation.model_dump(mode="json")
    return _HEAD + yaml.safe_dump({**options, "expected": expected}, sort_keys=False, allow_unicode=True)


def _absolute(name: str, storage: StorageOptions) -> str:
    """A name that is a file or folder of this machine, from wherever it is read."""
    is_bundled = name in PRESET_NAMES or name in bundled_names()
    place = locate(name, storage)
    return place.path if place.is_local and not is_bundled and os.path.exists(place.path) else name
