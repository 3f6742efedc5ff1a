"""`escnet job submit`: what to send to a cluster, and the wait for its end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from jobs.annotate import annotate, options_in
from jobs.options import dashboard
from jobs.train import train
from schemas.errors import EXIT_DONE, EXIT_TOO_MANY_FAILED, EscnetError, InputError, StoppedError

if TYPE_CHECKING:
    from pipeline.cluster.submission import Submission


def _job_file(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    if path is not None:
        ctx.default_map = {name: value for name, value in options_in(path, ctx).items() if name != "address"}


class _Submit(click.Command):
    """`submit`: takes a lone YAML file for the job file, and with `--train` the arguments of `escnet train`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if "--train" in args:
            rest = [word for word in args if word != "--train"]
            return submit_training.make_context(info_name, rest, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        sources = self.make_parser(ctx).parse_args(list(args))[0].get("sources")
        if isinstance(sources, tuple) and len(sources) == 1 and str(sources[0]).lower().endswith((".yaml", ".yml")):
            position = args.index(sources[0])
            args = [*args[:position], "--job", *args[position:]]
        return super().parse_args(ctx, args)


_SENDING = (
    dashboard(required=True),
    click.option(
        "--code",
        type=click.Choice(["send", "cluster"]),
        default="send",
        show_default=True,
        help="This machine's escnet, which is sent along; or the one that is installed on the cluster.",
    ),
    click.option("--wait", is_flag=True, help="Follow the job to its end, and exit as it does."),
)


def _sending(command: Callable) -> Callable:
    for option in reversed(_SENDING):
        command = option(command)
    return command


@click.command(
    cls=_Submit,
    short_help="Send a labelling job, or one of training.",
    params=[each for each in annotate.params if each.name not in ("address", "job")],
)
@_sending
@click.option("--job", metavar="FILE", is_eager=True, expose_value=False, callback=_job_file, help="The job file.")
@click.option("--train", is_flag=True, help="The argument is a recipe; further options are those of `escnet train`.")
def submit(dashboard: str, code: Any, wait: bool, train: bool, **asked: Any) -> int:  # noqa: ARG001 (see _Submit)
    """Send a labelling job: a job file JOB.yaml, or what `escnet annotate` takes.

    An output that is complete is said to be, and nothing is sent; for pictures that came since, see --update. The same
    submission again goes on after a stop.
    Vocabulary files are sent along; pictures, model and output must be in object storage, or on a disk that all nodes
    share.
    """
    from pipeline.annotation.job_files import make_request
    from pipeline.cluster.client import dashboard_address
    from pipeline.cluster.submission import labelling

    address = dashboard_address(dashboard)
    request = make_request(asked)
    submission = labelling(request)
    done = _what_is_done(request)
    if done is None:
        return _send(submission, address, code, wait)
    n_failed = sum(done.totals.failed.values())
    failed = f", {n_failed:,} failed" if n_failed else ""
    click.echo(
        f"{done.output}: complete, {done.totals.labelled:,} of {done.n_pictures:,} pictures are labelled{failed}"
    )
    click.echo("Nothing submitted. Whether the sources hold other pictures by now was not looked at.")
    is_fine = n_failed <= request.max_failed * max(1, done.n_pictures)
    return EXIT_DONE if is_fine else EXIT_TOO_MANY_FAILED


@click.command("submit", params=[each for each in train.params if each.name != "address"])
@_sending
def submit_training(dashboard: str, code: Any, wait: bool, config: str, output: str | None, **options: Any) -> int:
    """Send a training run: the recipe CONFIG, and what else `escnet train` takes."""
    from pipeline.cluster.client import dashboard_address
    from pipeline.cluster.submission import training
    from pipeline.storage import StorageOptions
    from pipeline.training.config_file import read_config

    address = dashboard_address(dashboard)
    reached = StorageOptions(options["endpoint_url"], options["profile"])
    recipe = read_config(config, options.pop("overrides"), reached)
    submission = training(recipe, output or f"runs/{recipe.name}", _as_arguments(options), reached)
    return _send(submission, address, code, wait)


def _as_arguments(options: dict[str, Any]) -> list[str]:
    """Options of one value, and flags, as they would be typed."""
    words = []
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return words


def _what_is_done(request: Any) -> Any:
    """How a complete output stands; None if there is something to do, or it cannot be looked at from here."""
    from pipeline.cluster.submission import complete

    try:
        return complete(request)
    except InputError:
        raise
    except EscnetError as error:
        click.echo(f"The output cannot be looked at from here: {error}", err=True)
        return None


def _send(submission: "Submission", address: str, code: Any, wait: bool) -> int:
    from pipeline.cluster.submission import submit as send

    if submission.local:
        places = ", ".join(submission.local)
        click.echo(f"On a disk, which every node of the cluster must share with this machine: {places}", err=True)
    sent = send(submission, address, code)
    click.echo(f"Submitted {sent.submission_id} to {address}, output {sent.output}")
    if wait:
        return follow(sent.submission_id, address, sends_exit_code=True)
    for verb, option in (("status", ""), ("logs", " --follow"), ("stop", "")):
        click.echo(f"  escnet job {verb} {sent.submission_id}{option}")
    return EXIT_DONE


def follow(submission_id: str, address: str, *, sends_exit_code: bool) -> int:
    """What the job says, to its end."""
    from pipeline.cluster.client import connect
    from pipeline.cluster.watching import follow as follow_job

    try:
        ended = follow_job(connect(address), address, submission_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt as stop:
        raise StoppedError(f"{submission_id} goes on without being watched; `escnet job stop` stops it") from stop
    click.echo(f"{submission_id}: {ended.status}")
    if not sends_exit_code:
        return EXIT_DONE
    if ended.status == "FAILED" and ended.exit_code is None:
        click.echo(f"Error: {ended.message}", err=True)
    return ended.command_exit_code
