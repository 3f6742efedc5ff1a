"""COCO panoptic annotations as ground truth: an export's own, the real ones, and what cannot be used."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation import evaluate
from pipeline.evaluation.summary import evaluation_lines
from schemas.errors import InputError
from schemas.vocabulary import Vocabulary
from tests.pipeline.labelled_output import Answer, write_output

WORDS = Vocabulary(name="words", classes=[{"id": 0, "name": "sky"}, {"id": 7, "name": "sea"}])


def write_panoptic(folder, **changes):
    """One picture of four pixels: sea, sea, a category without a class, and no segment."""
    (folder / "panoptic").mkdir(exist_ok=True)
    colors = np.array([[[1, 2, 3], [1, 2, 3], [9, 0, 0], [0, 0, 0]]], np.uint8)
    Image.fromarray(colors).save(folder / "panoptic" / "a.png")
    segments = [{"id": 1 + 256 * 2 + 65536 * 3, "category_id": 50}, {"id": 9, "category_id": 51}]
    document = {
        "images": [{"id": 5, "file_name": "a.jpg"}],
        "categories": [{"id": 50, "name": "Sea"}, {"id": 51, "name": "boat"}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        **changes,
    }
    (folder / "truth.json").write_text(json.dumps(document))
    return str(folder / "truth.json")


@pytest.fixture
def output(tmp_path) -> str:
    write_output(str(tmp_path / "out"), {"words": {"a.jpg": Answer(np.array([[7, 0, 0, 0]], np.int32))}}, [WORDS])
    return str(tmp_path / "out")


def test_segments_are_classes_by_the_names_of_their_categories(output, tmp_path):
    found = evaluate(output, write_panoptic(tmp_path), boundaries=True)
    assert (found.scores.n_pixels, found.scores.pixel_accuracy) == (2, 0.5)
    assert found.confusion == ((7, 0, 1), (7, 7, 1))
    data = found.as_json()
    assert data["confusion"][0] == {"truth": 7, "predicted": 0, "pixels": 1}
    assert data["boundary_f"] == data["per_class"][1]["boundary_f"] == 0.0
    lines = evaluation_lines(found)
    assert [line.split() for line in lines if "sky" in line] == [["sea", "sky", "50.0%"]]
    assert any("boundary F-score" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"categories": [{"id": 50, "name": "Meer"}]}, "none of its 1 categories (Meer, ...) has the name of a class"),
        ({"annotations": []}, "truth.json: has no annotations, expected COCO panoptic annotations"),
        ({"images": []}, "truth.json: is none (KeyError: 5), expected COCO panoptic annotations"),
        ({"categories": 3}, "truth.json: is none (TypeError"),
    ],
)
def test_files_that_are_none_are_named(output, tmp_path, changes, said):
    with pytest.raises(InputError) as caught:
        evaluate(output, write_panoptic(tmp_path, **changes))
    assert said in str(caught.value)


def test_a_mask_of_another_size_and_no_json_are_named(output, tmp_path):
    uri = write_panoptic(tmp_path)
    Image.new("RGB", (3, 2)).save(tmp_path / "panoptic" / "a.png")
    with pytest.raises(InputError, match=r"a.png: the mask is 3 x 2, but the picture's labels are 4 x 1"):
        evaluate(output, uri)
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(InputError, match=r"truth.json: is no JSON"):
        evaluate(output, uri)
    with pytest.raises(InputError, match=r"gone.json: not found"):
        evaluate(output, str(tmp_path / "gone.json"))
