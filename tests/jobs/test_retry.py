"""`escnet retry` on the command line: what it refuses."""

from click.testing import CliRunner

from jobs.retry import retry


def test_an_unknown_kind_is_refused_with_those_there_are():
    said = CliRunner().invoke(retry, ["labels/", "--only", "storage,killt"])
    assert said.exit_code == 2
    assert "'killt': expected not_found, forbidden, storage" in said.output


def test_help_shows_how():
    assert "escnet retry labels/ --only storage,forbidden" in CliRunner().invoke(retry, ["--help"]).output
