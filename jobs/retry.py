"""`escnet retry`: failed pictures done again."""

from typing import Any, get_args

import click

from jobs.options import placement, storage
from schemas.errors import EXIT_DONE, EXIT_TOO_MANY_FAILED, ErrorKind

EPILOG = """\b
Examples:
  Storage was away for an hour, and credentials ran out:
    escnet retry labels/ --only storage,forbidden
  Pictures that took too long have more time now, on a cluster:
    escnet retry s3://bucket/labels/ --only timeout --timeout 3600 --address auto
  The job was made with a checkpoint of yours:
    escnet retry labels/ --only out_of_memory --model my.safetensors --actors 1

`escnet status OUTPUT` says what failed, and how often. Exit codes are those of `escnet annotate`.
"""


def _kinds(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    """`--only a,b --only c` as a set."""
    kinds = frozenset(kind.strip() for value in values for kind in value.split(","))
    unknown = sorted(kinds - set(get_args(ErrorKind)))
    if unknown:
        raise click.BadParameter(f"{', '.join(map(repr, unknown))}: expected {', '.join(get_args(ErrorKind))}")
    return kinds


@click.command(short_help="Label failed pictures again, and those alone.", epilog=EPILOG)
@click.argument("output")
@click.option(
    "--only",
    "kinds",
    multiple=True,
    required=True,
    callback=_kinds,
    metavar="KIND[,KIND]",
    help="Kinds of failure that are done again: what stands in the column `error_kind`.",
)
@click.option("--model", metavar="M", help="Where the job's model is. [default: the name that the job has for it]")
@placement
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds that one picture may take at each stage.",
)
@click.option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Fraction of all pictures that may still be failed before the exit code is 3.",
)
@storage
def retry(max_failed: float, **asked: Any) -> int:
    """Label pictures again that failed with certain kinds, and those alone.

    Everything else in OUTPUT stays as it is. Each shard's new label file takes the place of the old one whole, so a
    stop loses nothing. Model, vocabularies and options are those of the job.
    """
    from pipeline.annotation.retry import RetryRequest, retry_lines
    from pipeline.annotation.retry import retry as run_retry

    request = RetryRequest(**asked)
    report = run_retry(request)
    for line in retry_lines(report, request.kinds):
        click.echo(line)
    if report.failed_fraction > max_failed:
        share = f"{report.n_failed} of {report.totals.rows} pictures"
        click.echo(f"{share} are failed, more than --max-failed {max_failed:g} allows.", err=True)
        return EXIT_TOO_MANY_FAILED
    return EXIT_DONE
