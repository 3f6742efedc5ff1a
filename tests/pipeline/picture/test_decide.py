"""The arithmetic of deciding, against the plainest way to write it down."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.picture.decide import decide, mask_dtype
from schemas.vocabulary import Vocabulary


def vocabulary(*classes: dict, distractors: tuple = (), **fields: object) -> Vocabulary:
    named = [{"name": f"class {each['id']}", **each} for each in classes]
    return Vocabulary(name="test", classes=named, distractors=distractors, **fields)


def undecided(winner: list, confidence: list, margin: list | None = None) -> SimpleNamespace:
    cells = np.array(confidence, np.uint8)
    return SimpleNamespace(
        winner=np.array(winner, np.int32),
        confidence=cells,
        margin=np.zeros_like(cells) if margin is None else np.array(margin, np.uint8),
    )


def random_picture(seed: int, codes: list[int], height: int, width: int, block: int = 1) -> SimpleNamespace:
    """Winners by chance, the same in every square of `block` pixels a side."""
    random = np.random.default_rng(seed)
    cells = (-(-height // 4), -(-width // 4))
    confidence = random.integers(0, 256, cells)
    margin = random.integers(0, confidence + 1)
    blocks = random.choice(codes, (-(-height // block), -(-width // block)))
    winner = blocks.repeat(block, axis=0)[:height].repeat(block, axis=1)[:, :width]
    return undecided(winner, confidence, margin)


def test_a_pixel_is_decided_by_its_own_winner_and_its_cell():
    # Two cells side by side; the left one is cut by the right one at column 4.
    picture = undecided([[3, 3, 3, 3, 3, 7]] * 2, [[200, 100]])
    words = vocabulary({"id": 3, "min_confidence": 0.5}, {"id": 7, "min_confidence": 0.3})
    np.testing.assert_array_equal(decide(picture, words).mask, [[3, 3, 3, 3, 255, 7]] * 2)


@pytest.mark.parametrize("level", [0, 1, 76, 77, 127, 128, 254, 255])
def test_a_level_passes_its_own_fraction_and_fails_the_next(level: int):
    just = vocabulary({"id": 0, "min_confidence": level / 255, "min_margin": level / 255})
    assert decide(undecided([[0]], [[level]], [[level]]), just).mask == 0
    for field in ("min_confidence", "min_margin"):
        above = vocabulary({"id": 0, field: min(1.0, float(np.nextafter(level / 255, 2)))})
        assert decide(undecided([[0]], [[level]], [[level]]), above).mask == (255 if level < 255 else 0)


def test_margin_alone_can_ignore_a_pixel():
    words = vocabulary({"id": 0, "min_margin": 0.2})
    picture = undecided([[0] * 8], [[255, 255]], [[50, 51]])
    np.testing.assert_array_equal(decide(picture, words).mask, [[255] * 4 + [0] * 4])


def test_distractors_are_ignored_or_become_a_class_under_its_thresholds():
    # Codes go by sorted prompts, not by place: "haze" is -1, "sky" -2, "wall" -3.
    words = vocabulary(
        {"id": 5, "min_confidence": 0.5},
        {"id": 0},
        distractors=({"prompts": ["wall"], "becomes": 0}, {"prompts": ["sky"], "becomes": 5}, {"prompts": ["haze"]}),
    )
    picture = undecided([[-1] * 4 + [-2] * 8 + [-3] * 4], [[255, 127, 128, 0]])
    np.testing.assert_array_equal(decide(picture, words).mask, [[255] * 8 + [5] * 4 + [0] * 4])


@pytest.mark.parametrize(
    ("fields", "ids", "dtype", "ignored"),
    [({}, [254], np.uint8, 255), ({}, [255], np.uint16, 65535), ({"ignore_id": 65535}, [1], np.uint16, 65535)],
)
def test_mask_has_16_bits_where_ids_need_them(fields: dict, ids: list, dtype: type, ignored: int):
    words = vocabulary(*({"id": each, "min_confidence": 0.5} for each in ids), **fields)
    mask = decide(undecided([[ids[0]] * 8], [[200, 10]]), words).mask
    assert mask.dtype == dtype == mask_dtype(words)
    np.testing.assert_array_equal(mask, [[ids[0]] * 4 + [ignored] * 4])


def test_numbers_of_a_class_count_its_pixels_in_the_mask():
    # The dog has 1 pixel of level 10, 4 of 20, 4 of 30 and 1 of 250, the cat 2 of 10; class 4 is ignored.
    words = vocabulary({"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 4, "min_confidence": 1.0})
    winner = [[2, 9, 4, 9] + [2] * 4 + [2] * 4 + [2, 4, 4, 4]]
    picture = undecided(winner, [[10, 20, 30, 250]], [[1, 2, 3, 250]])
    decision = decide(picture, words)
    np.testing.assert_array_equal(decision.mask, [[2, 9, 255, 9] + [2] * 4 + [2] * 5 + [255] * 3])
    dog, cat = decision.classes
    assert dog == {
        "class_id": 2,
        "name": "dog",
        "pixels": 10,
        "fraction": 10 / 16,
        "confidence_mean": float(Fraction(1 * 10 + 4 * 20 + 4 * 30 + 250, 10 * 255)),
        "confidence_p10": 10 / 255,
        "confidence_p50": 20 / 255,
        "confidence_p90": 30 / 255,
        "margin_mean": float(Fraction(1 * 1 + 4 * 2 + 4 * 3 + 250, 10 * 255)),
    }
    assert (cat["class_id"], cat["name"], cat["pixels"], cat["confidence_p90"]) == (9, "cat", 2, 10 / 255)
    assert decision.confidence_mean == float(Fraction(1 * 10 + 4 * 20 + 4 * 30 + 250 + 2 * 10, 12 * 255))
    assert decision.margin_mean == float(Fraction(1 + 4 * 2 + 4 * 3 + 250 + 2, 12 * 255))
    assert decision.ignored_fraction == 4 / 16


def test_picture_without_a_labelled_pixel_has_no_means():
    decision = decide(undecided([[1, 1]], [[10]]), vocabulary({"id": 1, "min_confidence": 0.9}))
    assert (decision.classes, decision.confidence_mean, decision.margin_mean) == ([], None, None)
    assert decision.ignored_fraction == 1.0


@pytest.mark.parametrize("block", [1, 4, 30])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (49, 50), (63, 61), (64, 128)])
def test_any_size_agrees_with_pixel_by_pixel(height: int, width: int, block: int):
    words = vocabulary(
        {"id": 0, "min_confidence": 0.4},
        {"id": 300, "min_margin": 0.3},
        distractors=({"prompts": ["sky"], "becomes": 300}, {"prompts": ["haze"]}),
    )
    picture = random_picture(height, [0, 300, -1, -2], height, width, block)
    decision = decide(picture, words)
    expected = np.full((height, width), 65535)
    levels: dict[int, list[int]] = {}
    for i in range(height):
        for j in range(width):
            code = picture.winner[i, j]
            confidence, margin = int(picture.confidence[i // 4, j // 4]), int(picture.margin[i // 4, j // 4])
            if code == 0 and confidence / 255 >= 0.4:
                expected[i, j] = 0
            if code in (300, -2) and margin / 255 >= 0.3:
                expected[i, j] = 300
            if expected[i, j] != 65535:
                levels.setdefault(int(expected[i, j]), []).append(confidence)
    np.testing.assert_array_equal(decision.mask, expected)
    found = {row["class_id"]: (row["pixels"], row["confidence_mean"]) for row in decision.classes}
    assert found == {each: (len(of), sum(of) / (255 * len(of))) for each, of in sorted(levels.items())}
    for row in decision.classes:
        # The definition of numpy's nearest-rank method, where a rank of 0 is the first.
        p10, p90 = np.percentile(levels[row["class_id"]], [10, 90], method="inverted_cdf")
        assert (row["confidence_p10"], row["confidence_p90"]) == (p10 / 255, p90 / 255)


@pytest.mark.parametrize("block", [1, 30])
def test_picture_of_many_bands_is_decided_as_its_parts_are(monkeypatch, block):
    words = vocabulary({"id": 0, "min_confidence": 0.4}, {"id": 1, "min_margin": 0.3})
    picture = random_picture(1, [0, 1], 61, 50, block)
    whole = decide(picture, words)
    monkeypatch.setattr("pipeline.picture.decide._BAND_PIXELS", 500)
    in_bands = decide(picture, words)
    np.testing.assert_array_equal(in_bands.mask, whole.mask)
    assert in_bands.classes == whole.classes
