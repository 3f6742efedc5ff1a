"""What an export says on a terminal."""

from pipeline.export import ExportReport


def export_lines(report: ExportReport) -> list[str]:
    """How many pictures are in it, and what is not."""
    lines = [f"{_pictures(report.n_exported)} exported as {report.format}: {report.output}"]
    if report.n_failed:
        lines.append(f"{_pictures(report.n_failed)} left out: labelling failed")
    if report.n_without_picture:
        lines.append(f"{_pictures(report.n_without_picture)} left out: the picture itself could not be read again")
        lines += [f"  {line}" for line in report.lost]
    if report.n_waiting:
        lines.append(f"{_pictures(report.n_waiting)} of the job not labelled yet; export into a new folder later")
    return [*lines, *(f"Note: {note}" for note in report.notes)]


def _pictures(n: int) -> str:
    return f"{n:,} picture{'' if n == 1 else 's'}"
