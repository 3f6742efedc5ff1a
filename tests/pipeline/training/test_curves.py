"""Curves as files: every line as it comes, exact to the last bit, cut back where a run goes on."""

import pytest
from PIL import Image

from pipeline.training.curves import Curves, read_curves
from schemas.errors import OutputError

LINES = [
    {"step": 20, "stage": "a, b", "learning_rate": 1e-4, "pictures_a_second": 3.5, "loss": 1 / 3, "alignment": 1 / 3},
    {"step": 40, "stage": "a, b", "learning_rate": 2e-4, "pictures_a_second": 3.4, "loss": 0.1, "alignment": 0.1},
    {"step": 40, "stage": "a, b", "miou": 0.25, "patch_accuracy": 2 / 3},
]  # fmt: skip


def test_lines_come_back_as_they_were_while_the_run_goes_on(tmp_path):
    curves = Curves(str(tmp_path), 0)
    for i, line in enumerate(LINES):
        curves.add(line)
        assert read_curves(str(tmp_path)) == LINES[: i + 1]
    assert (
        (tmp_path / "curves.csv")
        .read_text()
        .splitlines()[0]
        .startswith("step,stage,learning_rate,pictures_a_second,loss")
    )


def test_lines_after_the_step_from_which_a_run_goes_on_are_cut_off(tmp_path):
    curves = Curves(str(tmp_path), 0)
    for line in LINES:
        curves.add(line)
    Curves(str(tmp_path), 39)
    assert read_curves(str(tmp_path)) == LINES[:1]


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path):
    curves = Curves(str(tmp_path), 0)
    curves.add(LINES[0])
    with open(tmp_path / "curves.csv", "a") as file:
        file.write("40,a")
    assert read_curves(str(tmp_path)) == LINES[:1]
    Curves(str(tmp_path), 1000).add(LINES[1])
    assert read_curves(str(tmp_path)) == LINES[:2]


def test_a_measurement_draws_the_curves(tmp_path):
    curves = Curves(str(tmp_path), 0)
    curves.add(LINES[0])
    assert not (tmp_path / "curves.png").exists()
    curves.add(LINES[2])
    with Image.open(tmp_path / "curves.png") as drawing:
        assert drawing.size == (1320, 495)


def test_a_run_without_validation_has_the_losses_alone(tmp_path):
    curves = Curves(str(tmp_path), 0)
    for line in LINES[:2]:
        curves.add(line)
    curves.draw()
    with Image.open(tmp_path / "curves.png") as drawing:
        assert drawing.size == (660, 495)


def test_curves_that_cannot_be_written_or_read_are_one_line(tmp_path):
    curves = Curves(str(tmp_path), 0)
    (tmp_path / "curves.png").mkdir()
    with pytest.raises(OutputError, match=r"^.*: is a folder, expected a file$"):
        curves.draw()
    (tmp_path / "curves.csv").unlink()
    (tmp_path / "curves.csv").mkdir()
    for use in (lambda: curves.add(LINES[0]), lambda: Curves(str(tmp_path), 0), lambda: read_curves(str(tmp_path))):
        with pytest.raises(OutputError, match=r"^.*curves\.csv: .*$"):
            use()
