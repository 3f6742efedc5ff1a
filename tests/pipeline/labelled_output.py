"""Outputs for tests: whole and real, but for the network, whose answers the test makes up."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.output import write_job
from pipeline.output.label_files import label_file_bytes
from pipeline.output.overrides import mask_classes
from pipeline.output.plan import PlanDigest, cut_shards, read_plan, read_shard_rows, write_plan
from pipeline.picture.encode import encode_mask, encode_picture, failed_row
from pipeline.storage import StorageOptions, join, write_new, write_replace
from schemas.errors import PictureError
from schemas.job import ModelRecord, shard_identity
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow
from schemas.overrides import Override
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml
from tests.schemas.test_job import record

STORAGE = StorageOptions()
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MODEL = ModelRecord(name="stand-in", fingerprint="0123", is_random=False)


@dataclass
class Answer:
    """What the network says of one picture: (H, W) entry codes, and one confidence level for all or for each cell."""

    winner: np.ndarray
    level: int | np.ndarray = 200

    def row(self, row: ManifestRow, words: Vocabulary) -> LabelRow:
        height, width = self.winner.shape
        cells = (-(-height // 4), -(-width // 4))
        confidence = np.broadcast_to(np.asarray(self.level, np.uint8), cells).copy()
        runner_up = np.full(cells, words.entries[0].code, np.int32)
        segmentation = SimpleNamespace(
            size_hw=(height, width),
            winner=self.winner.astype(np.int32),
            runner_up=runner_up,
            confidence=confidence,
            margin=confidence // 2,
            entropy_mean=0.5,
        )
        return encode_picture(row, words, segmentation)


@dataclass
class Failure:
    """A picture that could not be labelled."""

    size_hw: tuple[int, int] | None = None
    error: PictureError = field(default_factory=lambda: PictureError("decode", "truncated", "the end is missing"))

    def row(self, row: ManifestRow, words: Vocabulary) -> LabelRow:
        return failed_row(row, words.name, self.error, self.size_hw)


Answers = dict[str, Answer | Failure]


def write_output(
    output: str,
    answers: dict[str, Answers],
    vocabularies: list[Vocabulary],
    *,
    shard_size: int = 2,
    n_done: int = 1000,
    folder: str = "photos",
    model: ModelRecord = MODEL,
) -> None:
    """Write an output with these answers by vocabulary and image id, in which `n_done` shards are done."""
    words = {each.name: each for each in vocabularies}
    rows = [
        ManifestRow(image_id, f"{folder}/{image_id}", vocabulary=name)
        for name, found in answers.items()
        for image_id in found
    ]
    digest = PlanDigest()
    options = record().options
    shards = cut_shards(
        [rows],
        tuple(words),
        shard_size,
        lambda some, name: shard_identity(some, words[name].fingerprint, model.fingerprint, options),
    )
    files = write_plan(digest.watch(shards), output, STORAGE)
    for each in vocabularies:
        write_replace(join(output, f"vocabularies/{each.name}.yaml"), vocabulary_yaml(each).encode(), STORAGE)
    job = record().model_copy(
        update={
            "model": model,
            "vocabularies": {each.name: each.fingerprint for each in vocabularies},
            "manifest": digest.record(files, shard_size),
            "versions": {"pyarrow": pa.__version__},
        }
    )
    write_job(job, output, STORAGE)
    for ref in read_plan(files, output, STORAGE)[:n_done]:
        found = answers[ref.vocabulary]
        labels = [found[row.image_id].row(row, words[ref.vocabulary]) for row in read_shard_rows(ref, output, STORAGE)]
        identity = {
            "model": model.fingerprint,
            "options": options.model_dump(),
            "shard_id": ref.shard_id,
            "vocabulary": ref.vocabulary,
            "vocabulary_fingerprint": words[ref.vocabulary].fingerprint,
        }
        write_new(join(output, f"labels/{ref.shard_id}.parquet"), label_file_bytes(labels, identity), STORAGE)


def override(image_id: str, mask: np.ndarray, words: Vocabulary, time: datetime = NOON) -> Override:
    """A correction of a picture; (H, W) class ids."""
    classes, ignored = mask_classes(mask, words)
    height, width = mask.shape
    return Override(image_id, words.name, width, height, encode_mask(mask), classes, ignored, "ada", time, "fixed/")


def save_mask(path: Path, mask: np.ndarray) -> Path:
    """Write a mask in the format of the suffix; (H, W) uint8 or uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path
