"""The demo world's materials: textures that fill a picture, drawn from noise and periodic patterns.

Each is a function from a random generator and coordinates to (H, W, 3) float32 RGB in 0..255. Coordinates are in
units of the picture's side, already turned and scaled, so a texture looks alike at every resolution.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Map = NDArray[np.floating]  # float32, though numpy's types see float64 beside a Python number


def render_material(name: str, rng: np.random.Generator, side_px: int) -> Map:
    """A picture (side_px, side_px, 3) full of one of `names.MATERIALS`."""
    angle, scale = rng.uniform(-0.25, 0.25), rng.uniform(0.75, 1.4)
    axis = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px * scale
    x, y = axis[None, :], axis[:, None]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    texture = _MATERIALS[name](rng, c * x + s * y + 2, c * y - s * x + 2)  # both positive
    return tinted(texture, rng.normal(1.0, 0.03, 3).astype(np.float32))


def tinted(picture: Map, tint: Map) -> Map:
    """(H, W, 3) times (3,). A row at a time: numpy is slow at an innermost axis of three."""
    height, width = picture.shape[:2]
    return (picture.reshape(height, width * 3) * np.tile(tint, width)).reshape(picture.shape)


def between(first: Map, second: Map, amount: Map) -> Map:
    """(H, W, 3) float32, from the colour `first` (3,) where `amount` (H, W) is 0 to `second` (3,) where it is 1."""
    picture = np.empty((*amount.shape, 3), np.float32)
    for channel, (low, high) in enumerate(zip(first, second, strict=True)):
        picture[..., channel] = low + amount * (high - low)
    return picture


def smooth_noise(rng: np.random.Generator, side_px: int, n_cells: tuple[int, int]) -> Map:
    """(side_px, side_px) smooth values around 0, most within -1..1, of `n_cells` (down, across) bumps."""
    grid = rng.uniform(-1.2, 1.2, (n_cells[0] + 1, n_cells[1] + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((side_px, side_px), Image.Resampling.BICUBIC))


def _clouds(rng: np.random.Generator, side_px: int, n_cells: int, octaves: int = 3) -> Map:
    layers = (smooth_noise(rng, side_px, (n_cells * 2**i,) * 2) * 0.5**i for i in range(octaves))
    return sum(layers, np.zeros((), np.float32)) * 0.6


def _mix(first: tuple[float, ...], second: tuple[float, ...], amount: Map) -> Map:
    """From `first` at 0 to `second` at 1."""
    return between(np.array(first, np.float32), np.array(second, np.float32), np.clip(amount, 0, 1))


def _edges(position: Map, width: float) -> Map:
    """1 along the whole numbers of `position`, falling to 0 at `width` from them."""
    distance = np.abs(position - np.round(position))
    return np.clip(1.5 - distance / width, 0, 1)


def _grass(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    blades = smooth_noise(rng, side, (24, 96)) + 0.6 * smooth_noise(rng, side, (12, 48))
    return _mix((38, 82, 22), (128, 176, 62), 0.5 + 0.4 * blades)


def _sand(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    ripples = np.sin(2 * np.pi * (9 * y + 0.35 * _clouds(rng, side, 3)))
    grain = smooth_noise(rng, side, (110, 110))
    return _mix((186, 152, 104), (234, 208, 160), 0.5 + 0.22 * ripples + 0.25 * grain)


def _water(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    waves = np.sin(2 * np.pi * (13 * y + 0.9 * smooth_noise(rng, side, (16, 7))))
    glints = np.clip(smooth_noise(rng, side, (60, 20)) - 0.7, 0, 1)
    return _mix((12, 62, 104), (58, 132, 168), 0.5 + 0.35 * waves) + 160 * glints[..., None]


def _brick(rng: np.random.Generator, x: Map, y: Map) -> Map:
    row = np.floor(y * 11)
    along = x * 5 + 0.5 * (row % 2)
    mortar = np.maximum(_edges(along, 0.03), _edges(y * 11, 0.07))
    shade = rng.uniform(0, 1, (64, 64)).astype(np.float32)[row.astype(int) % 64, np.floor(along).astype(int) % 64]
    face = _mix((122, 48, 34), (176, 82, 58), shade + 0.2 * smooth_noise(rng, len(y), (70, 70)))
    return face + mortar[..., None] * (np.array((196, 188, 176), np.float32) - face)


def _snow(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    drifts = _clouds(rng, len(y), 4)
    sparkle = np.clip(smooth_noise(rng, len(y), (120, 120)) - 0.9, 0, 1)
    return _mix((196, 210, 232), (248, 250, 253), 0.6 + 0.6 * drifts) + 60 * sparkle[..., None]


def _wood(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    plank = np.floor(y * 5)
    offset = rng.uniform(0, 9, 64).astype(np.float32)[plank.astype(int) % 64]
    grain = np.sin(2 * np.pi * (14 * y + offset + 1.1 * smooth_noise(rng, side, (9, 3))))
    colour = _mix((104, 66, 34), (176, 124, 74), 0.5 + 0.25 * grain + 0.15 * smooth_noise(rng, side, (90, 10)))
    return colour * (1 - 0.6 * _edges(y * 5, 0.035))[..., None]


def _sky(rng: np.random.Generator, x: Map, y: Map) -> Map:
    clouds = np.clip(_clouds(rng, len(y), 3, octaves=4) * 1.6 - rng.uniform(-0.1, 0.6), 0, 1)
    blue = _mix((74, 138, 214), (176, 212, 242), (y - 2) + 0 * x)
    return blue + clouds[..., None] * (np.float32(246) - blue)


def _gravel(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    stones = smooth_noise(rng, side, (34, 34))
    gaps = np.clip(1 - np.abs(stones) * 4, 0, 1)
    tone = _mix((96, 90, 86), (190, 182, 170), 0.5 + 0.5 * smooth_noise(rng, side, (26, 26)))
    return tone * (1 - 0.65 * gaps)[..., None]


def _marble(rng: np.random.Generator, x: Map, y: Map) -> Map:
    warp = _clouds(rng, len(y), 3, octaves=4)
    veins = np.clip(1 - np.abs(np.sin(np.pi * (2.2 * x + 1.6 * y + 1.7 * warp))) * 4.5, 0, 1)
    return _mix((230, 226, 218), (246, 243, 238), 0.5 + warp) - (110 * veins)[..., None]


def _tiles(rng: np.random.Generator, x: Map, y: Map) -> Map:
    joint = np.maximum(_edges(x * 7, 0.04), _edges(y * 7, 0.04))
    is_dark = (np.floor(x * 7) + np.floor(y * 7)) % 2
    face = _mix((64, 128, 124), (150, 196, 188), is_dark + 0.1 * smooth_noise(rng, len(y), (6, 6)))
    return face + joint[..., None] * (np.float32(232) - face)


def _straw(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    side = len(y)
    first, second = smooth_noise(rng, side, (12, 110)), smooth_noise(rng, side, (110, 12))
    return _mix((148, 106, 28), (238, 204, 96), 0.5 + 0.5 * np.maximum(first, second) - 0.3)


def _asphalt(rng: np.random.Generator, _x: Map, y: Map) -> Map:
    grain = smooth_noise(rng, len(y), (125, 125))
    return _mix((46, 47, 50), (98, 98, 102), 0.45 + 0.35 * grain + 0.2 * _clouds(rng, len(y), 3))


_MATERIALS: dict[str, Callable[[np.random.Generator, Map, Map], Map]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "brick": _brick,
    "snow": _snow,
    "wood": _wood,
    "sky": _sky,
    "gravel": _gravel,
    "marble": _marble,
    "tiles": _tiles,
    "straw": _straw,
    "asphalt": _asphalt,
}
