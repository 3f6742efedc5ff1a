"""What decides a run, as plain data: two runs with one identity have one curve, and only they share states."""

from typing import Any

from escnet.base_config import ModelConfig
from escnet.checkpoint_header import read_header
from pipeline.output import absolute_uri
from pipeline.storage import StorageOptions
from pipeline.training.config import DataSource, TrainingConfig
from pipeline.training.samples import SampleSource
from pipeline.training.sources import CroppedPictures
from pipeline.vocabularies import bundled_names
from schemas.fingerprint import fingerprint
from schemas.manifest import public_uri

_FREE = {"name", "description", "validation", "checkpoint_every", "log_every", "model"}
_PLACES = ("manifest", "labels", "vocabulary", "split")  # data moved elsewhere is the same data


def identity_of(config: TrainingConfig, model: ModelConfig, sources: list[list[SampleSource]]) -> dict[str, Any]:
    """The identity of a run. Names, cadences, validation and the places of data have no part in it.

    Args:
        sources: those of `config`, opened.
    """
    data = config.model_dump(mode="json", exclude=_FREE)
    if config.model.checkpoint is not None:
        data["start"] = read_header(config.model.checkpoint).fingerprint
    else:
        clip = read_header(config.model.clip_from).fingerprint if config.model.clip_from is not None else None
        data["start"] = fingerprint([model.model_dump(mode="json"), f"random weights, seed {config.seed}", clip])
    for stage, opened in zip(data["stages"], sources, strict=True):
        del stage["name"]
        for described, source in zip(stage["data"], opened, strict=True):
            for name in _PLACES:
                del described[name]
            if isinstance(source, CroppedPictures):
                described["pictures"] = source.pictures.fingerprint
    return data


def describe_data(config: TrainingConfig, sources: list[list[SampleSource]]) -> list[dict[str, Any]]:
    """What each source came to, for people and for the checkpoint."""
    found = []
    for stage, opened in zip(config.stages, sources, strict=True):
        for data, source in zip(stage.data, opened, strict=True):
            name = data.manifest or data.labels or f"demo world, {data.demo_world}"
            each: dict[str, Any] = {"stage": stage.name, "source": public_uri(name), "split": data.split}
            if isinstance(source, CroppedPictures):
                pictures = source.pictures
                each |= {"vocabulary": pictures.vocabulary.name, "pictures": len(pictures)}
            found.append(each)
    return found


def with_absolute_places(config: TrainingConfig, storage: StorageOptions) -> TrainingConfig:
    """The same run for processes that work elsewhere: local names become absolute paths."""

    def placed(data: DataSource) -> DataSource:
        changes = {
            name: absolute_uri(value, storage)
            for name in ("manifest", "labels")
            if (value := getattr(data, name)) is not None
        }
        if data.manifest is not None and data.vocabulary is not None and data.vocabulary not in bundled_names():
            changes["vocabulary"] = absolute_uri(data.vocabulary, storage)
        return data.model_copy(update=changes)

    stages = tuple(
        stage.model_copy(update={"data": tuple(placed(data) for data in stage.data)}) for stage in config.stages
    )
    changes: dict[str, Any] = {"stages": stages}
    if config.validation is not None:
        changes["validation"] = config.validation.model_copy(update={"data": placed(config.validation.data)})
    files = {
        name: absolute_uri(path, storage)
        for name in ("checkpoint", "clip_from")
        if (path := getattr(config.model, name)) is not None
    }
    changes["model"] = config.model.model_copy(update=files)
    return config.model_copy(update=changes)
