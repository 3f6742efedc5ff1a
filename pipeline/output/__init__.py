"""An output: the folder or prefix that holds one job, its plan and its labels."""

import posixpath
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pipeline.output.label_files import merge_totals, read_totals
from pipeline.storage import (
    STORAGE_ERRORS,
    StorageOptions,
    find_info,
    join,
    list_files,
    locate,
    read_bytes,
    storage_error,
    sweep_temporary,
    write_new,
)
from pipeline.storage.local_files import is_partial_name
from schemas.errors import EscnetError, OutputError
from schemas.job import JobRecord
from schemas.labels import ShardTotals
from schemas.layout import JOB_FILE, LABELS_FOLDER, LOCK_FILE, MANIFEST_FOLDER, RUNS_FOLDER, VOCABULARIES_FOLDER
from schemas.manifest import public_uri
from schemas.quantities import few

FOOTER_THREADS = 16

# What a plan that was interrupted before its job.json leaves behind; anything else is not ours.
_PLAN_NAMES = frozenset((MANIFEST_FOLDER, VOCABULARIES_FOLDER, LOCK_FILE))
_DESKTOP_NAMES = frozenset((".DS_Store",))  # macOS puts it into every folder that is looked at


@contextmanager
def storing(uri: str, error_class: type[EscnetError] = OutputError) -> Iterator[None]:
    """Put what storage raises into one line for the user.

    Raises:
        error_class: in place of any storage error.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        raise storage_error(error, uri, error_class) from error


def absolute_uri(output: str, storage: StorageOptions) -> str:
    """The same place for every process, wherever it runs: a local name becomes an absolute path."""
    place = locate(output, storage)
    return place.path if place.is_local else output


def read_job(output: str, storage: StorageOptions) -> JobRecord | None:
    """The job an output was begun with; None for an output that is empty or whose plan was interrupted.

    Raises:
        OutputError: the output holds something else, or its job.json cannot be read.
    """
    uri = join(output, JOB_FILE)
    with storing(output):
        try:
            text = read_bytes(uri, storage)
        except FileNotFoundError:
            _refuse_foreign(output, storage)
            return None
    try:
        return JobRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise OutputError(
            f"{public_uri(uri)}: is not a job record of this version ({where}: {first['msg']}); choose another --output"
        ) from error


def write_job(job: JobRecord, output: str, storage: StorageOptions) -> bool:
    """Write job.json, once; False if another driver was faster."""
    data = (job.model_dump_json(indent=2) + "\n").encode()
    with storing(output):
        return write_new(join(output, JOB_FILE), data, storage)


def sweep(output: str, storage: StorageOptions) -> None:
    """Remove what killed writers left behind; only under the output's lock."""
    with storing(output):
        for folder in (output, *(join(output, name) for name in (LABELS_FOLDER, MANIFEST_FOLDER, VOCABULARIES_FOLDER))):
            sweep_temporary(folder, storage)
        runs = locate(join(output, RUNS_FOLDER), storage)
        if runs.is_local:  # elsewhere its files, which are small, appear in one request
            for run in Path(runs.path).glob("*"):
                sweep_temporary(str(run), storage)


def done_shards(output: str, storage: StorageOptions) -> set[str]:
    """Ids of the shards that are done: those whose label file exists. One listing."""
    with storing(output):
        files = list_files(join(output, LABELS_FOLDER), storage, ".parquet")
    return {file.name.removesuffix(".parquet") for file in files}


def shard_totals(shard_ids: Iterable[str], output: str, storage: StorageOptions) -> ShardTotals:
    """What the footers of label files add up to, read side by side."""
    uris = (join(output, f"{LABELS_FOLDER}/{shard_id}.parquet") for shard_id in shard_ids)
    with storing(output), ThreadPoolExecutor(FOOTER_THREADS) as pool:
        return merge_totals(pool.map(lambda uri: read_totals(uri, storage), uris))


def _refuse_foreign(output: str, storage: StorageOptions) -> None:
    place = locate(output, storage)
    if find_info(output, storage) is None:
        return
    names = {posixpath.basename(name.rstrip("/")) for name in place.fs.ls(place.path, detail=False)}
    foreign = sorted(name for name in names - _PLAN_NAMES - _DESKTOP_NAMES - {""} if not is_partial_name(name))
    if foreign:
        raise OutputError(
            f"{public_uri(output)}: holds something else ({few(foreign)}) and no {JOB_FILE}; "
            "choose an empty or new folder for --output"
        )
