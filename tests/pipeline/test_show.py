"""One picture as a drawing, pixel for pixel."""

import numpy as np
import pytest
from PIL import Image

from pipeline.show import show
from schemas.errors import InputError, OutputError
from tests.pipeline.labelled_output import Answer, write_output
from tests.pipeline.report.output import NASTY, WORDS, write_pictures

LAND, IGNORED, GRAY = [200, 120, 40], [0, 0, 0], [128, 128, 128]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("show"))


def drawn(output, path, image_id, **options):
    found = show(output, image_id, str(path), **options)
    return found, np.asarray(Image.open(path))


def test_picture_labels_and_blend_stand_side_by_side(output, tmp_path):
    found, pixels = drawn(output, tmp_path / "x.png", "a.png", opacity=0.25)
    assert (found.row.image_id, found.missing) == ("a.png", None)
    land = [pixels[5, 32 * k + 4].tolist() for k in range(3)]
    ignored = [pixels[5, 32 * k + 28].tolist() for k in range(3)]
    assert land == [GRAY, LAND, [146, 126, 106]]
    assert ignored == [GRAY, IGNORED, [96, 96, 96]]


@pytest.mark.parametrize(("view", "first"), [("blend", [172, 123, 76]), ("labels", LAND)])
def test_one_view_alone(output, tmp_path, view, first):
    _, pixels = drawn(output, tmp_path / "x.png", "a.png", view=view, opacity=0.6)
    assert pixels[5, 4].tolist() == pytest.approx(first, abs=1)
    assert (pixels[:24, 32] == 255).all()  # the legend follows at once


def test_the_legend_names_classes_in_their_colours(output, tmp_path):
    _, pixels = drawn(output, tmp_path / "x.png", "a.png", view="labels")
    assert pixels[12, 32 + 16].tolist() == LAND
    assert pixels[:20, 32 + 30 :].min() < 128  # its name
    assert pixels[32, 32 + 16].tolist() == IGNORED
    assert pixels[20:, 32 + 30 :].min() < 128  # "ignored", and how much


def test_a_picture_that_is_gone_is_drawn_by_its_labels(output, tmp_path):
    found, pixels = drawn(output, tmp_path / "x.png", "gone.png")
    assert found.missing.endswith("gone.png: no such file")
    assert pixels[5, 4].tolist() == [90, 200, 250]
    assert pixels.shape[1] < 200


def test_any_name_is_found(output, tmp_path):
    found, _ = drawn(output, tmp_path / "x.png", NASTY)
    assert found.row.image_id == NASTY


@pytest.mark.parametrize(
    ("image_id", "said"),
    [
        ("no.png", "has no picture 'no.png'; expected an image_id"),
        ("broken.png", "'broken.png' has no labels: decode/truncated: the end is missing"),
    ],
)
def test_what_has_no_labels_is_refused(output, tmp_path, image_id, said):
    with pytest.raises(InputError, match=said):
        show(output, image_id, str(tmp_path / "x.png"))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_not_labelled_yet_is_said(tmp_path):
    answers = {name: Answer(np.full((4, 4), 3, np.int32)) for name in "abcd"}
    write_output(str(tmp_path / "out"), {"words": answers}, [WORDS], shard_size=2, n_done=1)
    with pytest.raises(InputError, match="'d' is not labelled yet"):
        show(str(tmp_path / "out"), "d", str(tmp_path / "x.png"))


def test_a_drawing_replaces_nothing_unless_asked(output, tmp_path):
    (tmp_path / "x.png").write_text("mine")
    with pytest.raises(OutputError, match="already there"):
        show(output, "a.png", str(tmp_path / "x.png"))
    drawn(output, tmp_path / "x.png", "a.png", replace=True)


def test_a_large_picture_is_made_smaller(tmp_path):
    answer = Answer(np.full((100, 5000), 3, np.int32))
    write_output(str(tmp_path / "out"), {"words": {"a": answer}}, [WORDS])
    _, pixels = drawn(str(tmp_path / "out"), tmp_path / "x.png", "a", view="labels")
    assert pixels.shape[0] == 41
    assert 2048 < pixels.shape[1] < 2300
