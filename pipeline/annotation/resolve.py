"""From a request to a job: every name looked up, every default chosen, and all of it checked before any work."""

import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from escnet.base_config import ModelConfig
from escnet.models import ResolvedModel
from pipeline.actors.placement import Node, Placement, check_placement, replica_bytes, resolve_placement
from pipeline.model_cache import find_model
from pipeline.storage import StorageOptions
from pipeline.vocabularies import at_level, load_vocabulary
from schemas.errors import InputError, VocabularyError
from schemas.job import (
    DEFAULT_PRESELECT,
    OFF,
    JobRecord,
    JobRequest,
    LabelOptions,
    ManifestRecord,
    ModelRecord,
    Preselect,
    Views,
    shard_identity,
)
from schemas.manifest import ManifestRow, public_uri
from schemas.vocabulary import Vocabulary

BATCH_SIZE_ON_GPU = 16  # of smaller ones a fast GPU waits for its next order; larger ones ask for memory
RECORDED_VERSIONS = ("escnet-pipeline", "torch", "open_clip_torch", "segment-anything", "timm", "pillow", "pyarrow")


@dataclass(frozen=True)
class ResolvedJob:
    """A request with every name looked up and every default chosen."""

    request: JobRequest
    storage: StorageOptions
    vocabularies: dict[str, Vocabulary]
    model: ResolvedModel
    options: LabelOptions
    placement: Placement

    def identify(self, rows: Iterable[ManifestRow], vocabulary: str) -> str:
        return shard_identity(rows, self.vocabularies[vocabulary].fingerprint, self.model.fingerprint, self.options)

    def record(self, manifest: ManifestRecord) -> JobRecord:
        return JobRecord(
            model=ModelRecord(name=self.model.name, fingerprint=self.model.fingerprint, is_random=self.model.is_random),
            vocabularies={name: vocabulary.fingerprint for name, vocabulary in self.vocabularies.items()},
            options=self.options,
            manifest=manifest,
            sources=tuple(public_uri(source) for source in self.request.sources),
            versions=self.versions(),
        )

    def versions(self) -> dict[str, str]:
        """Of Python and the libraries that labels depend on."""
        found = {name: importlib.metadata.version(name) for name in RECORDED_VERSIONS}
        return {"python": platform.python_version(), **found}


def resolve_job(request: JobRequest, storage: StorageOptions, nodes: Sequence[Node]) -> ResolvedJob:
    """Look up what a request names.

    Args:
        nodes: resources of the machines that actors may be placed on.

    Raises:
        InputError: a vocabulary, model, option or placement that cannot be used.
    """
    vocabularies: dict[str, Vocabulary] = {}
    for name in request.vocabularies:
        vocabulary = load_vocabulary(name, storage)
        if vocabulary.name in vocabularies:
            raise VocabularyError(
                f"{public_uri(name)}: a second vocabulary named {vocabulary.name!r}; names must differ in one job"
            )
        vocabularies[vocabulary.name] = vocabulary
    vocabularies = at_level(vocabularies, request.level)
    model = find_model(request.model, storage, request.allow_random_weights)
    views, preselect = request.views or model.config.views, known_preselection(request.preselect, model.config)
    class_bytes = max(_class_bytes(model.config, vocabulary, views, preselect) for vocabulary in vocabularies.values())
    placement = resolve_placement(request, nodes, replica_bytes(model) + class_bytes)
    where = f"the cluster at {request.address}" if request.address else "this machine"
    can_grow = request.address is not None
    more_to_come = can_grow and request.wait_for_nodes
    check_placement(placement, nodes, where=where, can_grow=can_grow, more_to_come=more_to_come)
    device: Literal["cpu", "cuda"] = "cuda" if placement.gpus_per_actor > 0 else "cpu"
    options = LabelOptions(
        views=views,
        device=device,
        dtype=request.dtype or ("bfloat16" if device == "cuda" else "float32"),
        batch_size=(request.batch_size or BATCH_SIZE_ON_GPU) if device == "cuda" else 1,
        cpus_per_actor=request.cpus_per_actor,
        max_pixels=request.max_pixels,
        preselect=preselect,
    )
    if device == "cpu" and options.dtype == "float16":
        raise InputError("--dtype float16 needs a GPU; on a CPU use float32 or bfloat16")
    return ResolvedJob(request, storage, vocabularies, model, options, placement)


def _class_bytes(config: ModelConfig, vocabulary: Vocabulary, views: Views, preselect: Preselect) -> int:
    n_entries = len(vocabulary.entries)
    return config.class_bytes(n_entries, n_entries if preselect == OFF else min(preselect, n_entries), views)


def known_preselection(asked: Preselect | None, config: ModelConfig) -> Preselect:
    """What was asked for, or else the model's default.

    Only where classes do not depend on each other can some be left out without changing the others.

    Raises:
        InputError: preselection for a model whose classes do.
    """
    if config.classes_are_independent:
        return asked or DEFAULT_PRESELECT
    if asked not in (None, OFF):
        raise InputError(f"--preselect {asked}: the classes of this model depend on each other; use off")
    return OFF
