"""`escnet`: the root of the command line. Command modules are imported when they are called for."""

import importlib
import sys

import click

from schemas.errors import EXIT_INTERRUPTED, EXIT_OTHER, EscnetError, StoppedError, one_line
from schemas.spelling import did_you_mean

COMMANDS = (
    "annotate", "bench", "compare", "dataset", "demo-world", "evaluate", "export", "job", "manifest", "merge",
    "model", "plan", "relabel", "report", "retry", "select", "show", "status", "train", "verify", "vocabulary",
)  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands live in `jobs/<name>.py` under the same name, with `_` for `-`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        return getattr(importlib.import_module(f"jobs.{name}"), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="escnet-pipeline", prog_name="escnet")
@click.option("--debug", is_flag=True, help="Show the traceback of an error. May stand anywhere on the line.")
def cli(debug: bool) -> None:
    """Dense labels for pictures by the million, in your own words.

    \b
    Label a folder:   escnet annotate photos/ --vocabulary ade20k-150 --model MODEL --output labels/
    See the words:    escnet vocabulary list
    See the models:   escnet model list
    """


def main() -> None:
    """Run a command; print every expected error as one line and exit with its code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        result = cli.main([a for a in arguments if a != "--debug"], prog_name="escnet", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        sys.exit(EXIT_OTHER)
    except EscnetError as error:
        if debug:
            raise
        click.echo(str(error) if isinstance(error, StoppedError) else f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = one_line(str(error))[:500]
        click.echo(f"Error: unexpected {type(error).__name__}: {line} (add --debug for the traceback)", err=True)
        sys.exit(EXIT_OTHER)
    sys.exit(result if isinstance(result, int) else 0)
