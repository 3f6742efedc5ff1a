"""Measuring while training."""

import numpy as np
import pytest
import torch

from escnet.segmenter import Segmenter
from pipeline.training import validation
from pipeline.training.samples import Sample
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_network

WORDS = Vocabulary(name="words", classes=["dark", "bright"])


class GpuSegmenter(Segmenter):
    """Sets what a segmenter in float32 sets on a GPU."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("fails", [False, True])
def test_training_goes_on_with_the_precision_of_convolutions_that_it_had(monkeypatch, fails):
    monkeypatch.setattr(validation, "Segmenter", GpuSegmenter)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    picture = np.zeros((40, 40, 3), np.uint8)
    samples = [None if fails else Sample(picture, np.zeros((40, 40), np.int32))]
    validator = validation.Validator(samples, WORDS, every=1)
    network = tiny_network(n_blocks=1, trained_tokens=(320, 530))
    if fails:
        with pytest.raises(AttributeError):
            validator.measure(network, segments=False)
    else:
        assert set(validator.measure(network, segments=False)) == {"patch_accuracy"}
    assert torch.backends.cudnn.allow_tf32
