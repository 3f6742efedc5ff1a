"""What goes wrong when a file is read: its bytes, or the way to them."""

import pyarrow as pa

from pipeline.output.verification.findings import Finding
from pipeline.storage import STORAGE_ERRORS, storage_error

MANIFEST_BLOCK_BYTES = 2**18  # fetched at a time: the rows of one shard, and not the whole file

_EXHAUSTED = MemoryError | RecursionError  # what a file may ask for

# All that comes of reading Parquet from storage: Arrow raises more than its own errors for damaged bytes.
DAMAGED = (
    pa.ArrowException, *STORAGE_ERRORS, TypeError, LookupError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def is_parquets_own(error: BaseException) -> bool:
    """Is the file at fault, rather than the storage? Arrow's OSError for damaged bytes has no number and no cause."""
    if type(error) is OSError:
        return error.errno is None and error.__cause__ is None
    return isinstance(error, pa.ArrowException | ValueError | TypeError | LookupError | OverflowError | _EXHAUSTED)


def unread(name: str, error: BaseException) -> Finding:
    """The finding on a file that storage did not give."""
    reason = str(storage_error(error, name)).rpartition(": ")[2].split("; ")[0]
    return Finding(name, f"a file that cannot be read ({reason})", "its bytes", "see to the storage, then verify again")
