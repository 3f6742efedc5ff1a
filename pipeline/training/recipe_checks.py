"""What no part of a recipe can know by itself: settings that do not go together, or would have no effect."""

from collections.abc import Iterator

from pydantic import BaseModel

from escnet.base_config import ModelConfig
from escnet.config import EscNetConfig
from pipeline.training.config import DataSource, Stage, TrainingConfig

Path = tuple[int | str, ...]
Problem = tuple[Path, str]  # where in the recipe, and what is wrong

_TEXT_WIDTH = 512  # open_clip's default
_CROPPING = ("smallest_crop", "flip", "color_jitter")


def find_problem(config: TrainingConfig, model: ModelConfig) -> Problem | None:
    """The first thing in a recipe that does not fit the rest of it; None if there is none.

    Args:
        model: of the network that the recipe starts with.
    """
    return next(_problems(config, model), None)


def _problems(config: TrainingConfig, model: ModelConfig) -> Iterator[Problem]:
    yield from _start_problems(config, model)
    validation = config.validation
    if validation is not None and validation.data.demo_world == "objects":
        yield ("validation", "data", "demo_world"), "found objects, expected scenes: whole pictures"
    for i, stage in enumerate(config.stages):
        yield from _stage_problems(config, stage, ("stages", i))
    if validation is not None:
        path: Path = ("validation", "data")
        yield from _idle(validation.data, ("weight", *_CROPPING), path, "on pictures that are measured whole")
        yield from _source_problems(validation.data, path)
    if config.trainable != "paper":
        yield from _idle(config, ("clip_sam_rate",), (), f"with trainable: {config.trainable}, only with paper")
    has_world = any(data.demo_world for stage in config.stages for data in stage.data)
    if has_world and model.image_size % 2:
        yield ("model",), f"the demo world is drawn at an even side, found image_size {model.image_size}"


def _start_problems(config: TrainingConfig, model: ModelConfig) -> Iterator[Problem]:
    start = config.model
    pre_trained = "CLIP and SAM" if isinstance(model, EscNetConfig) else "CLIP"
    frozen = {"paper": pre_trained, "blocks": "" if start.clip_from else "CLIP", "all": ""}[config.trainable]
    if start.preset is not None and frozen:
        yield (
            ("trainable",),
            f"found {config.trainable} with a preset, whose {frozen} would stay random; start from the checkpoint that "
            "`escnet model import` writes, or train all",
        )
    if not config.spread_names:
        return
    if start.preset is None or start.clip_from is not None:
        yield ("spread_names",), "found true, which would undo what the CLIP of a checkpoint has learnt; leave it out"
    width, embed_dim = model.clip["text_cfg"].get("width", _TEXT_WIDTH), model.clip["embed_dim"]
    if width != embed_dim:
        yield (
            ("spread_names",),
            f"found true with a text tower of width {width}, expected the embed_dim {embed_dim}; leave it out",
        )


def _stage_problems(config: TrainingConfig, stage: Stage, path: Path) -> Iterator[Problem]:
    for j, data in enumerate(stage.data):
        yield from _source_problems(data, (*path, "data", j))
    if not stage.losses.segmentation:
        if config.trainable == "blocks":
            yield (
                (*path, "losses"),
                "found no segmentation loss with trainable: blocks, which would learn nothing; give it a weight",
            )
        yield from _idle(stage, ("classes_per_picture",), path, "without a segmentation loss")
    if config.trainable != "all":
        yield from _idle(stage, ("text_rate",), path, f"with trainable: {config.trainable}, only with all")


def _source_problems(data: DataSource, path: Path) -> Iterator[Problem]:
    if data.demo_world:
        yield from _idle(data, ("vocabulary", "split", *_CROPPING), path, "on demo_world")


def _idle(part: BaseModel, names: tuple[str, ...], path: Path, where: str) -> Iterator[Problem]:
    """Those of the settings that are written down, though they have no effect there."""
    for name in names:
        if name in part.model_fields_set and getattr(part, name) is not None:
            yield (*path, name), f"has no effect {where}; leave it out"
