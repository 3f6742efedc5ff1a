"""Scenes of the demo world: materials behind, objects in front, and the mask that says which is where.

A picture is what its random generator makes of it: same generator, same bytes (with one version of numpy and Pillow).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.demo_world.materials import Map, between, render_material, smooth_noise, tinted
from pipeline.demo_world.names import MATERIALS, ObjectName, class_id
from pipeline.demo_world.shapes import Polygon, hole, outline, pattern_polygons

SCENE_SIDE_PX = 256
_SUPERSAMPLING = 4  # a side, for the edges of objects
_MOST_COVERED = 0.3  # of an object by those in front of it
_TRIES = 20

_RGB = {
    "red": (204, 28, 30), "orange": (242, 124, 16), "yellow": (246, 220, 28), "green": (34, 150, 52),
    "cyan": (20, 196, 206), "blue": (30, 62, 200), "purple": (120, 36, 160), "pink": (248, 140, 186),
    "white": (242, 242, 240), "black": (24, 24, 26),
}  # fmt: skip
_LIGHTENED = frozenset({"red", "green", "blue", "purple", "black"})  # their second tone is lighter, others' is darker


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) uint8 RGB and its mask (H, W) uint16 of `names.class_id`s; every pixel has one."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint16]


@dataclass(frozen=True)
class _Placed:
    """One object as it lies in the picture: its box (left, top), colours (h, w, 3) and coverage (h, w) in 0..1."""

    name: ObjectName
    corner: tuple[int, int]
    rgb: Map
    coverage: Map


def draw_scene(rng: np.random.Generator, objects: Sequence[ObjectName], side_px: int = SCENE_SIDE_PX) -> Scene:
    """One to three materials with two to five of `objects` on them, each a quarter to half of the side large."""
    n_objects = int(rng.integers(2, 6))
    return draw_scene_of(rng, [objects[i] for i in rng.integers(0, len(objects), n_objects)], side_px)


def draw_scene_of(rng: np.random.Generator, names: Sequence[ObjectName], side_px: int = SCENE_SIDE_PX) -> Scene:
    """One to three materials with these objects on them, as far as each finds a place where it hides no other."""
    return _compose(rng, _background(rng, side_px, int(rng.integers(1, 4))), names, (0.3, 0.55), side_px)


def draw_crop(rng: np.random.Generator, objects: Sequence[ObjectName], side_px: int) -> Scene:
    """One of `objects` on one material, filling most of a small picture: what a beginner learns from."""
    names = [objects[int(rng.integers(0, len(objects)))]]
    return _compose(rng, _background(rng, side_px, 1), names, (0.62, 1.0), side_px)


def _compose(
    rng: np.random.Generator,
    background: tuple[Map, NDArray[np.uint16]],
    names: Sequence[ObjectName],
    sizes: tuple[float, float],
    side_px: int,
) -> Scene:
    picture, mask = background
    owner = np.full(mask.shape, -1, np.int32)  # which object is seen
    areas: list[int] = []
    for name in names:
        placed = _place(rng, name, sizes, side_px, owner, areas)
        if placed is None:
            continue
        window = _window(placed)
        solid = placed.coverage >= 0.5
        _shadow(rng, picture, placed)
        alpha = placed.coverage[..., None]
        picture[window] = picture[window] * (1 - alpha) + placed.rgb * alpha
        mask[window][solid] = class_id(name)
        owner[window][solid] = len(areas)
        areas.append(int(solid.sum()))
    return Scene(_photograph(rng, picture), mask)


def _background(rng: np.random.Generator, side_px: int, n_materials: int) -> tuple[Map, NDArray[np.uint16]]:
    """Materials divided by wavering lines: picture (H, W, 3) 0..255 and mask (H, W)."""
    first, *others = rng.choice(len(MATERIALS), n_materials, replace=False)
    picture = render_material(MATERIALS[first], rng, side_px)
    mask = np.full((side_px, side_px), class_id(MATERIALS[first]), np.uint16)
    axis = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px - 0.5
    for material in others:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.05, 0.25)
        distance = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None] - offset
        distance += rng.uniform(0, 0.06) * smooth_noise(rng, side_px, (6, 6))
        alpha = np.clip(distance * side_px + 0.5, 0, 1)
        beyond = render_material(MATERIALS[material], rng, side_px)
        edge = (alpha > 0) & (alpha < 1)
        mixed = picture[edge] * (1 - alpha[edge, None]) + beyond[edge] * alpha[edge, None]
        np.copyto(picture, beyond, where=alpha[..., None] == 1)
        picture[edge] = mixed
        mask[distance >= 0] = class_id(MATERIALS[material])
    return picture, mask


def _place(
    rng: np.random.Generator,
    name: ObjectName,
    sizes: tuple[float, float],
    side_px: int,
    owner: NDArray[np.int32],
    areas: Sequence[int],
) -> _Placed | None:
    """The object somewhere where it leaves enough of the others to be seen, None if no such place is found."""
    homography = _pose(rng, rng.uniform(*sizes) * side_px / 2)
    edge = _project(outline(name.shape), homography)
    low, high = edge.min(axis=0), edge.max(axis=0)
    seen = np.bincount(owner.ravel() + 1, minlength=len(areas) + 1)[1:]
    for _ in range(_TRIES):
        room = np.maximum(side_px - (high - low), 0)
        shift = rng.uniform(0, 1, 2) * room - low
        corner = np.floor(low + shift).astype(int)
        size = np.ceil(high + shift).astype(int) - corner + 1
        x, y = np.maximum(corner, 0)
        box = owner[y : corner[1] + size[1], x : corner[0] + size[0]]
        left = seen - np.bincount(box.ravel() + 1, minlength=len(areas) + 1)[1:]  # beside the box, if not the object
        if np.all(left >= (1 - _MOST_COVERED) * np.array(areas)):
            rgb, coverage = _paint(rng, name, homography, shift - corner, size)
            return _clip(_Placed(name, (int(corner[0]), int(corner[1])), rgb, coverage), side_px)
    return None


def _clip(placed: _Placed, side_px: int) -> _Placed:
    """What of an object lies inside the picture."""
    (x, y), (h, w) = placed.corner, placed.coverage.shape
    left, top, right, bottom = max(0, -x), max(0, -y), min(w, side_px - x), min(h, side_px - y)
    inside = np.s_[top:bottom, left:right]
    return _Placed(placed.name, (x + left, y + top), placed.rgb[inside], placed.coverage[inside])


def _window(placed: _Placed) -> tuple[slice, slice]:
    (x, y), (h, w) = placed.corner, placed.coverage.shape
    return slice(y, y + h), slice(x, x + w)


def _pose(rng: np.random.Generator, radius_px: float) -> NDArray[np.float64]:
    """A (3, 3) homography from the square of side 2 to pixels: turned, squeezed and seen a little from the side."""
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    c, s = np.cos(angle), np.sin(angle)
    squeeze = np.diag([1.0, rng.uniform(0.82, 1.0), 1.0])
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [*rng.uniform(-0.16, 0.16, 2), 1]])
    return np.diag([radius_px, radius_px, 1.0]) @ turn @ squeeze @ tilt


def _project(points: NDArray[np.float64], homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (..., 2) through a homography."""
    moved = points @ homography[:, :2].T + homography[:, 2]
    return moved[..., :2] / moved[..., 2:]


