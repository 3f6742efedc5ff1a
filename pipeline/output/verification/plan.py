"""The plan of an output against its job.json: vocabularies, manifest files, and the names of what lies there."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from pipeline.output.files import files_below
from pipeline.output.plan import SHARDS_KEY, PlanDigest, Shard
from pipeline.output.verification.findings import RESTORE, Finding, printable, shown
from pipeline.output.verification.reading import DAMAGED, MANIFEST_BLOCK_BYTES, is_parquets_own, unread
from pipeline.storage import StorageOptions, join, open_file
from pipeline.storage.local_files import is_partial_name
from pipeline.vocabularies import load_vocabulary
from schemas.errors import EscnetError
from schemas.job import JobRecord, ShardRef
from schemas.layout import LABELS_FOLDER, MANIFEST_FOLDER, VOCABULARIES_FOLDER
from schemas.vocabulary import Vocabulary

_IGNORED = ".DS_Store"  # macOS puts it into every folder that is looked at


@dataclass
class PlanCheck:
    """What lies below an output, as far as names and plan say it.

    Args:
        vocabularies: those that are as they were used.
        refs: the shards of the plan, in its order.
        labels: ids of the shards whose label file is there.
        findings, notes: what does not hold, and what does no harm.
    """

    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    refs: list[ShardRef] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Names, below the output, of label files that are not there."""
        return [f"{LABELS_FOLDER}/{r.shard_id}.parquet" for r in self.refs if r.shard_id not in self.labels]


def check_plan(job: JobRecord, output: str, storage: StorageOptions) -> PlanCheck:
    """Everything but the contents of label files.

    Raises:
        OutputError: a folder cannot be listed.
    """
    found = PlanCheck()
    _check_vocabularies(job, output, storage, found)
    for name in job.manifest.files:
        found.refs += _read_part(name, job, output, storage, found)
    is_whole = not any(each.file.startswith(MANIFEST_FOLDER) for each in found.findings)
    if is_whole:
        _check_counts(job, found)
    _check_names(job, output, storage, found, is_whole=is_whole)
    return found


def _check_vocabularies(job: JobRecord, output: str, storage: StorageOptions, found: PlanCheck) -> None:
    for name, fingerprint in job.vocabularies.items():
        file = f"{VOCABULARIES_FOLDER}/{name}.yaml"
        try:
            vocabulary = load_vocabulary(join(output, file), storage)
        except EscnetError as error:
            reason = f"no vocabulary that can be read ({' '.join(str(error).split())})"
            found.findings.append(Finding(file, reason, "the one that the labels were made with", RESTORE))
            continue
        if vocabulary.fingerprint == fingerprint:
            found.vocabularies[name] = vocabulary
        else:
            expected = f"{fingerprint}, as in job.json"
            found.findings.append(Finding(file, f"fingerprint {vocabulary.fingerprint}", expected, RESTORE))


def _read_part(name: str, job: JobRecord, output: str, storage: StorageOptions, found: PlanCheck) -> list[ShardRef]:
    """The shards that one manifest file names; none, and a finding, if it is not as the plan wrote it."""
    file = f"{MANIFEST_FOLDER}/{name}"
    try:
        with open_file(join(output, file), storage, block_size=MANIFEST_BLOCK_BYTES) as opened:
            metadata = pq.read_metadata(opened)
        named = json.loads((metadata.metadata or {})[SHARDS_KEY])
        refs = [ShardRef(shard_id, words, name, k, int(n)) for k, (shard_id, words, n) in enumerate(named)]
        n_there = (metadata.num_row_groups, metadata.num_rows)
    except DAMAGED as error:
        damaged = Finding(file, "no readable list of shards in its footer", "a manifest file of a plan", RESTORE)
        found.findings.append(damaged if is_parquets_own(error) else unread(file, error))
        return []
    unknown = sorted({shown(ref.vocabulary) for ref in refs if ref.vocabulary not in job.vocabularies})
    if unknown:
        expected = f"those of job.json, {', '.join(job.vocabularies)}"
        found.findings.append(Finding(file, f"shards of vocabulary {', '.join(unknown)}", expected, RESTORE))
        return []
    if n_there != (len(refs), sum(ref.n_rows for ref in refs)):
        said = f"{n_there[0]:,} row groups with {n_there[1]:,} rows"
        expected = "a row group for each shard in its footer, of as many rows"
        found.findings.append(Finding(file, said, expected, RESTORE))
        return []
    return refs


def _check_counts(job: JobRecord, found: PlanCheck) -> None:
    digest = PlanDigest()
    for _ in digest.watch(Shard(ref.shard_id, ref.vocabulary, []) for ref in found.refs):
        pass
    here = digest.record(job.manifest.files, job.manifest.shard_size)
    for what, there, expected in (
        ("shards", here.n_shards, job.manifest.n_shards),
        ("rows", sum(ref.n_rows for ref in found.refs), job.manifest.n_rows),
        ("digest of the shards", here.digest, job.manifest.digest),
    ):
        if there != expected:
            said = f"{what}: {there}"
            found.findings.append(Finding(f"{MANIFEST_FOLDER}/", said, f"{expected}, as in job.json", RESTORE))
    counted = Counter(ref.shard_id for ref in found.refs)
    for shard_id in (each for each, n in counted.items() if n > 1):
        said = f"shard {shard_id} {counted[shard_id]} times"
        found.findings.append(Finding(f"{MANIFEST_FOLDER}/", said, "every shard once", RESTORE))


def _check_names(job: JobRecord, output: str, storage: StorageOptions, found: PlanCheck, *, is_whole: bool) -> None:
    planned = {f"{ref.shard_id}.parquet": ref.shard_id for ref in found.refs}
    n_leftovers, orphans = 0, []
    for file in files_below(join(output, LABELS_FOLDER), storage):
        if file.name in planned:
            found.labels.add(planned[file.name])
        elif is_partial_name(file.name):
            n_leftovers += 1
        elif file.name != _IGNORED:
            orphans.append(file.name)
    n_leftovers += _check_manifest_names(job, output, storage, found)
    _tell_orphans(orphans, found, is_whole=is_whole)
    if n_leftovers:
        found.notes.append(
            f"{n_leftovers:,} temporary files of writers that are at work or were killed; the next run removes them"
        )


def _tell_orphans(orphans: Iterable[str], found: PlanCheck, *, is_whole: bool) -> None:
    for name in sorted(orphans):
        if is_whole or not name.endswith(".parquet"):
            expected = "only the files of shards that the plan names"
            advice = "remove it, or move it out of the output"
            found.findings.append(Finding(f"{LABELS_FOLDER}/{printable(name)}", "a file of no shard", expected, advice))
        else:
            expected = "a plan that can be read and names its shard"
            found.findings.append(
                Finding(f"{LABELS_FOLDER}/{printable(name)}", "a file of unknown shard", expected, RESTORE)
            )


def _check_manifest_names(job: JobRecord, output: str, storage: StorageOptions, found: PlanCheck) -> int:
    """Find what does not belong into manifest/; the number of temporary files there."""
    n_leftovers = 0
    known = {*job.manifest.files, _IGNORED}
    for file in sorted(files_below(join(output, MANIFEST_FOLDER), storage), key=lambda file: file.name):
        if is_partial_name(file.name):
            n_leftovers += 1
        elif file.name not in known:
            expected = "only the manifest files that job.json names"
            advice = "remove it: a plan that was stopped left it, or somebody put it there"
            found.findings.append(
                Finding(f"{MANIFEST_FOLDER}/{printable(file.name)}", "a file of no plan", expected, advice)
            )
    return n_leftovers
