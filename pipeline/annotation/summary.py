"""What a run says when it ends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.annotation.speed import speed_lines
from schemas.errors import PASSING_KINDS, one_line
from schemas.job import LabelOptions
from schemas.layout import LABELS_FOLDER
from schemas.manifest import public_uri
from schemas.quantities import counted, few

if TYPE_CHECKING:
    from pipeline.annotation.annotate import JobReport
    from pipeline.annotation.update_corrections import TakenCorrections

SHOWN_CLASSES = 5
SHOWN_WORDS = 5


def summary_lines(report: "JobReport") -> list[str]:
    """The end of a run in a few lines: what is done, what failed and why, and where it lies."""
    lines = [_headline(report)]
    if report.update_of is not None:
        lines.append(f"  update:  {_update(report)}")
    if any(report.corrections):
        lines.append(f"  people:  {_corrections(report.corrections)}")
    if report.n_failed:
        reasons = sorted(report.totals.failed.items(), key=lambda item: (-item[1], item[0]))
        lines.append("  failed:  " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
    if report.sources.other_files:
        lines.append(f"  no pictures, left out: {report.sources.other_files_text()}")
    if report.sources.ignored_columns:
        lines.append(f"  columns that mean nothing here: {', '.join(sorted(report.sources.ignored_columns))}")
    if report.totals.classes:
        lines.append("  largest: " + ", ".join(_largest_classes(report)))
    labels = f"{public_uri(report.output).rstrip('/')}/{LABELS_FOLDER}"
    lines.append(f"  labels:  {labels}/*.parquet ({counted(report.n_shards, 'shard')})")
    if report.n_failed:
        lines.append(f"  which:   select image_id, error_message from '{labels}/*.parquet' where status = 'failed'")
        lines.append(f"  again:   {_again(report)}")
    if report.timings is not None:
        lines += speed_lines(report.timings)
    if report.is_random:
        lines.append("  The model's weights are random: these labels are noise.")
    return list(map(one_line, lines))


def start_line(n_rows: int, n_shards: int, n_shards_before: int, options: LabelOptions, n_actors: int) -> str:
    """The beginning of a run in one line: how much there is to do, and with what."""
    there = f", {counted(n_shards_before, 'shard')} done before" if n_shards_before else ""
    actors = counted(n_actors, "actor")
    pictures = f"{counted(n_rows, 'picture')} in {counted(n_shards, 'shard')}"
    return f"{pictures}{there}; {actors} on {options.device}, {options.dtype}"


def unknown_words_line(model: str, words: Sequence[str]) -> str:
    """A warning that the model was never trained with these words, in one line."""
    never = f"warning: {model} was never trained with {counted(len(words), 'word')} used here"
    return f"{never} ({few(words, SHOWN_WORDS)}); what it labels by them means nothing"


def _headline(report: "JobReport") -> str:
    done = f"{report.totals.labelled:,} of {report.n_rows:,} pictures are labelled"
    failed = f", {report.n_failed:,} failed" if report.n_failed else ""
    if report.n_shards_before == report.n_shards:
        return f"Nothing to do: {done}{failed}."
    if report.n_rows_now == 0:
        return f"Done: {done}{failed}."
    rate = report.n_rows_now / max(report.seconds, 1e-9)
    return f"Done: {done}{failed}. This run: {report.n_rows_now:,} in {report.seconds:.0f} s, {rate:.2f} a second."


def _update(report: "JobReport") -> str:
    taken = f"{report.n_shards_taken_over:,} of {counted(report.n_shards, 'shard')} taken over from {report.update_of}"
    counts = report.update_counts
    if counts is None:
        return taken
    return f"{taken}; pictures: {counts.n_new:,} new, {counts.n_changed:,} changed, {counts.n_gone:,} gone"


def _corrections(found: "TakenCorrections") -> str:
    taken = f"{counted(found.n_taken, 'correction')} taken over"
    return f"{taken}, {found.n_left:,} not: their picture or its classes changed" if found.n_left else taken


def _again(report: "JobReport") -> str:
    """How the failed pictures are done again, and what must come first for those that would fail again as they are."""
    kinds = {reason.partition("/")[2] for reason in report.totals.failed}
    passing = kinds & PASSING_KINDS
    command = f"escnet retry {public_uri(report.output)} --only {','.join(sorted(passing or kinds))}"
    if not passing:
        return f"once the pictures are mended in place, {command}"
    return command if passing == kinds else f"{command} (the others once they are mended in place)"


def _largest_classes(report: "JobReport") -> list[str]:
    found = sorted(report.totals.classes.values(), key=lambda c: -c["pixels"])
    total = max(1, report.totals.pixels)
    return [f"{c['name']} {c['pixels'] / total:.0%}" for c in found[:SHOWN_CLASSES]]
