"""`escnet plan`: what a job will take, before it is begun."""

from typing import TYPE_CHECKING, Any

import click

from jobs.annotate import annotate
from schemas.errors import EXIT_DONE

if TYPE_CHECKING:
    from pipeline.estimate.pilot import Pilot

NO_OUTPUT = "-"  # a request needs one, and a plan writes nothing to it

EPILOG = """\b
Examples:
  How long a folder will take on this machine:
    escnet plan photos/ --vocabulary ade20k-150 --model my.safetensors
  A bucket on a cluster, what it will cost at 2.50 an hour and GPU, and a plan to hold the job to:
    escnet plan s3://bucket/photos/ --vocabulary words.yaml --model s3://bucket/my.safetensors --address auto \\
        --scratch s3://bucket/tmp/ --price 2.5 --output s3://bucket/labels/ --write plan.yaml --sheet plan.png
  Then the job itself:
    escnet annotate --job plan.yaml

All other options are those of `escnet annotate`. Nothing is written to --output.
"""

_NOT_FOR_PLANS = ("output", "update", "expected", "strict")
_OF_THE_JOB = [option for option in annotate.params if option.name not in _NOT_FOR_PLANS]


@click.command(
    short_help="Label a few pictures, and say what the whole job will take.", epilog=EPILOG, params=_OF_THE_JOB
)
@click.option(
    "--pilot", type=click.IntRange(min=8), default=64, show_default=True, help="Pictures to label for the estimate."
)
@click.option("--price", type=click.FloatRange(min=0), help="Of a GPU an hour, or of an actor where there are no GPUs.")
@click.option(
    "--scratch",
    metavar="URI",
    help="Where the pilot's labels go, below a folder of its own that is removed; a cluster needs one that all its "
    "nodes reach. [default: a temporary folder]",
)
@click.option("--output", metavar="URI", help="Of the job to come, for the plan file.")
@click.option("--write", "plan_file", metavar="FILE.yaml", help="Write a job file that holds the job to this plan.")
@click.option("--sheet", metavar="FILE.png", help="Draw some of the pilot's pictures with their labels.")
@click.option("--json", "json_file", metavar="FILE", help="Write the estimate as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def plan(
    pilot: int,
    price: float | None,
    scratch: str | None,
    output: str | None,
    plan_file: str | None,
    sheet: str | None,
    json_file: str | None,
    overwrite: bool,
    **asked: Any,
) -> int:
    """List each SOURCE, label a few of its pictures, and say what the whole job will take.

    Pictures a second, time, GPU-hours and cost, bytes to be written, failures, classes and the ignored share, each
    with the interval in which the true value lies with 95 percent confidence.
    """
    from pipeline.annotation.job_files import make_request
    from pipeline.drawing import check_png
    from pipeline.estimate.plan import plan_ahead
    from pipeline.estimate.plan_file import plan_yaml
    from pipeline.estimate.sheet import sheet_png
    from pipeline.estimate.summary import estimate_json, estimate_lines
    from pipeline.json_files import refuse_taken, write_data, write_json, write_text
    from pipeline.storage import StorageOptions

    request = make_request({**asked, "output": output or NO_OUTPUT})
    storage = StorageOptions(request.endpoint_url, request.profile)
    if sheet is not None:
        check_png(sheet)
    for file in (plan_file, sheet, json_file):
        if file is not None and not overwrite:
            refuse_taken(file, storage)

    def look(found: "Pilot") -> None:
        if sheet is not None:
            write_data(sheet_png(found), sheet, storage, replace=overwrite)

    estimate = plan_ahead(request, n_pilot=pilot, scratch=scratch, price=price, look=look)
    for line in estimate_lines(estimate):
        click.echo(line)
    if json_file is not None:
        write_json(estimate_json(estimate), json_file, storage, replace=overwrite)
    if sheet is not None:
        click.echo(f"{sheet}: some of the pilot's pictures with their labels")
    if plan_file is not None:
        write_text(plan_yaml(request, estimate.expectation), plan_file, storage, replace=overwrite)
        click.echo(f"{plan_file}: the job, and what to expect; escnet annotate --job {plan_file}")
    return EXIT_DONE
