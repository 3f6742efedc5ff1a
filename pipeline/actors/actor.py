"""The Ray actor: a replica of the model with a shard runner around it, and nothing else."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from escnet.models import ResolvedModel
from pipeline.actors.metrics import metrics_of_this_process
from pipeline.actors.orders import ReplicaStart, RunnerReport, Segmenter, ShardOrder, ShardResult
from pipeline.actors.placement import local_cpus
from pipeline.actors.shard import ShardRunner
from pipeline.actors.stopwatch import Stopwatch
from pipeline.storage import StorageOptions
from schemas.errors import PlacementError
from schemas.job import DEFAULT_TIMEOUT_S, LabelOptions, ShardRef
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary

SHARDS_AT_ONCE = 2  # one with the model, one filling its window
MOST_THREADS_BESIDE_GPU = 8  # that read, and that encode; on a CPU the model needs the cores itself


def load_segmenter(setup: "ReplicaSetup") -> Segmenter:
    """The real model: its weights loaded onto the device."""
    import torch

    from escnet.models import load_model
    from escnet.segmenter import Segmenter
    from pipeline.actors.text_cache import TextCache
    from pipeline.model_cache import model_on_this_node

    options = setup.options
    torch.set_num_threads(options.cpus_per_actor)
    with model_on_this_node(setup.model, setup.storage) as model:
        network = load_model(model, device=options.device)
    return Segmenter(
        network,
        device=options.device,
        dtype=options.dtype,
        views=options.views,
        embed=TextCache(setup.model.fingerprint).embed,
        preselect=options.preselect,
    )


@dataclass(frozen=True)
class ReplicaSetup:
    """What every actor of a job is made from."""

    model: ResolvedModel
    vocabularies: dict[str, Vocabulary]
    options: LabelOptions
    output: str
    storage: StorageOptions
    identity: dict
    shared: tuple[str, ...] = ()  # local paths that every node must see
    timeout_s: float = DEFAULT_TIMEOUT_S
    redo_kinds: frozenset[str] | None = None  # see `ShardRunner`
    load_segmenter: Callable[["ReplicaSetup"], Segmenter] = load_segmenter  # tests of all the rest put in a stand-in


class Replica:
    """One replica. The model loads at the first call, so that a restarted actor finds its way by itself."""

    def __init__(self, setup: ReplicaSetup) -> None:
        self._setup = setup
        self._lock = threading.Lock()
        self._runner: ShardRunner | None = None
        self._start = Stopwatch(has_own_core=False)

    def warm_up(self) -> ReplicaStart:
        """Load the model.

        Raises:
            PlacementError: this node does not see what the driver's does.
            ModelError, VocabularyError: as loading and compiling raise them.
        """
        _refuse_blind(self._setup.shared)
        self._ready()
        return ReplicaStart(_unknown_words(self._setup), self._start.read(0).seconds)

    def annotate_shard(self, order: ShardOrder) -> ShardResult:
        """Label one shard and publish its file; see `ShardRunner.run`."""
        return self._ready().run(order)

    def try_pictures(self, ref: ShardRef, positions: Sequence[int]) -> None:
        """Work on some pictures of a shard and publish nothing; see `ShardRunner.try_pictures`."""
        self._ready().try_pictures(ref, positions)

    def report(self) -> RunnerReport:
        """How far the shards at hand are, and what the model is stuck at."""
        return RunnerReport() if self._runner is None else self._runner.report()

    def _ready(self) -> ShardRunner:
        with self._lock:
            if self._runner is None:
                self._runner = make_runner(self._setup, self._start)
            return self._runner


def _refuse_blind(shared: Sequence[str]) -> None:
    for path in shared:
        if not os.path.exists(path):
            raise PlacementError(
                f"{path}: not there on node {socket.gethostname()}; nodes that share no disk need pictures and output "
                "in object storage"
            )


def make_runner(setup: ReplicaSetup, watch: Stopwatch | None = None) -> ShardRunner:
    """Load the model, compile the vocabularies, and put a shard runner around them; `watch` is told what that took."""
    watch = watch or Stopwatch(has_own_core=False)
    on_gpu = setup.options.device == "cuda"
    with watch.stage("load"):
        segmenter = setup.load_segmenter(setup)
    with watch.stage("compile"):
        compiled = {name: (words, segmenter.compile(words)) for name, words in setup.vocabularies.items()}
    return ShardRunner(
        segmenter,
        compiled,
        output=setup.output,
        storage=setup.storage,
        batch_size=setup.options.batch_size,
        max_pixels=setup.options.max_pixels,
        identity=setup.identity,
        timeout_s=setup.timeout_s,
        redo_kinds=setup.redo_kinds,
        has_own_core=not on_gpu and setup.options.cpus_per_actor == 1,
        more_threads=min(MOST_THREADS_BESIDE_GPU, local_cpus()) if on_gpu else 0,
        metrics=metrics_of_this_process(public_uri(setup.output)),
    )


def _unknown_words(setup: ReplicaSetup) -> list[str]:
    """Each once, in the order of the vocabularies; none of random weights, whose labels are all noise anyway."""
    if setup.model.is_random:
        return []
    from escnet.text import unknown_words

    words = (word for each in setup.vocabularies.values() for word in unknown_words(setup.model.config, each))
    return list(dict.fromkeys(words))
