"""Micro-batches by number: whatever the number of workers and loader processes, a step sees the same pictures."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from escnet.base_config import ModelConfig
from escnet.clip import build_tokenizer
from escnet.losses import IGNORED
from escnet.training import TrainingBatch, Words
from pipeline.training.config import Stage, TrainingConfig
from pipeline.training.naming import Naming
from pipeline.training.samples import Sample, SampleSource, seeded
from schemas.errors import EscnetError

_PREFETCHED = 3  # micro-batches, for each loader process


@dataclass(frozen=True)
class Worker:
    """One of the processes that train together."""

    rank: int = 0
    n_workers: int = 1


class MicroBatches(Dataset[TrainingBatch]):
    """The micro-batches of a stage for one worker, by their number in the stage.

    A step has `batch_size / micro_batch_size` of them; the workers share them out. Each has pictures of one source,
    since the words of a batch compete with each other.
    """

    def __init__(
        self,
        config: TrainingConfig,
        stage_index: int,
        model: ModelConfig,
        sources: Sequence[SampleSource],
        worker: Worker,
    ) -> None:
        self._stage: Stage = config.stages[stage_index]
        self._key = (config.seed, stage_index)
        self._templates = config.templates
        self._model = model
        self._sources = sources
        self._bounds = list(accumulate(source.weight for source in self._stage.data))
        self._tokenizer = build_tokenizer(model)
        self._worker = worker
        n_a_step = self._stage.batch_size // self._stage.micro_batch_size
        self.n_a_step = n_a_step // worker.n_workers  # of this worker

    def __len__(self) -> int:
        return self._stage.steps * self.n_a_step

    def __getitem__(self, index: int) -> TrainingBatch:
        step, mine = divmod(index, self.n_a_step)
        number = (step * self._worker.n_workers + self._worker.rank) * self.n_a_step + mine  # over all workers
        rng = seeded(*self._key, number)
        place = bisect(self._bounds, rng.random() * self._bounds[-1])
        source = self._sources[min(place, len(self._sources) - 1)]
        first = number * self._stage.micro_batch_size
        samples = [source.sample(first + i) for i in range(self._stage.micro_batch_size)]
        present = np.unique(np.concatenate([np.unique(sample.mask) for sample in samples])).tolist()
        namings = source.namer.name(rng, present)
        return self._batch(samples, namings, rng.choice(self._templates))

    def _batch(self, samples: Sequence[Sample], namings: Sequence[Naming], template: str) -> TrainingBatch:
        pictures = torch.from_numpy(np.stack([sample.picture for sample in samples]))
        mean, std = torch.tensor(self._model.image_mean), torch.tensor(self._model.image_std)
        pixels = ((pictures / 255 - mean) / std).movedim(-1, 1).contiguous()
        masks = np.stack([sample.mask for sample in samples])
        ids, places = np.unique(masks, return_inverse=True)
        words = (self._words(ids.tolist(), places.reshape(masks.shape), naming, template) for naming in namings)
        return TrainingBatch(pixels, tuple(words))

    def _words(self, ids: Sequence[int], places: np.ndarray, naming: Naming, template: str) -> Words:
        """`places` are those of the masks' pixels in `ids`; an id without a name is `IGNORED`."""
        of_id = np.array([naming.places.get(each, IGNORED) for each in ids], np.int64)
        tokens = self._tokenizer([template.replace("{}", name) for name in naming.names])
        return Words(torch.from_numpy(of_id[places]), tokens, torch.arange(len(naming.names)))


def load(batches: MicroBatches, first_step: int, n_processes: int) -> Iterator[TrainingBatch]:
    """The micro-batches of a stage in their order, from a step on, made ahead by `n_processes` processes.

    Raises:
        InputError: a picture or mask that cannot be used, when its turn comes.
    """
    numbers = range(first_step * batches.n_a_step, len(batches))
    loader = DataLoader(
        _Carried(batches),
        batch_size=None,
        sampler=numbers,
        num_workers=n_processes,
        prefetch_factor=_PREFETCHED if n_processes else None,
        persistent_workers=False,
        multiprocessing_context="fork" if n_processes else None,
    )
    for found in loader:
        if isinstance(found, EscnetError):
            raise found
        yield found


class _Carried(Dataset[TrainingBatch | EscnetError]):
    """Hands errors over as values: raised in another process, they would come with its traceback for a message."""

    def __init__(self, batches: MicroBatches) -> None:
        self._batches = batches

    def __getitem__(self, index: int) -> TrainingBatch | EscnetError:
        try:
            return self._batches[index]
        except EscnetError as error:
            return error