def _paint(
    rng: np.random.Generator,
    name: ObjectName,
    homography: NDArray[np.float64],
    shift: NDArray[np.float64],
    size: NDArray[np.int64],
) -> tuple[Map, Map]:
    """Colours (h, w, 3) 0..255 and coverage (h, w) 0..1 of an object in a box of `size` (w, h)."""

    def fill(polygons: NDArray[np.float64], inner: Polygon | None = None) -> Map:
        canvas = Image.new("L", tuple((size * _SUPERSAMPLING).tolist()))
        draw = ImageDraw.Draw(canvas)
        for value, group in ((255, polygons), (0, polygons[:0] if inner is None else inner[None])):
            corners = (_project(group, homography) + shift) * _SUPERSAMPLING - 0.5
            for xy in corners.reshape(len(group), corners.shape[1] * 2).tolist():
                draw.polygon(xy, fill=value)
        return np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / 255

    coverage = fill(outline(name.shape)[None], hole(name.shape))
    period = rng.uniform(0.42, 0.58)
    painted = fill(pattern_polygons(name.pattern, period, rng.uniform()))
    rgb = between(*_tones(rng, name.colour), painted)
    h, w = coverage.shape
    slope = rng.uniform(-0.16, 0.16, 2).astype(np.float32)
    down, across = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    light = 1 + slope[0] * down + slope[1] * across
    return rgb * light[..., None], coverage


def _tones(rng: np.random.Generator, colour: str) -> tuple[Map, Map]:
    """The two tones of a colour. A pattern never brings in a second colour, so every name has one look."""
    first = np.array(_RGB[colour], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    target, amount = (255, 0.5) if colour in _LIGHTENED else (0, 0.42)
    return first, first + (np.float32(target) - first) * np.float32(amount + rng.uniform(-0.05, 0.08))


def _shadow(rng: np.random.Generator, picture: Map, placed: _Placed) -> None:
    """A soft shadow below and beside the object; it is part of what it falls on."""
    side_px = len(picture)
    reach = max(1, round(rng.uniform(0.005, 0.025) * side_px))
    (x, y), (h, w) = placed.corner, placed.coverage.shape
    # One pixel more than the blur reaches, since beyond the edge of what it is given it goes on with the edge's values.
    left, top, margin = max(0, x - 1), max(0, y - 1), 2 * reach + 1
    dark = Image.new("L", (min(side_px, x + w + margin) - left, min(side_px, y + h + margin) - top))
    dark.paste(Image.fromarray((placed.coverage * 255).astype(np.uint8)), (x + reach - left, y + reach - top))
    soft = np.asarray(dark.filter(ImageFilter.BoxBlur(reach)), np.float32)
    picture[top : top + dark.height, left : left + dark.width] *= (1 - rng.uniform(0.1, 0.45) * soft / 255)[..., None]


def _photograph(rng: np.random.Generator, picture: Map) -> NDArray[np.uint8]:
    """Light from one side, the lens and the sensor."""
    side_px = len(picture)
    ramp = np.linspace(-1, 1, side_px, dtype=np.float32)
    slope = rng.uniform(-0.12, 0.12, 2).astype(np.float32)
    light = rng.uniform(0.8, 1.12) * (1 + slope[0] * ramp[:, None] + slope[1] * ramp)
    lit = tinted(picture * light[..., None], rng.uniform(0.95, 1.05, 3).astype(np.float32))
    blurred = Image.fromarray(np.clip(lit, 0, 255, out=lit).astype(np.uint8))
    blur_px = rng.uniform(0, 0.9) * side_px / SCENE_SIDE_PX
    seen = np.asarray(blurred.filter(ImageFilter.GaussianBlur(blur_px)), np.float32)
    noise = rng.standard_normal(seen.shape, np.float32)
    noise *= np.float32(rng.uniform(0, 7))
    noise += seen
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)
