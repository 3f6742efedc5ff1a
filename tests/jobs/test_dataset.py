"""`escnet dataset`: what is printed, and how it ends."""

import pytest
from click.testing import CliRunner

from jobs.main import cli
from pipeline.datasets.registry import DATASETS
from pipeline.vocabularies import bundled_names
from schemas.errors import InputError, SourceError
from tests.e2e.command import escnet
from tests.pipeline.datasets.dataset_files import ade, values


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["dataset", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_names_every_dataset_with_its_pictures_and_archives():
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *DATASETS]
    assert lines[2] == f"{'ade20k-150':<20}{'train 20,210, val 2,000':<42}ADEChallengeData2016.zip"


def test_every_bundled_vocabulary_is_a_dataset_s_and_the_other_way_round():
    assert sorted(DATASETS) == sorted(bundled_names())


def test_prepare_writes_and_says_what_it_came_to(tmp_path):
    ade(tmp_path / "ade", values(1, 0))
    printed = run(
        "prepare", "ade20k-150", tmp_path / "ade", "--output", tmp_path / "out", "--split", "val", "--workers", 1
    )
    assert printed.splitlines() == [
        "ade20k-150: 1 picture (val 1)",
        "  masks:    1 written",
        "  classes:  1 of 150 occur",
        "  ignored:  93.2% of 192 pixels",
        "  note:     val officially has 2,000 pictures",
        f"  manifest: {tmp_path}/out/manifest.parquet",
    ]


def test_without_a_split_train_and_val_are_prepared(tmp_path):
    ade(tmp_path / "ade", values(1, 0))
    with pytest.raises(SourceError, match="expected images/training or"):
        run("prepare", "ade20k-150", tmp_path / "ade", "--output", tmp_path / "out")


def test_an_unknown_name_is_an_error_of_the_user(tmp_path):
    with pytest.raises(InputError, match="did you mean 'pascal-voc-20'"):
        run("prepare", "pascal-voc20", tmp_path, "--output", tmp_path / "out")


def test_the_real_command_ends_with_2_and_one_line(tmp_path):
    done = escnet("dataset", "prepare", "ade20k-150", tmp_path / "ade", "--output", tmp_path / "out", code=2)
    assert done.stderr == (
        f"Error: {tmp_path}/ade: no such folder; name the folder that the archives were unpacked into\n"
    )
