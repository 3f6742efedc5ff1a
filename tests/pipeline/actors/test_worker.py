"""When actors that die as they load the model end a job."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from pipeline.actors.worker import MAX_TRIES, Worker, check_loading
from schemas.errors import JobFailedError


class Counting:
    """A Ray that knows how often each of its actors was restarted."""

    exceptions = SimpleNamespace(RaySystemError=RuntimeError)

    def __init__(self, *n_restarts):
        state = SimpleNamespace(actors=lambda number: {"NumRestarts": n_restarts[int(number, 16)]})
        self._private = SimpleNamespace(state=state)


def workers(*lives):
    named = [SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda i=i: hex(i))) for i in range(len(lives))]
    return [Worker(i, named[i], **life) for i, life in enumerate(lives)]


DIES = {"n_deaths_loading": MAX_TRIES}


@pytest.mark.parametrize(
    ("other", "n_restarts", "ends"),
    [
        ({"is_ready": True, "has_loaded": True}, 0, False),
        ({}, 0, True),
        ({"has_loaded": True, "n_restarts": 2}, 2, False),  # a picture ended it, and it starts anew
        ({"has_loaded": True, "n_restarts": 2}, 2 + MAX_TRIES, True),
        ({"has_loaded": True, "n_deaths_loading": MAX_TRIES}, 0, True),
    ],
)
def test_a_worker_that_dies_loading_ends_the_job_unless_another_can_load_the_model(other, n_restarts, ends):
    crew = workers(DIES, other)
    with pytest.raises(JobFailedError, match="loading the model") if ends else nullcontext():
        check_loading(Counting(0, n_restarts), [crew[0]], crew)


def test_deaths_that_no_call_told_of_count_as_well():
    crew = workers({}, {})
    check_loading(Counting(MAX_TRIES - 1, 0), crew, crew)
    with pytest.raises(JobFailedError, match=f"died {MAX_TRIES} times at loading the model"):
        check_loading(Counting(0, MAX_TRIES), crew, crew)
