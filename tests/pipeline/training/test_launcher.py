"""What a run refuses before anything is started."""

import pytest

from pipeline.training.config import TrainingConfig
from pipeline.training.launcher import train
from schemas.errors import OutputError


def test_an_output_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    stage = {"name": "one", "steps": 1, "data": [{"demo_world": "scenes"}]}
    config = TrainingConfig(name="n", model={"preset": "escnet-nano"}, trainable="all", stages=[stage])
    with pytest.raises(OutputError) as caught:
        train(config, str(tmp_path / "file" / "run"))
    assert str(caught.value).startswith(str(tmp_path / "file" / "run"))
    assert "\n" not in str(caught.value)
