"""Broken, odd and hostile files through the real command: each is labelled or failed as their list says."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.command import annotate

SHOWN_TURNED = ("5", "6", "7", "8")  # EXIF orientations that swap width and height


@pytest.fixture(scope="module")
def expected(shared_data) -> dict[str, dict[str, str]]:
    """What the list beside the files says of each."""
    with open(shared_data / "hard" / "MANIFEST.csv", newline="") as file:
        return {line["file"]: line for line in csv.DictReader(file)}


@pytest.fixture(scope="module")
def found(shared_data, tmp_path_factory) -> dict[str, dict]:
    """The rows of one run over all of them."""
    output = tmp_path_factory.mktemp("hard")
    done = annotate(shared_data / "hard", "--output", output, "--actors", 1, code=3)
    assert "more than --max-failed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return {row["image_id"]: row for row in rows_of(output)}


def rows_of(output: Path) -> list[dict]:
    return [row for path in sorted(output.glob("labels/*.parquet")) for row in pq.read_table(path).to_pylist()]


def seen_size(line: dict[str, str]) -> tuple[int, int]:
    """(width, height) as the picture is meant to be seen."""
    width, height = map(int, line["size"].split("x"))
    return (height, width) if line["exif_orientation"] in SHOWN_TURNED else (width, height)


def test_every_file_is_one_row(expected, found):
    assert set(found) == set(expected)


def test_what_can_be_seen_is_labelled_in_its_size(expected, found):
    names = [name for name, line in expected.items() if line["should_decode"] == "yes"]
    rows = {name: found[name] for name in names}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(names, "labelled")
    assert {name: (row["width"], row["height"]) for name, row in rows.items()} == {
        name: seen_size(expected[name]) for name in names
    }
    assert {(row["error_stage"], row["error_kind"], row["error_message"]) for row in rows.values()} == {(None,) * 3}


def test_what_cannot_fails_in_the_stage_and_with_the_kind_it_should(expected, found):
    wrong = {}
    for name, line in expected.items():
        row = found[name]
        if line["should_decode"] == "yes":
            continue
        as_told = row["error_stage"] in line["error_stage"].split("|") and row["error_kind"] in line[
            "error_kind"
        ].split("|")
        empty = [row[column] for column in ("width", "height", "mask", "classes", "evidence")] == [None] * 5
        if row["status"] != "failed" or not as_told or not empty or not row["error_message"]:
            wrong[name] = row["status"], row["error_stage"], row["error_kind"], row["error_message"]
    assert wrong == {}
