"""What a verification says on a terminal."""

from collections.abc import Iterator
from itertools import islice

from pipeline.output.verify import VerifyReport
from schemas.quantities import counted

SHOWN = 50
GO_ON = "go on with the same `escnet annotate` command"


def verify_lines(report: VerifyReport) -> list[str]:
    """One line of result, then one a finding, the first 50 of them, then the notes."""
    lines = [f"{report.output}: {_result(report)}", f"  {_proven(report)}"]
    lines += [f"  {line}" for line in islice(_problem_lines(report), SHOWN)]
    more = report.n_findings + len(report.missing) - SHOWN
    if more > 0:
        lines.append(f"  and {more:,} more; all of them with --json FILE")
    if report.missing:
        lines.append(f"  The job is not finished: {GO_ON}.")
    return lines + [f"  note: {note}" for note in report.notes]


def _result(report: VerifyReport) -> str:
    if report.holds:
        return "all of it holds" if report.n_footers else "proven, every manifest row is in one row of one label file"
    parts = [counted(report.n_findings, "fault")] if report.n_findings else []
    if report.missing:
        parts.append(f"{len(report.missing):,} of {counted(report.n_planned_files, 'label file')} missing")
    return f"not proven, {' and '.join(parts)}"


def _proven(report: VerifyReport) -> str:
    full = (
        f"proven: {report.n_rows:,} of {counted(report.n_planned_rows, 'row')} "
        f"in {counted(report.n_files, 'label file')}, {counted(report.n_bytes, 'byte')}"
    )
    if report.n_footers:
        full += f"; of {counted(report.n_footers, 'more file')} name and footer alone were looked at"
    return full


def _problem_lines(report: VerifyReport) -> Iterator[str]:
    for finding in report.findings:
        yield finding.line
    for name in report.missing:
        yield f"{name}: found no file, not proven; {GO_ON}"
