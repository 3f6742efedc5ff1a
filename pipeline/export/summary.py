"""What an export says on a terminal."""

from pipeline.export import ExportReport
from schemas.quantities import counted


def export_lines(report: ExportReport) -> list[str]:
    """How many pictures are in it, and what is not."""
    lines = [f"{counted(report.n_exported, 'picture')} exported as {report.format}: {report.output}"]
    if report.n_failed:
        lines.append(f"{counted(report.n_failed, 'picture')} left out: labelling failed")
    if report.n_without_picture:
        lines.append(
            f"{counted(report.n_without_picture, 'picture')} left out: the picture itself could not be read again"
        )
        lines += [f"  {line}" for line in report.lost]
    if report.n_unknown:
        unknown = counted(report.n_unknown, "picture")
        lines.append(f"{unknown} of the manifest left out: not among these labels")
    if report.n_waiting:
        lines.append(
            f"{counted(report.n_waiting, 'picture')} of the job not labelled yet; export into a new folder later"
        )
    return [*lines, *(f"Note: {note}" for note in report.notes)]
