"""The pages keep to what is there: links lead to files, commands shown exist, no module is left out."""

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

from jobs.main import cli
from schemas.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/photos/CREDITS.md"]
LAYERS = ("schemas", "escnet", "pipeline", "jobs")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_blocks(text: str) -> list[str]:
    """Fenced and indented blocks, without their marks."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*fenced, *re.findall(r"(?:^    .*\n)+", outside, re.MULTILINE)]


def shown_commands(text: str) -> list[str]:
    """Lines of code blocks that call `escnet`, with continued lines joined.

    Left out is what follows on the line: a comment, another program, a description behind two spaces.
    """
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(code_blocks(text))).splitlines()
    stripped = [re.split(r"\s[#>|]\s|\s{2,}", line.strip())[0] for line in lines]
    return [line for line in stripped if re.match(r"(\.venv/bin/)?escnet\s", line)]


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the words behind it."""
    command, rest = cli, words
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"no such command: escnet {' '.join(words)}"
        command, rest = found, rest[1:]
    return command, rest


def misfit(line: str) -> str | None:
    """What click has against a command line; None if it would run. `...` in it stands for what is left out."""
    command, rest = find_command(shlex.split(line.replace("...", ""))[1:])
    try:
        command.make_context("escnet", [word for word in rest if word != "--debug"])
    except click.exceptions.Exit:  # --help
        return None
    except click.MissingParameter as error:
        return None if "..." in line else error.format_message()
    except click.ClickException as error:
        return error.format_message()
    except InputError:  # a job file that only the page shows
        return None
    return None


def all_commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, f"{name} is listed, and is not there"
            yield from all_commands(found)


def help_text(command: click.Command) -> str:
    """Help and epilog, with the commands in them set as a code block."""
    text = inspect.cleandoc(command.help or "") + "\n" + (command.epilog or "")
    return f"```\n{text}\n```\n"


@by_page
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@by_page
def test_commands_exist_with_the_options_shown(page):
    wrong = {line: misfit(line) for line in shown_commands(page.read_text())}
    assert {line: problem for line, problem in wrong.items() if problem} == {}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("escnet annotate photos --vocabulary v --model m --output o", None),
        ("escnet annotate photos ... --actors 2", None),
        ("escnet annotate photos --model m --output o", "Missing option '--vocabulary'."),
        ("escnet annotate photos --vocabulary v --model m --output o --colour red", "No such option '--colour'"),
    ],
)
def test_a_wrong_command_would_be_found(line, problem):
    assert (misfit(line) or "").startswith(problem or "")
    assert bool(misfit(line)) == bool(problem)


def test_commands_in_help_texts_exist():
    lines = [line for command in all_commands(cli) for line in shown_commands(help_text(command))]
    assert len(lines) >= 10
    wrong = {line: misfit(line) for line in lines}
    assert {line: problem for line, problem in wrong.items() if problem} == {}


def test_the_readme_shows_commands():
    assert len(shown_commands((ROOT / "README.md").read_text())) >= 5


def test_make_commands_of_the_pages_are_targets():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        target
        for page in PAGES
        for block in code_blocks(page.read_text())
        for target in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)
    }
    assert {"demo", "test"} <= shown <= targets


def test_rays_launcher_takes_the_machines_of_the_page_on_clusters():
    from ray.autoscaler._private.util import prepare_config, validate_config

    shown = map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", CLUSTERS, re.MULTILINE | re.DOTALL))
    (machines,) = [config for config in shown if "cluster_name" in config]
    validate_config(prepare_config(machines))
    machines["available_node_types"]["gpu"]["max_machines"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_machines"):
        validate_config(prepare_config(machines))


CLUSTERS = (ROOT / "docs/cluster.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
FOLDERS = [*LAYERS, *re.findall(r"^\*\*(pipeline/\w+)/\*\*", ARCHITECTURE, re.MULTILINE)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_architecture_names_every_module_of_a_folder(folder):
    section = ARCHITECTURE.split(f"**{folder}/**")[1].split("\n\n**")[0]
    named = {*re.findall(r"^\| `(\w+\.py)` \|", section, re.MULTILINE), "__init__.py"}
    assert named == {path.name for path in (ROOT / folder).glob("*.py")}


def test_architecture_names_every_package_of_the_pipeline():
    section = ARCHITECTURE.split("**pipeline/**")[1].split("\n\n**")[0]
    named = set(re.findall(r"^\| `(\w+)/` \|", section, re.MULTILINE))
    assert named == {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
