"""Batches that do not fit, and GPUs that fail for good: on a real one. What needs none stands in test_shard.py."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.actors.safe_batches import SafeBatches, is_out_of_memory
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import draw_names, world_vocabulary
from schemas.errors import PictureError

N = 8  # pictures a batch
BALLAST = 256 * 2**20  # bytes a picture: a small network's own would be lost in what the allocator rounds


@pytest.mark.parametrize(
    ("said", "is_full"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_libraries_beside_torch_run_out_of_memory_too(said, is_full):
    assert is_out_of_memory(RuntimeError(said)) == is_full


class Watched:
    """A segmenter, the sizes of the batches it was given, and the GPU memory that a call may take."""

    def __init__(self) -> None:
        self.segmenter = Segmenter(load_model(resolve_model("escnet-nano")), device="cuda", views="single")
        objects = draw_names(1, N_OBJECTS)
        self.compiled = self.segmenter.compile(world_vocabulary(objects, name="words"))
        self.pictures = [self.segmenter.prepare(world_scene(objects, 1, number).picture) for number in range(N)]
        self.sizes: list[int] = []

    def segment(self, pictures, compiled):
        self.sizes.append(len(pictures))
        ballast = torch.empty(len(pictures) * BALLAST, dtype=torch.uint8, device="cuda")
        found = self.segmenter.segment(pictures, compiled)
        del ballast
        return found

    def peak_bytes(self, n_pictures: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.segment(self.pictures[:n_pictures], self.compiled)
        self.sizes.clear()
        return torch.cuda.max_memory_reserved()


@pytest.fixture
def watched():
    yield Watched()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def limit_gpu_memory(n_bytes: float) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(n_bytes / torch.cuda.get_device_properties(0).total_memory)


@pytest.mark.gpu
def test_a_batch_that_a_gpu_cannot_hold_is_halved_once_and_cut_from_then_on(watched):
    expected = watched.segmenter.segment(watched.pictures, watched.compiled)
    half, whole = watched.peak_bytes(N // 2), watched.peak_bytes(N)
    print(f"half {half:,} whole {whole:,} bytes")  # shown where this fails
    assert whole > half + N / 4 * BALLAST
    limit_gpu_memory((half + whole) / 2)
    batches = SafeBatches(watched.segment)
    found = batches.segment(watched.pictures, "words", watched.compiled)
    assert (watched.sizes, batches.n_halved) == ([N, N // 2, N // 2], 1)
    again = batches.segment(watched.pictures, "words", watched.compiled)
    assert watched.sizes[3:] == [N // 2, N // 2]
    for one, same, whole_batch in zip(found, again, expected, strict=True):
        assert np.array_equal(one.winner, same.winner)
        assert (one.winner == whole_batch.winner).mean() > 0.99


@pytest.mark.gpu
def test_a_picture_that_a_gpu_cannot_hold_alone_fails_and_later_ones_do_not(watched):
    one = watched.peak_bytes(1)
    torch.cuda.empty_cache()
    limit_gpu_memory((torch.cuda.memory_reserved() + one) / 2)
    batches = SafeBatches(watched.segment)
    (failure,) = batches.segment(watched.pictures[:1], "words", watched.compiled)
    assert isinstance(failure, PictureError)
    assert (failure.stage, failure.kind) == ("segment", "out_of_memory")
    torch.cuda.set_per_process_memory_fraction(1.0)
    (found,) = batches.segment(watched.pictures[:1], "words", watched.compiled)
    assert found.winner.shape == watched.pictures[0].size_hw


BREAK_THE_GPU = """
import torch
from types import SimpleNamespace
from pipeline.actors.safe_batches import SafeBatches

def segment(pictures, compiled):
    torch.zeros(3, device="cuda")[torch.tensor([5], device="cuda")].cpu()  # out of bounds: a device-side assertion

SafeBatches(segment).segment([SimpleNamespace(size_hw=(1, 1))], "words", None)
print("still here")
"""


@pytest.mark.gpu
def test_a_gpu_that_answers_every_call_with_an_error_ends_the_process():
    done = subprocess.run([sys.executable, "-c", BREAK_THE_GPU], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "still here" not in done.stdout
