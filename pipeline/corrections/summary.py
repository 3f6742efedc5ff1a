"""What a merge says on a terminal."""

from pipeline.corrections import MergeReport
from schemas.quantities import counted


def merge_lines(report: MergeReport) -> list[str]:
    """How many masks came back, and how many of them say something else than the labels."""
    lines = [f"{counted(report.n_masks, 'corrected mask')} read, {report.n_changed:,} of them differ from the labels"]
    return [*lines, *(f"Wrote {file}" for file in report.files)]
