"""`escnet report` over a large output: seconds, memory and size, which should hardly grow with the pictures.

    python benchmarks/report.py --pictures 10000 100000 1000000 --json benchmarks/report.json

Writes outputs of made-up label files with the real schema: two hundred small pictures with masks of 64 x 48, used again
and again under other names, some of them failed. A million of them take some minutes to write and 3 GB of disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipeline.bench.made_up import made_up_vocabulary, write_pictures
from pipeline.output import write_job
from pipeline.output.label_files import label_file_bytes
from pipeline.output.plan import PlanDigest, cut_shards, read_plan, read_shard_rows, write_plan
from pipeline.picture.encode import encode_picture, failed_row
from pipeline.storage import StorageOptions, write_new
from schemas.errors import PictureError
from schemas.job import JobRecord, LabelOptions, ModelRecord, shard_identity
from schemas.labels import LabelRow
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

ESCNET = Path(sys.executable).parent / "escnet"
STORAGE = StorageOptions()
SIZE = (64, 48)  # width and height
N_DISTINCT = 200
N_A_FAILURE = 500  # pictures, of which one fails
SHARD_SIZE = 256
MODEL = ModelRecord(name="made-up", fingerprint="0" * 16, is_random=False)
OPTIONS = LabelOptions(views="single", device="cpu", dtype="float32", batch_size=1, cpus_per_actor=1, max_pixels=10**8)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    found = [measure(n, asked.classes) for n in asked.pictures]
    text = json.dumps({"classes": asked.classes, "shard_size": SHARD_SIZE, "reports": found}, indent=2) + "\n"
    print(text, end="")
    if asked.json:
        asked.json.write_text(text)


def measure(n_pictures: int, n_classes: int) -> dict:
    """Write an output and report on it."""
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        output, page = str(Path(name, "labels")), Path(name, "report.html")
        write_output(Path(name), output, n_pictures, made_up_vocabulary(n_classes))
        written_s = time.monotonic() - started
        started = time.monotonic()
        child = subprocess.Popen([str(ESCNET), "report", output, "--output", str(page)], stdout=sys.stderr)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"escnet report ended with {status}")
        return {
            "n_pictures": n_pictures,
            "n_shards": -(-n_pictures // SHARD_SIZE),
            "write_s": round(written_s, 1),
            "report_s": round(time.monotonic() - started, 1),
            "report_cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mib": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)),
            "page_mb": round(page.stat().st_size / 1e6, 2),
        }


def write_output(folder: Path, output: str, n_pictures: int, words: Vocabulary) -> None:
    """All that `escnet annotate` writes, but for the runs."""
    write_pictures(folder / "pictures", N_DISTINCT, SIZE)
    digest = PlanDigest()
    shards = cut_shards(
        rows_in_batches(folder / "pictures", n_pictures),
        (words.name,),
        SHARD_SIZE,
        lambda rows, _: shard_identity(rows, words.fingerprint, MODEL.fingerprint, OPTIONS),
    )
    files = write_plan(digest.watch(shards), output, STORAGE)
    write_new(f"{output}/vocabularies/{words.name}.yaml", vocabulary_yaml(words).encode(), STORAGE)
    job = JobRecord(
        model=MODEL,
        vocabularies={words.name: words.fingerprint},
        options=OPTIONS,
        manifest=digest.record(files, SHARD_SIZE),
        sources=(),
        versions={},
    )
    write_job(job, output, STORAGE)
    labelled = [label(k, words) for k in range(N_DISTINCT)]
    for ref in read_plan(files, output, STORAGE):
        rows = [labelled_as(row, labelled, words.name) for row in read_shard_rows(ref, output, STORAGE)]
        identity = {"shard_id": ref.shard_id, "vocabulary": words.name}
        write_new(f"{output}/labels/{ref.shard_id}.parquet", label_file_bytes(rows, identity), STORAGE)


def rows_in_batches(pictures: Path, n: int) -> Iterator[list[ManifestRow]]:
    for start in range(0, n, SHARD_SIZE):
        yield [
            ManifestRow(f"{k:08}.jpg", f"{pictures}/{k % N_DISTINCT:05}.jpg")
            for k in range(start, min(n, start + SHARD_SIZE))
        ]


def labelled_as(row: ManifestRow, labelled: list[LabelRow], vocabulary: str) -> LabelRow:
    number = int(row.image_id.removesuffix(".jpg"))
    if number % N_A_FAILURE == 7:
        return failed_row(row, vocabulary, PictureError("decode", "truncated", "the end is missing"))
    return replace(labelled[number % N_DISTINCT], image_id=row.image_id, uri=row.uri)


def label(number: int, words: Vocabulary) -> LabelRow:
    """A picture of six classes in stripes, each more or less sure."""
    rng = np.random.default_rng(number)
    width, height = SIZE
    chosen = rng.choice(len(words.entries), 6, replace=False)
    codes = np.array([words.entries[k].code for k in chosen], np.int32)
    cells = (-(-height // 4), -(-width // 4))
    confidence = rng.integers(40, 256, cells).astype(np.uint8)
    segmentation = SimpleNamespace(
        size_hw=(height, width),
        winner=np.repeat(codes, 8)[:, None].repeat(width, 1),
        runner_up=np.full(cells, words.entries[0].code, np.int32),
        confidence=confidence,
        margin=confidence // 2,
        entropy_mean=0.5,
    )
    return encode_picture(ManifestRow("", ""), words, segmentation)


if __name__ == "__main__":
    main()
