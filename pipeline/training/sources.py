"""Samples of labelled pictures: crops at the network's input size, flipped and with other colours, by number."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as colours  # type: ignore[import-untyped]

from escnet.base_config import ModelConfig
from escnet.clip import build_tokenizer
from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import draw_names, world_vocabulary
from pipeline.storage import StorageOptions
from pipeline.training.config import DataSource, TrainingConfig, Validation
from pipeline.training.naming import VocabularyNamer
from pipeline.training.pictures import Pictures, open_pictures
from pipeline.training.samples import Sample, SampleSource, WorldObjects, WorldScenes
from schemas.errors import InputError
from schemas.vocabulary import Vocabulary

_WORLD_SEED = 999_983  # of the validation scenes; training draws from other streams of numbers
_WORLD_OBJECTS = 36
_SEEDS_A_STAGE = 10


class CroppedPictures:
    """Endless samples of labelled pictures, each once before any comes again, in an order of its own each time.

    A stage with several sources asks each for some of the numbers, and so for a random part of every round.

    A sample is a square of random size and place, resized to the input as inference resizes, and its mask by nearest
    pixel.

    Args:
        pictures: where they come from.
        data: how they are cropped, flipped and coloured.
        seed: of the order and of all that is random.
        side_px: of the network's input.
    """

    def __init__(self, pictures: Pictures, data: DataSource, seed: int, side_px: int) -> None:
        self.pictures = pictures
        self.namer = VocabularyNamer(pictures.vocabulary)
        self._data, self._seed, self._side_px = data, seed, side_px
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> NDArray[np.uint32]:
        return np.random.default_rng([self._seed, 0, epoch]).permutation(len(self.pictures)).astype(np.uint32)

    def sample(self, number: int) -> Sample:
        epoch, turn = divmod(number, len(self.pictures))
        whole = self.pictures.read(int(self._order(epoch)[turn]))
        rng = np.random.default_rng([self._seed, 1, number])
        picture, mask = _crop(rng, whole, self._data.smallest_crop, self._side_px)
        if self._data.flip and rng.random() < 0.5:
            picture, mask = picture[:, ::-1], mask[:, ::-1]
        return Sample(_recolour(rng, picture, self._data.color_jitter), np.ascontiguousarray(mask))


def _crop(
    rng: np.random.Generator, whole: Sample, smallest: float, side_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    height, width = whole.mask.shape
    side = max(1, round(rng.uniform(smallest, 1.0) * min(height, width)))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    picture = Image.fromarray(whole.picture[top : top + side, left : left + side])
    resized = picture.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.array(resized), resize_mask(whole.mask[top : top + side, left : left + side], side_px)


def resize_mask(mask: NDArray[np.int32], side_px: int) -> NDArray[np.int32]:
    """(H, W) to (side_px, side_px): the pixel under the centre of each new one."""
    rows, columns = (((np.arange(side_px) + 0.5) * n / side_px).astype(int) for n in mask.shape)
    return mask[rows[:, None], columns[None, :]]


def _recolour(rng: np.random.Generator, picture: NDArray[np.uint8], most: float) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation by factors of 1 - most to 1 + most, in any order.

    Hue stays: colours are among the words of vocabularies.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)
    if most:
        changes = (colours.adjust_brightness, colours.adjust_contrast, colours.adjust_saturation)
        for i in rng.permutation(len(changes)):
            pixels = changes[i](pixels, float(rng.uniform(1 - most, 1 + most)))
    return pixels.movedim(0, -1).contiguous().numpy()


def open_source(data: DataSource, seed: int, side_px: int, storage: StorageOptions, *, unpacks: bool) -> SampleSource:
    """The samples of a source. `unpacks`: see `pictures.LabelPictures`."""
    if data.demo_world is not None:
        return (WorldScenes if data.demo_world == "scenes" else WorldObjects)(seed, side_px)
    return CroppedPictures(open_pictures(data, storage, unpacks=unpacks), data, seed, side_px)


def open_sources(
    config: TrainingConfig, model: ModelConfig, storage: StorageOptions, *, unpacks: bool = True
) -> list[list[SampleSource]]:
    """For each stage its sources, in the order of its `data`. A source that stands in two stages is opened once.

    Raises:
        InputError: a source that cannot be read or has no pictures, a vocabulary without a class to train on, or a
            prompt longer than the network's context.
    """
    opened: dict[DataSource, Pictures] = {}
    sources: list[list[SampleSource]] = []
    for i, stage in enumerate(config.stages):
        sources.append([])
        for j, data in enumerate(stage.data):
            seed = config.seed * 1000 + _SEEDS_A_STAGE * i + j
            plain = DataSource(**data.model_dump(include={"manifest", "labels", "demo_world", "vocabulary", "split"}))
            if plain in opened:
                sources[-1].append(CroppedPictures(opened[plain], data, seed, model.image_size))
                continue
            source = open_source(data, seed, model.image_size, storage, unpacks=unpacks)
            if isinstance(source, CroppedPictures):
                _check_prompts(model, source.pictures.vocabulary, config.templates)
                opened[plain] = source.pictures
            sources[-1].append(source)
    return sources


class WholePictures(Sequence[Sample]):
    """The first pictures of a source, whole, read whenever they are asked for."""

    def __init__(self, pictures: Pictures, n_pictures: int) -> None:
        self._pictures, self._n = pictures, min(n_pictures, len(pictures))

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, place):  # type: ignore[no-untyped-def]  # of slices nobody asks
        if not 0 <= place < self._n:
            raise IndexError(place)
        return self._pictures.read(place)

    def __iter__(self) -> Iterator[Sample]:
        return (self._pictures.read(place) for place in range(self._n))


def open_validation(
    validation: Validation, side_px: int, storage: StorageOptions, *, unpacks: bool = True
) -> tuple[Sequence[Sample], Vocabulary]:
    """Pictures to measure on, and their words.

    Those of the demo world are drawn from 36 objects, half of them held out, which are named whole.

    Raises:
        InputError: the source cannot be read or has no pictures.
    """
    if validation.data.demo_world is None:
        pictures = open_pictures(validation.data, storage, unpacks=unpacks)
        return WholePictures(pictures, validation.n_pictures), pictures.vocabulary
    objects = draw_names(_WORLD_SEED, _WORLD_OBJECTS)
    scenes = (world_scene(objects, _WORLD_SEED, number, side_px) for number in range(validation.n_pictures))
    samples = [Sample(scene.picture, scene.mask.astype(np.int32)) for scene in scenes]
    return samples, world_vocabulary(objects, name="demo-world")


def _check_prompts(model: ModelConfig, vocabulary: Vocabulary, templates: Sequence[str]) -> None:
    """The tokenizer by itself would cut long texts in silence."""
    if not VocabularyNamer(vocabulary).ids:
        raise InputError(
            f"vocabulary {vocabulary.name}: has no class to train on, expected one with prompts that is not held out"
        )
    tokenizer = build_tokenizer(model)
    for template in templates:
        for prompt in (prompt for each in vocabulary.classes for prompt in each.prompts):
            text = template.replace("{}", prompt)
            n_tokens = len(tokenizer.encode(text)) + 2  # start and end of text
            if n_tokens > tokenizer.context_length:
                raise InputError(
                    f"vocabulary {vocabulary.name}: {text[:80]!r} has {n_tokens} tokens, expected at most "
                    f"{tokenizer.context_length}; shorten the prompt or the template"
                )
