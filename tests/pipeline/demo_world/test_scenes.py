"""Scenes: the mask says exactly what is seen, and every word of a name can be seen."""

import numpy as np
import pytest

from pipeline.demo_world import scenes
from pipeline.demo_world.materials import render_material
from pipeline.demo_world.names import COLOURS, MATERIALS, OBJECTS, SHAPES, ObjectName, class_id
from pipeline.demo_world.scenes import draw_crop, draw_scene, draw_scene_of
from pipeline.demo_world.shapes import hole, outline

OBJECT_IDS = range(len(MATERIALS), len(MATERIALS) + len(OBJECTS))


def random(*numbers):
    return np.random.default_rng(numbers)


@pytest.fixture
def placed(monkeypatch):
    """What the scenes place, in their order; those that found no place are left out."""
    found = []
    place = scenes._place

    def spy(*arguments):
        result = place(*arguments)
        found.extend([] if result is None else [result])
        return result

    monkeypatch.setattr(scenes, "_place", spy)
    return found


@pytest.mark.parametrize("draw", [draw_scene, draw_crop])
def test_a_scene_is_made_by_its_random_generator_alone(draw):
    first, again, other = (draw(random(3, k), OBJECTS, 64) for k in (0, 0, 1))
    assert first.picture.tobytes() == again.picture.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.picture.tobytes() != other.picture.tobytes()


@pytest.mark.parametrize("side_px", [64, 97, 256])
def test_a_scene_has_the_size_asked_for_and_no_other_ids_than_materials_and_objects_given(side_px):
    objects = [OBJECTS[5], OBJECTS[77]]
    for number in range(8):
        scene = draw_scene(random(number), objects, side_px)
        assert (scene.picture.shape, scene.picture.dtype) == ((side_px, side_px, 3), np.uint8)
        assert (scene.mask.shape, scene.mask.dtype) == ((side_px, side_px), np.uint16)
        ids = set(np.unique(scene.mask))
        assert ids - set(range(len(MATERIALS))) <= {class_id(each) for each in objects}
        assert 1 <= len(ids & set(range(len(MATERIALS)))) <= 3


def test_the_objects_asked_for_are_those_in_the_scene(placed):
    names = [OBJECTS[0], OBJECTS[300]]
    scene = draw_scene_of(random(1), names, 128)
    assert [each.name for each in placed] == names
    assert {class_id(each) for each in names} <= set(np.unique(scene.mask))


def test_a_crop_shows_one_object_large_on_one_material():
    for number in range(20):
        scene = draw_crop(random(number), OBJECTS, 96)
        ids, counts = np.unique(scene.mask, return_counts=True)
        assert [each in OBJECT_IDS for each in ids] == [False, True]
        assert counts[1] > 0.04 * scene.mask.size


def test_no_object_is_hidden_by_more_than_three_tenths(placed):
    covered = []
    for number in range(120):
        placed.clear()
        draw_scene_of(random(11, number), OBJECTS[number : number + 5], 96)
        owner = np.full((96, 96), -1)
        for k, each in enumerate(placed):
            owner[scenes._window(each)][each.coverage >= 0.5] = k
        covered += [1 - (owner == k).sum() / (each.coverage >= 0.5).sum() for k, each in enumerate(placed)]
    assert len(covered) > 500  # nearly all find a place
    assert max(covered) <= 0.3
    assert np.mean(np.array(covered) > 0) > 0.2  # and many do lie over another


