"""What a merge says on a terminal."""

from collections.abc import Sequence

from pipeline.corrections import Change, MergeReport
from schemas.errors import one_line
from schemas.quantities import counted, few, time_text


def merge_lines(report: MergeReport) -> list[str]:
    """How many masks came back, which of them say something else than the labels, and what was done with these."""
    n_differ = len(report.stored) + len(report.passed_over)
    lines = [f"{counted(report.n_masks, 'corrected mask')} read, {n_differ:,} of them differ from the labels"]
    if first := [each for each in report.stored if each.time is None]:
        lines.append(f"  {len(first):,} stored: {_named(first)}")
    if replaced := [each for each in report.stored if each.time is not None]:
        lines.append(f"  {len(replaced):,} stored in place of an earlier correction: {_named(replaced)}")
    if over := report.passed_over:
        which = "which shows its picture as it was" if len(over) == 1 else "which show their pictures as they were"
        lines.append(f"  {len(over):,} passed over, {which} before a correction: {_named(over)}")
        lines.append(f"    --revert stores {'it' if len(over) == 1 else 'them'} as well, which undoes the correction")
    return [*map(one_line, lines), *(f"Wrote {file}" for file in report.files)]


def _named(changes: Sequence[Change]) -> str:
    return few([each.image_id + _whose(each) for each in changes])


def _whose(change: Change) -> str:
    return "" if change.time is None else f" ({change.author}'s of {time_text(change.time)})"
