"""A job: what the user asked for, what of it changes labels, and the record that an output keeps of it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.expectation import Expectation
from schemas.fingerprint import fingerprint
from schemas.labels import SCHEMA_VERSION
from schemas.manifest import ManifestRow
from schemas.manifest_table import identity_lines
from schemas.vocabulary import Level

JOB_FORMAT = "escnet-job/1"
DEFAULT_MAX_PIXELS = 178_956_970  # where Pillow itself refuses: twice its warning limit
DEFAULT_MAX_FAILED = 0.01
DEFAULT_TIMEOUT_S = 600.0  # minutes are ordinary: hundreds of classes in five views on a slow core

Views = Literal["sliding", "single"]
Dtype = Literal["float32", "bfloat16", "float16"]
DEFAULT_PRESELECT = 32  # of the measurement in docs/model.md
OFF: Literal["off"] = "off"
Preselect = Annotated[int, Field(ge=2)] | Literal["off"]  # most classes a picture that go through the blocks


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobRequest(_Frozen):
    """What `escnet annotate` was asked to do. None means: chosen when the job is resolved."""

    sources: tuple[str, ...] = Field(min_length=1)
    vocabularies: tuple[str, ...] = Field(min_length=1)  # the first is for rows that name none
    model: str = Field(min_length=1)
    output: str = Field(min_length=1)
    update: str | None = Field(default=None, min_length=1)  # an output whose cuts and unchanged shards are kept
    level: Level | None = None  # None: as the vocabularies say
    actors: int | None = Field(default=None, ge=1)
    cpus_per_actor: int = Field(default=1, ge=1)
    gpus_per_actor: float | None = Field(default=None, ge=0)
    node_labels: tuple[str, ...] = ()  # "key=value" each, of the nodes that actors may go to
    accelerator_type: str | None = None
    wait_for_nodes: bool = False
    address: str | None = None
    shard_size: int | None = Field(default=None, ge=1)  # None: as the output was begun with, or by the number of rows
    limit: int | None = Field(default=None, ge=1)
    views: Views | None = None
    dtype: Dtype | None = None
    batch_size: int | None = Field(default=None, ge=1)
    preselect: Preselect | None = None
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1)
    max_failed: float = Field(default=DEFAULT_MAX_FAILED, ge=0.0, le=1.0)
    timeout: float = Field(default=DEFAULT_TIMEOUT_S, gt=0)  # seconds, for each stage of a picture
    allow_random_weights: bool = False
    image_root: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    expected: Expectation | None = None  # of a plan file: what the run is held to
    strict: bool = False  # stop a run that strays from it


class LabelOptions(_Frozen):
    """The options that change labels, down to the last bit; they are part of a shard's identity."""

    views: Views
    device: Literal["cpu", "cuda"]
    dtype: Dtype
    batch_size: int
    cpus_per_actor: int  # threads: on a CPU, two threads add up in another order than one
    max_pixels: int
    preselect: Preselect = OFF  # as outputs were made that do not say


class ModelRecord(_Frozen):
    """The weights of a job. `is_random` is true for weights nobody trained."""

    name: str
    fingerprint: str
    is_random: bool


class ManifestRecord(_Frozen):
    """The manifest as planned. `digest` names the shard ids in their order."""

    files: tuple[str, ...]
    n_rows: int
    n_shards: int
    shard_size: int
    digest: str


class UpdateCounts(_Frozen):
    """By how many pictures an update differs from what it updates; changed are also those of another vocabulary."""

    n_new: int
    n_changed: int
    n_gone: int


class JobRecord(_Frozen):
    """The contents of an output's `job.json`. `update_of` is the output that this one updates, by its public URI."""

    format: Literal["escnet-job/1"] = "escnet-job/1"
    schema_version: int = SCHEMA_VERSION
    model: ModelRecord
    vocabularies: dict[str, str]  # name -> fingerprint
    options: LabelOptions
    manifest: ManifestRecord
    sources: tuple[str, ...]
    versions: dict[str, str]
    update_of: str | None = None
    update_counts: UpdateCounts | None = None

    def footer_of(self, ref: "ShardRef") -> dict[str, Any]:
        """What the footer of a shard's label file says of the job."""
        return {
            "model": self.model.fingerprint,
            "options": self.options.model_dump(),
            "shard_id": ref.shard_id,
            "vocabulary": ref.vocabulary,
            "vocabulary_fingerprint": self.vocabularies[ref.vocabulary],
        }


@dataclass(frozen=True, slots=True)
class ShardRef:
    """Where one shard's rows lie: a row group of a manifest file of the output."""

    shard_id: str
    vocabulary: str
    manifest_file: str
    row_group: int
    n_rows: int


def shard_identity(
    rows: Iterable[ManifestRow], vocabulary_fingerprint: str, model_fingerprint: str, options: LabelOptions
) -> str:
    """The shard's id: a hash of everything that decides the bytes of its label file."""
    rows_digest = hashlib.sha256(identity_lines(rows)).hexdigest()
    return fingerprint([SCHEMA_VERSION, rows_digest, vocabulary_fingerprint, model_fingerprint, options.model_dump()])


def _named(model: ModelRecord) -> str:
    return f"{model.name} {model.fingerprint}"


def differences(asked: JobRecord, found: JobRecord, details: Mapping[str, str] | None = None) -> list[str]:
    """What of a job differs from the one an output was begun with, each as "what: found there, asked for now".

    Args:
        details: what is known better than by two values, by what differs: "pictures", "vocabulary <name>".
    """
    said: list[str] = []

    def compare(what: str, there: Any, now: Any) -> None:
        if there != now:
            said.append(f"{what}: {(details or {}).get(what) or f'{there} there, {now} now'}")

    compare("schema version", found.schema_version, asked.schema_version)
    if found.model.fingerprint != asked.model.fingerprint:
        said.append(f"model: {_named(found.model)} there, {_named(asked.model)} now")
    for name in sorted({*found.vocabularies, *asked.vocabularies}):
        compare(f"vocabulary {name}", found.vocabularies.get(name, "none"), asked.vocabularies.get(name, "none"))
    options_there, options_now = found.options.model_dump(), asked.options.model_dump()
    for name in options_now:
        compare(name.replace("_", "-"), options_there[name], options_now[name])
    compare("shard-size", found.manifest.shard_size, asked.manifest.shard_size)
    compare("pictures", found.manifest.n_rows, asked.manifest.n_rows)
    if not said and found.manifest.digest != asked.manifest.digest:
        unknown = "some of them were renamed, replaced, or changed in size or etag"
        said.append(f"pictures: {(details or {}).get('pictures', unknown)}")
    return said
