"""The pilot: a few pictures of a job labelled as the job would, and what each of them came to."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.actors.actor import ReplicaSetup, load_segmenter
from pipeline.actors.orders import Segmenter
from pipeline.annotation.annotate import JobReport, annotate
from pipeline.output import storing
from pipeline.output.files import files_below
from pipeline.output.labelled import LabelledOutput, open_labelled
from pipeline.output.run_log import last_run, read_events
from pipeline.sources.manifest import write_manifest
from pipeline.storage import StorageOptions, join, remove
from schemas.errors import JobFailedError
from schemas.job import JobRequest
from schemas.labels import LABELLED
from schemas.layout import LABELS_FOLDER
from schemas.manifest import ManifestRow, public_uri
from schemas.timings import WAITS

_LEAST_A_SHARD = 4  # small shards, since every one is a measurement
_STATISTICS = ("status", "width", "height", "classes", "ignored_fraction")


@dataclass(frozen=True)
class PilotPicture:
    """What one picture came to. Of a failed one the rest is empty.

    `classes` are its pixels by class name, without ignored ones; `ignored_fraction` is of its `n_pixels`.
    """

    is_labelled: bool
    n_pixels: int = 0
    ignored_fraction: float = 0.0
    classes: dict[str, int] | None = None


@dataclass(frozen=True)
class PilotShard:
    """What one small shard came to: pictures that the model saw, and the seconds of its actor that it took.

    `is_first`: it was its actor's first, when all was still cold. `row_bytes` of its label file grow with its pictures,
    `footer_bytes` are those of any label file.
    """

    is_first: bool
    n_segmented: int
    seconds: float
    pictures: list[PilotPicture]
    row_bytes: int
    footer_bytes: int


@dataclass(frozen=True)
class Pilot:
    """A finished pilot; its output is there as long as the block of `run_pilot` lasts."""

    labels: LabelledOutput
    report: JobReport
    shards: list[PilotShard]
    n_actors: int
    seconds: float

    @property
    def pictures(self) -> list[PilotPicture]:
        return [picture for shard in self.shards for picture in shard.pictures]


@contextmanager
def run_pilot(
    request: JobRequest,
    rows: Sequence[ManifestRow],
    batch_size: int,
    scratch: str | None,
    storage: StorageOptions,
    load: Callable[[ReplicaSetup], Segmenter] = load_segmenter,
) -> Iterator[Pilot]:
    """Label some rows of a job below `scratch`, a temporary folder of this machine if None, and clean up afterwards.

    Args:
        batch_size: of the job; a shard of the pilot holds at least one batch.

    Raises:
        InputError, JobFailedError: as labelling raises them.
    """
    started = time.monotonic()
    with _folder(scratch, storage) as folder:
        manifest = join(folder, "pilot.parquet")
        write_manifest(rows, manifest, storage)
        shard_size = max(_LEAST_A_SHARD, batch_size)
        only = {"sources": (manifest,), "output": join(folder, "output"), "shard_size": shard_size}
        none = {**dict.fromkeys(("limit", "update", "image_root", "expected")), "strict": False}
        report = annotate(request.model_copy(update={**only, **none}), load_segmenter=load)
        labels = open_labelled(report.output, storage)
        run = last_run(report.output, storage) or {}
        shards = list(_shards(labels, run))
        n_actors = report.timings.n_actors if report.timings else 1
        yield Pilot(labels, report, shards, n_actors, time.monotonic() - started)


@contextmanager
def _folder(scratch: str | None, storage: StorageOptions) -> Iterator[str]:
    if scratch is None:
        with tempfile.TemporaryDirectory(prefix="escnet-plan-") as folder:
            yield folder
        return
    folder = join(scratch, f"escnet-plan-{time.time_ns():x}")
    try:
        yield folder
    finally:
        with storing(folder):
            for file in list(files_below(folder, storage)):
                remove(join(folder, file.name), storage)


def _shards(labels: LabelledOutput, run: dict[str, Any]) -> Iterator[PilotShard]:
    sizes = {file.name: file.size or 0 for file in files_below(join(labels.uri, LABELS_FOLDER), labels.storage)}
    events, firsts = _events(labels, run)
    for ref in labels.done:
        found = labels.columns(ref, _STATISTICS).to_pylist()
        event = events.get(ref.shard_id)
        if event is None:
            raise JobFailedError(f"{public_uri(labels.uri)}: the pilot's timings could not be kept there; run again")
        seconds = event["seconds"]["segment"] + sum(event["waits"].get(name, 0.0) for name in WAITS)
        row_bytes = labels.row_bytes(ref)
        yield PilotShard(
            ref.shard_id in firsts,
            event["n_segmented"],
            seconds,
            list(map(_picture, found)),
            row_bytes,
            sizes[f"{ref.shard_id}.parquet"] - row_bytes,
        )


def _events(labels: LabelledOutput, run: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What the run said of each shard, by shard id, and the ids of every actor's first."""
    events: dict[str, dict[str, Any]] = {}
    firsts: dict[int, str] = {}
    for event in read_events(labels.uri, str(run.get("run_id")), labels.storage):
        if event.get("event") == "shard":
            events[event["shard_id"]] = event
            firsts.setdefault(event["actor"], event["shard_id"])
    return events, set(firsts.values())


def _picture(row: dict[str, Any]) -> PilotPicture:
    if row["status"] != LABELLED:
        return PilotPicture(is_labelled=False)
    classes = {each["name"]: each["pixels"] for each in row["classes"]}
    return PilotPicture(True, row["width"] * row["height"], row["ignored_fraction"], classes)
