"""The Ray actor: a replica of the model with a shard runner around it, and nothing else."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from escnet.models import ResolvedModel
from pipeline.shard import Counts, Segmenter, ShardResult, ShardRunner
from pipeline.storage import StorageOptions
from schemas.job import LabelOptions, ShardRef
from schemas.vocabulary import Vocabulary

SHARDS_AT_ONCE = 2  # one with the model, one filling its window


def load_segmenter(setup: "ReplicaSetup") -> Segmenter:
    """The real model: its weights loaded onto the device."""
    import torch

    from escnet.models import load_model
    from escnet.segmenter import Segmenter

    options = setup.options
    torch.set_num_threads(options.cpus_per_actor)
    network = load_model(setup.model, device=options.device)
    return Segmenter(network, device=options.device, dtype=options.dtype, views=options.views)


@dataclass(frozen=True)
class ReplicaSetup:
    """What every actor of a job is made from."""

    model: ResolvedModel
    vocabularies: dict[str, Vocabulary]
    options: LabelOptions
    output: str
    storage: StorageOptions
    identity: dict
    load_segmenter: Callable[["ReplicaSetup"], Segmenter] = load_segmenter  # tests of all the rest put in a stand-in


class Replica:
    """One replica. The model loads at the first call, so that a restarted actor finds its way by itself."""

    def __init__(self, setup: ReplicaSetup) -> None:
        self._setup = setup
        self._lock = threading.Lock()
        self._runner: ShardRunner | None = None

    def warm_up(self) -> list[str]:
        """Load the model; returns the words of the vocabularies that it was never trained with.

        Raises:
            ModelError, VocabularyError: as loading and compiling raise them.
        """
        self._ready()
        return _unknown_words(self._setup)

    def annotate_shard(self, ref: ShardRef, publish_failures: bool) -> ShardResult:
        """Label one shard and publish its file, unless every picture failed and that is not to be published."""
        return self._ready().run(ref, publish_failures)

    def counts(self) -> dict[str, Counts]:
        """How far the shards at hand are, by shard id."""
        return {} if self._runner is None else self._runner.counts()

    def _ready(self) -> ShardRunner:
        with self._lock:
            if self._runner is None:
                self._runner = make_runner(self._setup)
            return self._runner


def make_runner(setup: ReplicaSetup) -> ShardRunner:
    """Load the model, compile the vocabularies, and put a shard runner around them."""
    segmenter = setup.load_segmenter(setup)
    return ShardRunner(
        segmenter,
        {name: (vocabulary, segmenter.compile(vocabulary)) for name, vocabulary in setup.vocabularies.items()},
        output=setup.output,
        storage=setup.storage,
        batch_size=setup.options.batch_size,
        max_pixels=setup.options.max_pixels,
        identity=setup.identity,
    )


def _unknown_words(setup: ReplicaSetup) -> list[str]:
    """Each once, in the order of the vocabularies; none of random weights, whose labels are all noise anyway."""
    from escnet.text import unknown_words

    if setup.model.is_random:
        return []
    words = (word for each in setup.vocabularies.values() for word in unknown_words(setup.model.config, each))
    return list(dict.fromkeys(words))
