"""`escnet demo-world`: what is printed, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.main import cli
from schemas.errors import InputError, OutputError
from tests.e2e.command import escnet


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(cli, ["demo-world", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def contents(output: Path) -> dict[str, bytes]:
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}


def test_it_says_what_was_written_and_what_to_do_next(tmp_path):
    world = f"{tmp_path}/my world"
    printed = run("--n", 1, "--seed", 1, "--size", 64, "--output", world).stdout
    assert printed.splitlines() == [
        f"{world}: 1 scene of 64 x 64 px",
        "  classes: 48, of them 18 held out",
        "  drawn:   3, of them 2 held out",
        f"  label:   escnet annotate '{world}/manifest.parquet' --vocabulary '{world}/vocabulary.yaml' "
        "--model escnet-nano --output LABELS",
        f"  measure: escnet evaluate LABELS --ground-truth '{world}/manifest.parquet'",
    ]


def test_every_option_has_its_effect(tmp_path):
    options = ("--n", 2, "--seed", 0, "--size", 96, "--n-objects", 4)
    lines = run(*options, "--output", tmp_path / "a").stdout.splitlines()
    assert lines[:2] == [f"{tmp_path}/a: 2 scenes of 96 x 96 px", "  classes: 16, of them 2 held out"]
    lines = run(*options, "--all-names", "--synonyms", "--output", tmp_path / "b").stdout.splitlines()
    assert lines[1] == "  classes: 492, of them 84 held out"
    assert "prompts: [grass, lawn]" in (tmp_path / "b/vocabulary.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--n", 0, "--seed", 1), "Invalid value for '--n': 0 is not in the range 1<=x<=100000."),
        (("--n", 1, "--seed", -1), "Invalid value for '--seed': -1 is not in the range x>=0."),
        (("--n", 1, "--seed", 1, "--size", 63), "Invalid value for '--size': 63 is not in the range 64<=x<=2048."),
        (("--seed", 1), "Missing option '--n'."),
        (("--n", 1), "Missing option '--seed'."),
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(tmp_path, options, problem):
    assert problem in run(*options, "--output", tmp_path / "out", code=2).stderr
    assert not (tmp_path / "out").exists()


def test_an_odd_number_of_objects_and_a_taken_folder_are_errors_of_the_user(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an even number"):
        run("--n", 1, "--seed", 1, "--n-objects", 3, "--output", tmp_path / "out")
    with pytest.raises(OutputError, match="is not empty"):
        run("--n", 1, "--seed", 1, "--output", tmp_path)


def test_other_processes_write_the_same_bytes(tmp_path):
    arguments = ("--n", 2, "--seed", 3, "--size", 64, "--output")
    run(*arguments, tmp_path / "a")
    escnet("demo-world", *arguments, tmp_path / "b", env={"PYTHONHASHSEED": "7"})
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    done = escnet("demo-world", *arguments, tmp_path / "b", code=2)
    assert done.stderr.startswith(f"Error: {tmp_path}/b: is not empty (images,")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['escnet', 'demo-world', '--help']\n"
        "from jobs.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print('LOADED', sorted({'torch', 'ray', 'pyarrow', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("Usage: escnet demo-world")
    assert done.stdout.splitlines()[-1] == "LOADED []"
