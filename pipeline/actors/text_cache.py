"""Text embeddings of a vocabulary, computed once a node and shared by its actors, and by later jobs.

A file is named by all that decides its bytes: the weights, the words as the network sees them, and what computes. So it
holds what an actor would have computed itself. The first actor computes under a lock, the others wait for it. A
cache that cannot be used (no room, no lock, a damaged file) is no obstacle: then every actor computes.
"""

import fcntl
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from escnet.base_network import Network
from escnet.text import embed_vocabulary
from pipeline.model_cache import cache_folder
from pipeline.storage.local_files import new_local_file
from schemas.fingerprint import fingerprint
from schemas.vocabulary import Vocabulary

MOST_FILES = 200  # the oldest go

_DIGEST_BYTES = 32


class TextCache:
    """The embeddings that one model gives vocabularies.

    Args:
        model: fingerprint of the weights.
        compute: what is called where there are none yet.
    """

    def __init__(self, model: str, compute: Callable[[Network, Vocabulary], Tensor] = embed_vocabulary) -> None:
        self._model, self._compute = model, compute

    def embed(self, network: Network, vocabulary: Vocabulary) -> Tensor:
        """What `embed_vocabulary` gives, bit for bit."""
        shape = (len(vocabulary.entries), network.config.clip["embed_dim"])
        path = cache_folder().parent / "text" / self._name(network, vocabulary)
        computed: Tensor | None = None
        try:
            with _locked(path):
                kept = _read(path, shape)
                if kept is not None:
                    return torch.from_numpy(kept)
                computed = self._compute(network, vocabulary)
                _write(path, computed.numpy())
        except OSError:
            pass
        return self._compute(network, vocabulary) if computed is None else computed

    def _name(self, network: Network, vocabulary: Vocabulary) -> str:
        device = next(network.parameters()).device
        if device.type == "cuda":
            computes = [torch.cuda.get_device_name(device)]
        else:
            computes = [torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())]
        versions = [importlib.metadata.version(name) for name in ("torch", "open_clip_torch")]
        return fingerprint([self._model, vocabulary.wording, computes, versions])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The array in a file; None if there is none, or not a whole one."""
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        digest, values = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if len(values) == 4 * shape[0] * shape[1] and hashlib.sha256(values).digest() == digest:
            return np.frombuffer(values, "<f4").reshape(shape).copy()
    return None


def _write(path: Path, values: np.ndarray) -> None:
    data = values.astype("<f4").tobytes()
    with new_local_file(str(path), replace=True) as file:
        file.write(hashlib.sha256(data).digest() + data)
    kept = sorted((p for p in path.parent.iterdir() if not p.suffix), key=lambda p: p.stat().st_mtime)
    for old in kept[:-MOST_FILES]:
        old.unlink(missing_ok=True)
