"""What an update takes over from an output that is there: its cuts, and the label files of shards that are the same.

The output that is updated is only read: it may belong to somebody else, and other runs may be at work on it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output import done_shards, storing
from pipeline.output.files import existing_job
from pipeline.output.label_files import LabelFileError, footer_of
from pipeline.output.run_log import pass_on_unknown_words
from pipeline.picture.budget import PixelBudget
from pipeline.progress import Progress, say
from pipeline.storage import FileInfo, StorageOptions, join, list_files, locate, read_bytes, write_new
from schemas.errors import JobFailedError, OutputError, StoppedError
from schemas.job import JobRecord, ShardRef
from schemas.layout import LABELS_FOLDER
from schemas.manifest import public_uri

COPY_THREADS = 8
COPY_BYTES = 512 * 2**20  # of label files in memory at a time; a larger one goes alone

# For bits that flipped Arrow raises more than its own errors.
_DAMAGED = (
    LabelFileError, pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError,
)  # fmt: skip


def refuse_overlap(old: str, new: str, storage: StorageOptions, what: str = "--update") -> None:
    """Refuse to make an output from another that is the same, holds it or lies in it. `what` never touches the old one.

    Raises:
        OutputError: one of the two is in the other, or they are the same.
    """
    if _holds(old, new, storage) or _holds(new, old, storage):
        raise OutputError(
            f"{public_uri(new)}: is, holds or lies in {public_uri(old)}, which {what} never touches; "
            "choose another --output"
        )


def _holds(outer: str, inner: str, storage: StorageOptions) -> bool:
    place, below = locate(outer, storage), locate(inner, storage)
    if type(place.fs) is not type(below.fs):
        return False
    if place.is_local:  # by the file system's own word: links, mounts, names that differ in case alone
        path, folder = Path(below.path).resolve(), Path(place.path)
        return folder.exists() and any(each.exists() and each.samefile(folder) for each in (path, *path.parents))
    return f"{below.path.rstrip('/')}/".startswith(f"{place.path.rstrip('/')}/")


def refuse_other_update(update: str | None, found: JobRecord, output: str) -> None:
    """Refuse to go on with an update as if it were none, or one of another output.

    Raises:
        OutputError: `update` is not what the job was begun with.
    """
    asked = None if update is None else public_uri(update)
    if asked == found.update_of:
        return
    where = public_uri(output)
    if found.update_of is None:
        raise OutputError(f"{where}: was begun without --update; leave it out, or choose another --output")
    other = f", not {asked}" if asked else ""
    raise OutputError(
        f"{where}: updates {found.update_of}{other}; go on with --update {found.update_of}, or choose another --output"
    )


def take_over(missing: Sequence[ShardRef], n_shards: int, old: str, output: str, storage: StorageOptions) -> set[str]:
    """Copy the label files of those shards that `old` has done, byte for byte, several at a time.

    A file that is damaged or is not what its name says stays where it is, and its shard is labelled.

    Args:
        missing: shards that `output` has not.
        n_shards: of the whole job.

    Returns:
        Ids of the shards that were copied.

    Raises:
        OutputError: `old` is no output.
        JobFailedError: storage failed.
        StoppedError: by Ctrl-C; what is copied stays.
    """
    existing_job(old, storage)
    with storing(old):
        files = {file.name: file for file in list_files(join(old, LABELS_FOLDER), storage, ".parquet")}
    found = [(ref, files[_label_name(ref)]) for ref in missing if _label_name(ref) in files]
    with Progress(sum(ref.n_rows for ref, _ in found)) as progress:
        progress.say(f"{len(found):,} of {n_shards:,} shards are taken over from {public_uri(old)}")
        try:
            return set(_copy_all(found, old, output, storage, progress))
        except KeyboardInterrupt as stop:
            n_done = len(done_shards(output, storage))
            line = f"stopped; {n_done} of {n_shards} shards are done and kept, the same command goes on with the rest"
            raise StoppedError(line) from stop


def take_over_unknown_words(old: str, output: str, storage: StorageOptions) -> None:
    """Note which words the model was never trained with, as no run of `output` had to load it.

    Nothing is noted of words that changed, where `output` knows already, or if `old` is not needed and gone.
    """
    with suppress(OutputError):
        was, now = existing_job(old, storage), existing_job(output, storage)
        if (was.model.fingerprint, was.vocabularies) == (now.model.fingerprint, now.vocabularies):
            pass_on_unknown_words(old, output, "annotate", storage, say)


def _copy_all(
    found: Sequence[tuple[ShardRef, FileInfo]], old: str, output: str, storage: StorageOptions, progress: Progress
) -> Iterator[str]:
    """Yield the ids of shards as they are copied."""
    room = PixelBudget(COPY_BYTES)  # it counts bytes here
    pool = ThreadPoolExecutor(COPY_THREADS)
    n_rows = 0
    try:
        calls = {pool.submit(_copy, ref, room.take(file.size or 0), old, output, storage): ref for ref, file in found}
        for call in as_completed(calls):
            ref = calls[call]
            if call.result():
                yield ref.shard_id
            else:
                progress.say(f"{public_uri(_label_uri(old, ref))}: is damaged, so its shard is labelled")
            n_rows += ref.n_rows
            progress.update(n_rows, 0, is_loading=False)
    finally:  # an error, or Ctrl-C: what is under way ends, what waits is never begun
        pool.shutdown(cancel_futures=True)


def _copy(ref: ShardRef, room: AbstractContextManager[None], old: str, output: str, storage: StorageOptions) -> bool:
    """Copy one label file as soon as there is room for it; False if it is not whole."""
    uri, copy = _label_uri(old, ref), _label_uri(output, ref)
    with room:
        with storing(uri, JobFailedError):
            data = read_bytes(uri, storage)
        if not _is_label_file_of(ref, data, uri):
            return False
        with storing(copy, JobFailedError):
            write_new(copy, data, storage)
    return True


def _label_name(ref: ShardRef) -> str:
    return f"{ref.shard_id}.parquet"


def _label_uri(output: str, ref: ShardRef) -> str:
    return join(output, f"{LABELS_FOLDER}/{_label_name(ref)}")


def _is_label_file_of(ref: ShardRef, data: bytes, uri: str) -> bool:
    """Is it whole, and the shard's? Damage would spread, and be harder to find in the copy."""
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer = footer_of(parquet.metadata, uri)
        n_rows = parquet.read(use_threads=False).num_rows  # also compares every page with its checksum
    except _DAMAGED:
        return False
    return footer.get("shard_id") == ref.shard_id and n_rows == ref.n_rows
