"""`escnet job`: jobs on a Ray cluster, by Ray's job submission."""

import time
from typing import TYPE_CHECKING, Any

import click

from jobs.job_submit import follow as follow_job
from jobs.job_submit import submit
from jobs.options import dashboard as dashboard_option
from jobs.options import storage
from schemas.errors import EscnetError, InputError

if TYPE_CHECKING:
    from pipeline.cluster.watching import SeenJob

EPILOG = """\b
Examples:
  Send the job of a file, and come back when it is done:
    escnet job submit --address http://HEAD:8265 job.yaml --wait
  The options of `escnet annotate` instead of a file, or beside it:
    escnet job submit --address http://HEAD:8265 s3://bucket/photos/ --vocabulary words.yaml \\
        --model s3://bucket/my.safetensors --output s3://bucket/labels/ --actors 100
  Train; further options are those of `escnet train`:
    escnet job submit --address http://HEAD:8265 --train recipe.yaml --output /shared/runs/mine --workers 8
  Which jobs there are, how far one is, what it says:
    escnet job list --address http://HEAD:8265
    escnet job status escnet-words-20260131-abcd
    escnet job logs escnet-words-20260131-abcd --follow
  Stop it; submitted again it goes on:
    escnet job stop escnet-words-20260131-abcd

A job writes where it was told to, so its progress can be seen when the cluster is gone. docs/cluster.md begins with no
cluster at all.
"""

_TIME = "%Y-%m-%d %H:%M:%S"


@click.group(epilog=EPILOG)
def job() -> None:
    """Send jobs to a Ray cluster, watch and stop them."""


job.add_command(submit)


@job.command("list", short_help="List the jobs that were submitted, the newest first.")
@dashboard_option(required=False)
def list_(dashboard: str | None) -> None:
    """The jobs of a cluster that were submitted so, the newest first, with Ray's word for how they stand."""
    from pipeline.cluster.client import connect
    from pipeline.cluster.watching import list_jobs
    from schemas.quantities import counted

    address = _known_address(dashboard, None)
    jobs, n_others = list_jobs(connect(address), address)
    width = max((len(each.submission_id) for each in jobs), default=0)
    for each in jobs:
        begun = "-" if each.started is None else time.strftime(_TIME, time.localtime(each.started))
        click.echo(f"{each.submission_id:{width}}  {each.status:9}  {begun:19}  {each.command:8}  {each.output}")
    others = f"; {n_others:,} others, not by `escnet job submit`" if n_others else ""
    click.echo(f"{counted(len(jobs), 'job')} on {address}{others}")


@job.command(short_help="Say how a job stands, and how far it is.")
@click.argument("submission_id", metavar="ID")
@dashboard_option(required=False)
@click.option("--output", metavar="URI", help="Where the job writes. [default: as it was submitted]")
@storage
def status(
    submission_id: str, dashboard: str | None, output: str | None, endpoint_url: str | None, profile: str | None
) -> None:
    """How a job stands: Ray's word for it, and how far it is from the files that it has written.

    Those tell when the cluster is gone, too. Submitted from another machine, such a job needs --output.
    """
    from pipeline.cluster.records import recall
    from pipeline.storage import StorageOptions

    known = recall(submission_id)
    seen = _seen(submission_id, dashboard, can_do_without=bool(output or known))
    place = output or (known.output if known else "") or (seen.output if seen else "")
    if known is not None:
        endpoint_url, profile = endpoint_url or known.endpoint_url, profile or known.profile
    command = seen.command if seen else known.command if known else "annotate"
    for line in _progress(command, place, StorageOptions(endpoint_url, profile)):
        click.echo(line)


@job.command()
@click.argument("submission_id", metavar="ID")
@dashboard_option(required=False)
@click.option("--follow", is_flag=True, help="Go on as the job does, to its end.")
def logs(submission_id: str, dashboard: str | None, follow: bool) -> None:
    """What a job has said."""
    from pipeline.cluster.client import connect
    from pipeline.cluster.watching import read_log

    address = _known_address(dashboard, submission_id)
    if follow:
        follow_job(submission_id, address, sends_exit_code=False)
    else:
        click.echo(read_log(connect(address), address, submission_id), nl=False)


@job.command()
@click.argument("submission_id", metavar="ID")
@dashboard_option(required=False)
def stop(submission_id: str, dashboard: str | None) -> None:
    """Stop a job as Ctrl-C would. What is done stays, and the same submission goes on with the rest."""
    from pipeline.cluster.client import connect
    from pipeline.cluster.watching import stop as stop_job

    address = _known_address(dashboard, submission_id)
    click.echo(f"{submission_id}: {stop_job(connect(address), address, submission_id).status}")


def _known_address(dashboard: str | None, submission_id: str | None) -> str:
    """What was given; else where the job was sent; else where the last one was."""
    from pipeline.cluster.client import dashboard_address
    from pipeline.cluster.records import newest_address, recall

    if dashboard is not None:
        return dashboard_address(dashboard)
    known = recall(submission_id) if submission_id else None
    address = known.address if known else newest_address()
    if address is None:
        raise InputError("no job was submitted from here; name the cluster's dashboard with --address http://HEAD:8265")
    return address


def _seen(submission_id: str, dashboard: str | None, *, can_do_without: bool) -> "SeenJob | None":
    """Say how the cluster sees a job. None if it cannot tell, and what the job wrote can."""
    from pipeline.cluster.client import connect
    from pipeline.cluster.watching import look_at

    try:
        address = _known_address(dashboard, submission_id)
        seen = look_at(connect(address), address, submission_id)
    except InputError as error:
        if not can_do_without:
            raise
        click.echo(f"{error}; what the job wrote:", err=True)
        return None
    code = "" if seen.exit_code is None else f", exit code {seen.exit_code}"
    click.echo(f"{submission_id}: {seen.status} on {address}{code}")
    return seen


def _progress(command: str, output: str, options: Any) -> list[str]:
    from pipeline.output.status import status as read_status
    from pipeline.output.status import status_lines

    if command == "train":
        from pipeline.training.curves import read_curves

        records = read_curves(output)
        return [f"{output}: step {records[-1]['step']:,}" if records else f"{output}: no step yet, as seen from here"]
    try:
        return status_lines(read_status(output, options))
    except EscnetError as error:
        return [f"{output}: nothing to be seen from here yet ({error})"]
