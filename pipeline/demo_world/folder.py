"""A folder of the demo world, as a user's own data would lie there: pictures, masks, a vocabulary and a manifest.

A scene is a function of the seed, the objects, its number and its side: how many others are written changes nothing.
"""

import io
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from pipeline.demo_world.names import OBJECTS, ObjectName, draw_names, world_vocabulary
from pipeline.demo_world.scenes import SCENE_SIDE_PX, Scene, draw_scene_of
from pipeline.output import storing
from pipeline.picture.encode import encode_mask
from pipeline.progress import Progress
from pipeline.sources.manifest import write_manifest
from pipeline.storage import StorageOptions, find_info, join, locate, write_new
from schemas.errors import OutputError
from schemas.manifest import ManifestRow, public_uri
from schemas.quantities import few
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import vocabulary_yaml

MANIFEST_FILE = "manifest.parquet"
VOCABULARY_FILE = "vocabulary.yaml"
IMAGES_FOLDER = "images"
MASKS_FOLDER = "masks"
VOCABULARY_NAME = "demo-world"
N_OBJECTS = 36

_SCENE_STREAM, _ORDER_STREAM = 2, 3  # of a seed's random numbers; names.py has 1
_OBJECTS_BY_TURNS = (2, 3, 4, 5)  # in one scene, the next, ...
_JPEG_QUALITY = 95
_INVISIBLE_NAMES = frozenset(("", ".DS_Store"))  # macOS puts the second into every folder that is looked at


@dataclass
class WrittenWorld:
    """What was written. `pixels` counts those of the masks by class id."""

    output: str
    n_scenes: int
    side_px: int
    objects: tuple[ObjectName, ...]
    vocabulary: Vocabulary
    pixels: Counter[int] = field(default_factory=Counter)


def world_scene(objects: Sequence[ObjectName], seed: int, number: int, side_px: int = SCENE_SIDE_PX) -> Scene:
    """Scene `number`, from 0, of the world of a seed.

    The scenes ask for the objects in turns, so that each comes equally often but for those that found no place.
    """
    rng = _random(seed, _SCENE_STREAM, number)
    return draw_scene_of(rng, _names_of_scene(objects, seed, number), side_px)


def _names_of_scene(objects: Sequence[ObjectName], seed: int, number: int) -> list[ObjectName]:
    """The next few of an endless row, in which all objects come in one shuffled order after another."""
    rounds, turn = divmod(number, len(_OBJECTS_BY_TURNS))
    first = rounds * sum(_OBJECTS_BY_TURNS) + sum(_OBJECTS_BY_TURNS[:turn])
    names = []
    for place in range(first, first + _OBJECTS_BY_TURNS[turn]):
        shuffle, k = divmod(place, len(objects))
        names.append(objects[int(_random(seed, _ORDER_STREAM, shuffle).permutation(len(objects))[k])])
    return names


def _random(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def write_world(
    output: str,
    *,
    n_scenes: int,
    seed: int,
    n_objects: int = N_OBJECTS,
    all_names: bool = False,
    synonyms: bool = False,
    side_px: int = SCENE_SIDE_PX,
    storage: StorageOptions | None = None,
) -> WrittenWorld:
    """Write `images/`, `masks/`, the vocabulary and, last, the manifest, whose names are relative to its folder.

    Args:
        output: a new or empty folder or prefix, local or in object storage.
        n_scenes: at least 1.
        seed: from 0; decides the objects and every scene.
        n_objects: how many names are drawn, half of them held out; see `names.draw_names`.
        all_names: the vocabulary has every name of the world; the pictures and masks are the same.
        synonyms: the vocabulary has second prompts; see `names.world_vocabulary`.
        side_px: of the square pictures.
        storage: how to reach object storage.

    Raises:
        InputError: a number of objects that cannot be.
        OutputError: an output that holds anything, or cannot be written.
    """
    storage = storage or StorageOptions()
    objects = tuple(draw_names(seed, n_objects))
    vocabulary = world_vocabulary(OBJECTS if all_names else objects, name=VOCABULARY_NAME, synonyms=synonyms)
    written = WrittenWorld(output, n_scenes, side_px, objects, vocabulary)
    _refuse_taken(output, storage)
    _write(join(output, VOCABULARY_FILE), vocabulary_yaml(vocabulary).encode(), storage)
    rows = list(_write_scenes(written, seed, storage))
    write_manifest(rows, join(output, MANIFEST_FILE), storage)
    return written


def _write_scenes(written: WrittenWorld, seed: int, storage: StorageOptions) -> Iterator[ManifestRow]:
    with Progress(written.n_scenes) as progress:
        for number in range(written.n_scenes):
            scene = world_scene(written.objects, seed, number, written.side_px)
            yield _write_scene(scene, number, written.output, storage)
            ids, counts = np.unique(scene.mask, return_counts=True)
            written.pixels.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
            progress.update(number + 1, 0, is_loading=False)


def _write_scene(scene: Scene, number: int, output: str, storage: StorageOptions) -> ManifestRow:
    """Write picture and mask; the row has the image_id that listing the folder of pictures would give."""
    image_id = f"{number:05}.jpg"
    uri, mask_uri = f"{IMAGES_FOLDER}/{image_id}", f"{MASKS_FOLDER}/{number:05}.png"
    jpeg = io.BytesIO()
    # Colours at full resolution: at half, as is usual, the edges of objects would bleed.
    Image.fromarray(scene.picture).save(jpeg, "JPEG", quality=_JPEG_QUALITY, subsampling="4:4:4")
    _write(join(output, uri), jpeg.getvalue(), storage)
    _write(join(output, mask_uri), encode_mask(scene.mask), storage)
    height, width = scene.mask.shape
    return ManifestRow(image_id, uri, width, height, size_bytes=jpeg.tell(), mask_uri=mask_uri)


def _write(uri: str, data: bytes, storage: StorageOptions) -> None:
    with storing(uri):
        if not write_new(uri, data, storage):
            raise OutputError(f"{public_uri(uri)}: was written by another run meanwhile; choose another --output")


def _refuse_taken(output: str, storage: StorageOptions) -> None:
    place = locate(output, storage)
    with storing(output):
        info = find_info(output, storage)
        if info is None:
            return
        if info["type"] != "directory":
            raise OutputError(f"{public_uri(output)}: is a file; choose a new folder for --output")
        found = {posixpath.basename(name.rstrip("/")) for name in place.fs.ls(place.path, detail=False)}
    taken = sorted(found - _INVISIBLE_NAMES)
    if taken:
        raise OutputError(
            f"{public_uri(output)}: is not empty ({few(taken)}); choose a new or empty folder for --output"
        )
