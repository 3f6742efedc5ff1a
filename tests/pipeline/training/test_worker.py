"""What a worker adds to the loop: where a run starts, and what its checkpoint says of its making."""

import pytest

from escnet.checkpoint import save_checkpoint
from pipeline.storage import StorageOptions
from pipeline.training.config import TrainingConfig
from pipeline.training.task import Task
from pipeline.training.worker import _provenance
from tests.escnet.tiny import tiny_network

ALIGNMENT, BOTH = {"segmentation": 0, "alignment": 1}, {"segmentation": 1, "alignment": 1}
PRESET = {"preset": "escnet-nano"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(tiny_network(n_blocks=1, trained_tokens=(320, 530)), path, {"untrained_parts": ["decoder"]})
    return str(path)


def untrained_parts(folder, model, *losses) -> list[str]:
    stages = [
        {"name": f"{i}", "steps": 1, "data": [{"demo_world": "scenes"}], "losses": each}
        for i, each in enumerate(losses)
    ]
    config = TrainingConfig(name="n", model=model, trainable="all", stages=stages)
    task = Task(config, {}, str(folder), {}, [], StorageOptions(), uses_gpu=False, n_threads=1, n_loader_processes=0)
    return _provenance(task, tiny_network())["untrained_parts"]


def test_parts_stay_untrained_until_a_stage_has_a_segmentation_loss(start, tmp_path):
    assert untrained_parts(tmp_path, {"checkpoint": start}, ALIGNMENT) == ["decoder"]
    assert untrained_parts(tmp_path, {"checkpoint": start}, ALIGNMENT, BOTH) == []
    assert untrained_parts(tmp_path, PRESET | {"clip_from": start}, ALIGNMENT) == ["blocks", "decoder"]
    assert untrained_parts(tmp_path, PRESET, ALIGNMENT) == ["blocks", "decoder"]
    assert untrained_parts(tmp_path, PRESET, ALIGNMENT, BOTH) == []
