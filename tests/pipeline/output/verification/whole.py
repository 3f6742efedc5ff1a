"""An output of four shards in which everything holds, to be damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.output import read_job
from pipeline.output.label_files import label_file_bytes, read_footer, read_rows
from pipeline.output.plan import read_plan
from pipeline.output.verify import verify
from schemas.errors import PictureError
from schemas.job import JobRecord, ShardRef
from schemas.labels import FOOTER_KEY, LabelRow
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import STORAGE, Answer, Failure, write_output

WORDS = Vocabulary(
    name="words",
    classes=[{"id": 0, "name": "land"}, {"id": 1, "name": "water", "min_confidence": 0.5}],
    distractors=[{"prompts": ["frame"]}],
)
MANY = Vocabulary(name="many", classes=[{"id": 3, "name": "three"}, {"id": 900, "name": "nine hundred"}])
NOISE = np.random.default_rng(0).integers(-1, 2, (6, 9))
ANSWERS = {
    "words": {
        "a.jpg": Answer(NOISE, np.random.default_rng(1).integers(0, 256, (2, 3))),
        "b.jpg": Failure(),
        "ü/c.jpg": Answer(np.ones((4, 4)), 10),  # ignored altogether
        "d.jpg": Failure((7, 5), PictureError("segment", "out_of_memory", "too much")),
        "e.jpg": Answer(np.zeros((3, 5))),
    },
    "many": {"f.jpg": Answer(np.where(NOISE > 0, 900, 3)), "g.jpg": Answer(np.full((1, 1), 900))},
}
N_ROWS, N_FILES = 7, 4
REDO = "; remove the file and run the same `escnet annotate` command again"
RESTORE = "; put the original back, or label into a new output"


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """Shards: a and b, c and d, e alone, f and g. Not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    write_output(str(folder), ANSWERS, [WORDS, MANY])
    return folder


@pytest.fixture
def output(whole, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def job_of(output: Path) -> JobRecord:
    job = read_job(str(output), STORAGE)
    assert job is not None
    return job


def refs_of(output: Path) -> list[ShardRef]:
    return read_plan(job_of(output).manifest.files, str(output), STORAGE)


def label_file(output: Path, k: int = 0) -> Path:
    return output / "labels" / f"{refs_of(output)[k].shard_id}.parquet"


def faults(output: Path, **options) -> list[str]:
    """What is wrong with an output, by this process alone."""
    return [finding.line for finding in verify(str(output), STORAGE, workers=1, **options).findings]


def identity_of(path: Path) -> dict:
    footer = read_footer(str(path), STORAGE)
    return {key: value for key, value in footer.items() if key not in ("totals", "schema_version")}


def rewrite(path: Path, change: Callable[[list[LabelRow]], list[LabelRow]], **identity) -> None:
    """Write a label file again as a labelling run would have, with other rows or another identity."""
    rows = change(read_rows(str(path), STORAGE))
    path.write_bytes(label_file_bytes(rows, identity_of(path) | identity))


def edit_footer(path: Path, change: Callable[[dict], None]) -> None:
    """Write a label file again, by other means than a labelling run, with another footer."""
    footer, table = read_footer(str(path), STORAGE), pq.read_table(path)
    change(footer)
    with pq.ParquetWriter(path, table.schema, store_schema=False, write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY: json.dumps(footer).encode()})
