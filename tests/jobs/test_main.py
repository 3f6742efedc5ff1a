"""The root of the command line: what `escnet --help` says, and commands that are none."""

import click
import pytest
from click.testing import CliRunner

from jobs.main import COMMANDS, cli, main
from schemas.errors import JobFailedError, StoppedError


def groups():
    """The words after `escnet` of it and of all groups below it."""
    context = click.Context(cli)
    return [[], *([name] for name in COMMANDS if isinstance(cli.get_command(context, name), click.Group))]


@pytest.mark.parametrize("words", groups(), ids=" ".join)
def test_help_says_what_each_command_does_in_one_line_of_80_columns(words):
    text = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output
    commands = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(commands) > 1
    assert [line for line in commands if "..." in line or line.startswith("   ") or not line.endswith(".")] == []


def all_commands():
    """The words after `escnet` of every command, those of groups too."""
    context = click.Context(cli)
    for words in groups():
        group = cli.get_command(context, words[0]) if words else cli
        yield from ([*words, name] for name in group.list_commands(context))


@pytest.mark.parametrize("words", list(all_commands()), ids=" ".join)
def test_help_is_plain_text_that_says_how_to_use_a_command(words):
    text = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output
    assert text.startswith(f"Usage: cli {' '.join(words)}")
    assert [line for line in text.splitlines() if not line.isprintable()] == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(StoppedError, 130, "stopped; 1 of 2\n"), (JobFailedError, 1, "Error: stopped; 1 of 2\n")],
)
def test_ctrl_c_is_told_as_no_error(monkeypatch, capsys, error, code, said):
    def stop(*_, **__):
        raise error("stopped; 1 of 2")

    monkeypatch.setattr(cli, "main", stop)
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (code, said)


def test_a_command_that_is_none_is_refused_with_the_nearest_one():
    found = CliRunner().invoke(cli, ["anotate", "photos/"])
    assert (found.exit_code, found.output.splitlines()[-1]) == (
        2,
        "Error: no command 'anotate'; did you mean 'annotate'?",
    )
