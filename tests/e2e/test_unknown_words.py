"""Words that a model was never trained with are named before it labels a picture by them."""

import re

import numpy as np
import pytest
from PIL import Image

from escnet.checkpoint import save_checkpoint
from escnet.config import preset_config
from escnet.models import build_random
from tests.e2e.command import escnet


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures"


def test_annotate_names_the_words_a_model_does_not_know_in_one_line(pictures, tmp_path):
    save_checkpoint(build_random(preset_config("escnet-nano")), tmp_path / "mine.safetensors", {})
    (tmp_path / "words.txt").write_text("red star\nzebra\nzebra crossing")
    model = ("--model", tmp_path / "mine.safetensors", "--views", "single", "--actors", 1)
    done = escnet("annotate", pictures, *model, "--vocabulary", tmp_path / "words.txt", "--output", tmp_path / "out")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: mine.safetensors was never trained with 2 words used here (zebra, crossing); "
        "what it labels by them means nothing"
    ]
    assert re.search(r"1 picture in 1 shard.*\nwarning", done.stderr)
