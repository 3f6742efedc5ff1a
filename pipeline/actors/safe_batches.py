"""Batches that fit into memory: halved when they do not, and cut to the size that did from then on."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from schemas.errors import PictureError

log = logging.getLogger(__name__)

# Of an allocator on a CPU, of the driver, and of cuBLAS and cuDNN, which take memory that torch does not hand out.
_FULL = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


class SafeBatches:
    """Runs the model over batches of pictures; a batch that fails is halved until it does not.

    What ran out of memory is remembered by vocabulary and size of picture, so that it is found out once.
    """

    def __init__(self, segment: Callable[[list, Any], list]) -> None:
        self._segment = segment
        self._safe: dict[tuple[str, int], int] = {}

    @property
    def n_halved(self) -> int:
        """How many shapes are run in smaller batches than was asked for."""
        return len(self._safe)

    def segment(self, pictures: list, vocabulary: str, compiled: Any) -> list:
        """One result a picture: a segmentation or a PictureError.

        Args:
            pictures: prepared pictures, each with `size_hw`.
            vocabulary: its name.
        """
        if not pictures:
            return []
        # Of pictures as large, to a factor of two: what grows with a picture are its label maps.
        key = (vocabulary, max(h * w for h, w in (picture.size_hw for picture in pictures)).bit_length())
        size = self._safe.get(key, len(pictures))
        parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        return [result for part in parts for result in self._try(part, key, compiled)]

    def _try(self, pictures: list, key: tuple[str, int], compiled: Any) -> list:
        try:
            return self._segment(pictures, compiled)
        except Exception as error:
            failure = _segment_error(error)
        # Out of the handler, so that what the failed call held is free again before a part of it is tried.
        _return_gpu_memory()
        half = len(pictures) // 2
        if not half:
            return [failure]
        if failure.kind == "out_of_memory":
            self._safe[key] = min(half, self._safe.get(key, half))
        return self._try(pictures[:half], key, compiled) + self._try(pictures[half:], key, compiled)


def _segment_error(error: Exception) -> PictureError:
    if isinstance(error, PictureError):
        return error
    if is_out_of_memory(error):
        return PictureError("segment", "out_of_memory", "not enough memory to segment this picture alone")
    log.error("segment failed", exc_info=error)
    if type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error"):
        # The GPU answers this process with the same error from now on: the driver restarts it and finds the picture.
        os.kill(os.getpid(), signal.SIGKILL)
    return PictureError("segment", "internal", f"{type(error).__name__} while segmenting")


def is_out_of_memory(error: Exception) -> bool:
    """Python's error, torch's for a GPU, what torch raises on a CPU, or what CUDA and its libraries say."""
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return by_name or any(words in str(error) for words in _FULL)


def _return_gpu_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
