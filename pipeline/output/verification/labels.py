"""One label file against the rows of its shard in the manifest, down to the last byte.

A label file is a function of its rows and its identity, so the file is read, its rows are encoded again, and the bytes
must be equal. That finds every byte that changed, also where no checksum covers it.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output.label_files import (
    LabelFileError,
    footer_of,
    footer_totals,
    label_file_bytes,
    metadata_of,
    read_metadata,
    rows_of,
    totals_of,
)
from pipeline.output.verification.findings import REDO, RESTORE, Finding, LabelCheck, shown
from pipeline.output.verification.reading import DAMAGED, MANIFEST_BLOCK_BYTES, is_parquets_own, unread
from pipeline.output.verification.rows import RowFault, check_labels, check_names, check_status
from pipeline.storage import STORAGE_ERRORS, StorageOptions, join, open_file, read_bytes
from schemas.job import JobRecord, ShardRef, shard_identity
from schemas.labels import LABELLED, SCHEMA_VERSION, LabelRow, ShardTotals
from schemas.layout import LABELS_FOLDER, MANIFEST_FOLDER
from schemas.manifest import MANIFEST_SCHEMA, ManifestRow
from schemas.vocabulary import Vocabulary

LARGE_PIXELS = 2**25  # some 10 bytes each while a mask is checked: of larger ones, one at a time

_WRITER = re.compile(r"parquet-cpp-arrow version (\d+\.\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class LabelTask:
    """A label file to check; `is_full` is false where the footer is enough."""

    ref: ShardRef
    is_full: bool


@dataclass(frozen=True)
class LabelChecker:
    """Checks the label files of one output.

    Args:
        vocabularies: those that could be read; masks of the others are not looked into.
        large: held while a large mask is checked.
    """

    output: str
    storage: StorageOptions
    job: JobRecord
    vocabularies: dict[str, Vocabulary]
    large: AbstractContextManager = field(default_factory=nullcontext)

    def check(self, task: LabelTask) -> LabelCheck:
        """All that is to be said of one label file; raises nothing for whatever bytes it holds."""
        found = LabelCheck(f"{LABELS_FOLDER}/{task.ref.shard_id}.parquet")
        check = self._check_whole if task.is_full else self._check_footer
        try:
            check(task, found)
        except LabelFileError as error:
            expected = f"a label file of schema version {SCHEMA_VERSION} with {task.ref.n_rows} rows"
            found.findings.append(Finding(found.name, error.found, expected, REDO))
        except STORAGE_ERRORS as error:
            found.findings.append(unread(found.name, error))
        return found

    def _uri(self, found: LabelCheck) -> str:
        return join(self.output, found.name)

    def _check_footer(self, task: LabelTask, found: LabelCheck) -> None:
        # No more of it than this: Arrow ends the process for the sake of some damaged descriptions of columns.
        self._check_metadata(task.ref, read_metadata(self._uri(found), self.storage), found)

    def _check_whole(self, task: LabelTask, found: LabelCheck) -> None:
        planned = self._planned_rows(task.ref, found)
        data = read_bytes(self._uri(found), self.storage)
        metadata = metadata_of(data, self._uri(found))
        totals = self._check_metadata(task.ref, metadata, found)
        labels = rows_of(data, self._uri(found))
        self._check_rows(task.ref, labels, planned, found)
        if not found.findings and totals != totals_of(labels):
            found.findings.append(Finding(found.name, "totals in the footer", "those of its rows", REDO))
        if not found.findings and found.writer is None:
            self._compare_bytes(task.ref, labels, data, found)
        if not found.findings:
            found.n_rows, found.n_bytes = len(labels), len(data)

    def _planned_rows(self, ref: ShardRef, found: LabelCheck) -> list[ManifestRow] | None:
        """The rows of the shard in the manifest; None, and a finding, if they are not those the shard is named by."""
        name = f"{MANIFEST_FOLDER}/{ref.manifest_file}"
        of_shard = f"of shard {ref.shard_id} (row group {ref.row_group})"
        try:
            rows = _manifest_rows(ref, join(self.output, name), self.storage)
        except DAMAGED as error:
            is_damaged = is_parquets_own(error)
            damaged = Finding(name, f"rows {of_shard} that cannot be read", "those that the plan wrote", RESTORE)
            found.findings.append(damaged if is_damaged else unread(name, error))
            return None
        names = {row.vocabulary or next(iter(self.job.vocabularies)) for row in rows}
        fingerprint = self.job.vocabularies[ref.vocabulary]
        is_named = ref.shard_id == shard_identity(rows, fingerprint, self.job.model.fingerprint, self.job.options)
        if len(rows) != ref.n_rows or names != {ref.vocabulary} or not is_named:
            expected = "the rows, vocabulary, model and options of job.json that the shard is named by"
            found.findings.append(Finding(name, f"other rows {of_shard}", expected, RESTORE))
            return None
        return rows

    def _check_metadata(self, ref: ShardRef, metadata: pq.FileMetaData, found: LabelCheck) -> ShardTotals:
        """Compare what the footer says with job and plan; the totals in it."""

        def differs(what: object, expected: object, advice: str = REDO) -> None:
            found.findings.append(Finding(found.name, str(what), str(expected), advice))

        footer = footer_of(metadata, self._uri(found))
        totals = footer_totals(footer, self._uri(found))
        said = {key: value for key, value in footer.items() if key not in ("totals", "schema_version")}
        expected = self.job.footer_of(ref)
        for key in sorted({*said, *expected}):
            if said.get(key) != expected.get(key):
                differs(f"{key} {shown(said.get(key))} in the footer", f"{shown(expected.get(key))}, as in the job")
        if metadata.num_rows != ref.n_rows or totals.rows != ref.n_rows:
            differs(f"{metadata.num_rows:,} rows, {totals.rows:,} by the footer", f"{ref.n_rows:,} as in the manifest")
        self._check_writer(metadata.created_by, found, differs)
        return totals

    def _check_writer(self, created_by: str, found: LabelCheck, differs: Callable[..., None]) -> None:
        if created_by == this_writer():
            return
        at_start, here = self.job.versions.get("pyarrow", ""), this_writer().rpartition(" ")[2]
        match = _WRITER.match(created_by)
        if match and at_start.startswith(match[1]):
            found.writer = created_by
            return
        advice = REDO
        if match:
            advice = (
                f"if it is that version's, verify with pyarrow=={match[1]}, which compares every byte; if not, {REDO}"
            )
        differs(f"Parquet writer {shown(created_by)}", f"pyarrow {at_start or here}, as in job.json, or {here}", advice)

    def _check_rows(
        self, ref: ShardRef, labels: list[LabelRow], planned: list[ManifestRow] | None, found: LabelCheck
    ) -> None:
        if planned is not None and len(planned) != len(labels):
            found.findings.append(Finding(found.name, f"{len(labels):,} rows", f"{len(planned):,}", REDO))
            planned = None
        vocabulary = self.vocabularies.get(ref.vocabulary)
        for k, label in enumerate(labels):
            try:
                if planned is not None:
                    check_names(label, planned[k], ref.vocabulary)
                check_status(label, self.job.options.max_pixels)
                if vocabulary is not None and label.status == LABELLED:
                    is_large = (label.width or 0) * (label.height or 0) > LARGE_PIXELS
                    with self.large if is_large else nullcontext():
                        check_labels(label, vocabulary)
            except RowFault as fault:
                image_id = planned[k].image_id if planned else label.image_id
                found.findings.append(Finding(found.name, fault.found, fault.expected, REDO, image_id))

    def _compare_bytes(self, ref: ShardRef, labels: list[LabelRow], data: bytes, found: LabelCheck) -> None:
        written = label_file_bytes(labels, self.job.footer_of(ref))
        if written == data:
            return
        n = min(len(written), len(data))
        differing = np.flatnonzero(np.frombuffer(written[:n], np.uint8) != np.frombuffer(data[:n], np.uint8))
        place = int(differing[0]) if len(differing) else n
        what = f"bytes that its rows do not make (the first at offset {place:,} of {len(data):,})"
        found.findings.append(Finding(found.name, what, f"the {len(written):,} bytes that they make", REDO))


def _manifest_rows(ref: ShardRef, uri: str, storage: StorageOptions) -> list[ManifestRow]:
    """The rows of a shard, with the checksums of their pages verified."""
    with open_file(uri, storage, block_size=MANIFEST_BLOCK_BYTES) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        table = parquet.read_row_group(ref.row_group, use_threads=False)
    if not table.schema.equals(MANIFEST_SCHEMA):
        raise pa.ArrowInvalid("other columns than those of a manifest")
    return [ManifestRow(**row) for row in table.to_pylist()]


@cache
def this_writer() -> str:
    """What the Parquet writer of this machine calls itself in a file."""
    return pq.read_metadata(pa.BufferReader(label_file_bytes([], {}))).created_by