def test_the_edge_of_the_mask_is_where_half_a_pixel_is_covered_and_the_picture_is_mixed_there(placed, monkeypatch):
    monkeypatch.setattr(scenes, "_shadow", lambda *_: None)
    monkeypatch.setattr(scenes, "_photograph", lambda _, picture: picture)
    for number, shape in enumerate(SHAPES):
        name = ObjectName("red", "dotted", shape)
        ground = np.full((96, 96, 3), 100, np.float32), np.full((96, 96), 3, np.uint16)
        placed.clear()
        scene = scenes._compose(random(number), ground, [name], (0.6, 0.8), 96)
        (only,) = placed
        coverage, rgb = np.zeros((96, 96), np.float32), np.zeros((96, 96, 3), np.float32)
        coverage[scenes._window(only)], rgb[scenes._window(only)] = only.coverage, only.rgb
        np.testing.assert_array_equal(scene.mask, np.where(coverage >= 0.5, class_id(name), 3))
        share = coverage[..., None]
        np.testing.assert_allclose(scene.picture, 100 * (1 - share) + rgb * share, atol=1e-3)
        assert ((coverage > 0.1) & (coverage < 0.9)).sum() > 20  # soft edges


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_covers_the_area_of_its_outline(shape):
    size = np.array([130, 120])
    _, coverage = scenes._paint(random(0), ObjectName("red", "solid", shape), np.diag([50, 50, 1]), size / 2, size)
    inner = hole(shape)
    area = shoelace(outline(shape)) - (0 if inner is None else shoelace(inner))
    assert coverage.shape == (120, 130)
    assert coverage.sum() == pytest.approx(area * 50**2, rel=0.02)


def shoelace(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_materials_meet_where_the_mask_says(monkeypatch):
    tones = iter((0, 255) * 20)
    monkeypatch.setattr(
        scenes, "render_material", lambda _, __, side_px: np.full((side_px, side_px, 3), next(tones), np.float32)
    )
    n_soft = 0
    for number in range(10):
        picture, mask = scenes._background(random(number), 96, 2)
        is_second = picture[..., 0] >= 127.5
        assert len(set(mask[is_second])) <= 1  # none where the second lies beside the picture
        assert len(set(mask[~is_second])) == 1
        assert set(mask[is_second]).isdisjoint(mask[~is_second])
        n_soft += ((picture > 0) & (picture < 255)).sum()
    assert n_soft > 300


def test_the_colour_of_an_object_is_the_nearest_of_all_colours():
    """Of solid ones, in the finished picture; dim white light makes a yellow orange now and then."""
    known = np.array([scenes._RGB[colour] for colour in COLOURS])
    is_right = []
    for number in range(120):
        place = number % len(COLOURS)
        name = ObjectName(COLOURS[place], "solid", SHAPES[number % len(SHAPES)])
        scene = draw_crop(random(number), [name], 64)
        seen = np.median(scene.picture[scene.mask == class_id(name)], axis=0)
        is_right.append(((known - seen) ** 2).sum(axis=1).argmin() == place)
    assert np.mean(is_right) >= 0.95


@pytest.mark.parametrize("pattern", ["striped", "dotted", "checkered"])
def test_a_pattern_shows_two_tones_and_solid_shows_one(pattern, monkeypatch):
    monkeypatch.setattr(scenes, "_photograph", lambda _, picture: picture)

    def spread(name, number):
        scene = draw_crop(random(number), [name], 96)
        return scene.picture[scene.mask == class_id(name)].std(axis=0).max()

    for number, colour in enumerate(COLOURS):
        patterned = spread(ObjectName(colour, pattern, "square"), number)
        assert patterned > 2 * spread(ObjectName(colour, "solid", "square"), number)
        assert patterned > 25


def test_every_material_looks_like_itself_and_like_no_other():
    """By mean colour and how much neighbours differ across and down, each is nearest to others of its name."""

    def look(material, number):
        texture = np.clip(render_material(material, random(number, 7), 96), 0, 255)
        gray = texture.mean(axis=2)
        steps = (3 * np.abs(np.diff(gray, axis=axis)).mean() for axis in (0, 1))
        return np.array([*texture.mean(axis=(0, 1)), *steps, gray.std()])

    means = np.stack([np.mean([look(each, number) for number in range(4)], axis=0) for each in MATERIALS])
    for place, material in enumerate(MATERIALS):
        for number in (4, 5):
            assert np.abs(means - look(material, number)).sum(axis=1).argmin() == place


def test_a_picture_is_not_dark_or_flat():
    for number in range(12):
        picture = draw_scene(random(number), OBJECTS, 64).picture
        assert 40 < picture.mean() < 225
        assert picture.std() > 20


def test_noise_turns_no_white_black_and_no_black_white():
    for number in range(10):
        white, black = (np.full((32, 32, 3), value, np.float32) for value in (255, 0))
        assert scenes._photograph(random(number), white).min() > 100
        assert scenes._photograph(random(number), black).max() < 50
