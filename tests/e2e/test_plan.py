"""`escnet plan`, and jobs that are held to what it found."""

import json

import pyarrow.dataset as ds
import pytest
import yaml
from PIL import Image

from tests.e2e.command import escnet


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A world with a picture that is none, and the plan of labelling it."""
    folder = tmp_path_factory.mktemp("plan")
    escnet("demo-world", "--n", 23, "--seed", 4, "--size", 96, "--output", folder / "world")
    (folder / "world/images/broken.png").write_bytes(b"no picture")
    files = ("--write", folder / "plan.yaml", "--sheet", folder / "sheet.png", "--json", folder / "plan.json")
    job = ("--vocabulary", folder / "world/vocabulary.yaml", "--model", "escnet-nano", "--actors", 1)
    return folder, escnet(
        "plan", folder / "world/images", *job, "--pilot", 16, "--price", 3, "--output", folder / "labels", *files
    )


def test_a_plan_says_what_a_job_takes_and_leaves_nothing_behind(planned):
    folder, done = planned
    found = json.loads((folder / "plan.json").read_text())
    expected = found["expected"]
    assert (expected["n_pictures"], expected["n_pilot"], found["n_shards"]) == (24, 16, 3)
    assert sum(expected["classes"].values()) == pytest.approx(1.0)
    rate = expected["pictures_per_s"]
    assert 0 < rate["low"] < rate["found"] < rate["high"]
    assert found["cost"]["found"] == pytest.approx(3 * 24 / rate["found"] / 3600)
    assert done.stdout.startswith("24 pictures (")
    assert "  pilot:    16 pictures, spread over all of them" in done.stdout
    assert Image.open(folder / "sheet.png").width > 1000
    assert f"{folder}/sheet.png: some of the pilot's pictures with their labels" in done.stdout
    assert not (folder / "labels").exists()


def test_a_plan_file_is_a_job_that_is_held_to_it(planned):
    folder, _ = planned
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["expected"]["classes"] = {"cheese": 1.0}
    (folder / "other.yaml").write_text(yaml.safe_dump(plan))
    stopped = escnet("annotate", "--job", folder / "other.yaml", "--strict", code=1)
    last = stopped.stderr.splitlines()[-1]
    assert "stopped by --strict: strayed from the plan after 8 pictures: other classes than planned: cheese 0%" in last
    assert len(list((folder / "labels/labels").glob("*.parquet"))) < 3

    done = escnet("annotate", "--job", folder / "other.yaml", code=3)  # one picture is none
    assert "other classes than planned: cheese 0% for 100%" in done.stderr
    assert ds.dataset(folder / "labels/labels").count_rows() == 24
    assert len(list((folder / "labels/labels").glob("*.parquet"))) == 3  # as planned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expected": "much"}, "expected: found 'much', expected what `escnet plan --write` writes there"),
        ({"expected": {"n_pictures": 3}}, "--expected"),
    ],
)
def test_a_plan_that_is_none_is_one_line(planned, tmp_path, change, said):
    folder, _ = planned
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**plan, **change}))
    lines = escnet("annotate", "--job", tmp_path / "plan.yaml", code=2).stderr.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_sheet_that_is_no_png_is_refused_before_the_pilot(planned):
    folder, _ = planned
    job = ("--vocabulary", folder / "world/vocabulary.yaml", "--model", "escnet-nano")
    done = escnet("plan", folder / "world/images", *job, "--sheet", folder / "sheet.jpg", code=2)
    assert done.stderr == f"Error: {folder}/sheet.jpg: a drawing is a PNG file; expected a name that ends in .png\n"
