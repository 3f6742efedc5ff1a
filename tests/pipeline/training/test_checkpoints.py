"""States of a run: the last two are kept, damaged ones passed over, those of another run refused."""

import os

import pytest
import torch

from pipeline.training.checkpoints import Checkpoints, differences
from schemas.errors import ModelError, OutputError

IDENTITY = {"seed": 1, "stages": [{"steps": 10, "data": [{"flip": True}]}]}


def state(step):
    return {"step": step, "network": {"w": torch.arange(3.0) + step}, "optimiser": {"state": {0: {"step": 1.0}}}}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(str(tmp_path), IDENTITY)


def test_a_new_run_has_none(checkpoints):
    assert (checkpoints.load(), checkpoints.latest_step(), checkpoints.damaged()) == (None, 0, [])


def test_the_last_state_is_read_as_it_was_and_two_are_kept(checkpoints, tmp_path):
    for step in (500, 1000, 1500):
        checkpoints.save(step, state(step))
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-000001000.pt", "step-000001500.pt"]
    found = checkpoints.load()
    assert (found["step"], found["network"]["w"].tolist(), checkpoints.latest_step()) == (
        1500,
        [1500, 1501, 1502],
        1500,
    )
    assert found["optimiser"] == state(1500)["optimiser"]


def test_a_damaged_state_is_passed_over_for_the_one_before(checkpoints, tmp_path):
    for step in (500, 1000):
        checkpoints.save(step, state(step))
    last = tmp_path / "checkpoints" / "step-000001000.pt"
    last.write_bytes(last.read_bytes()[:300])
    assert (checkpoints.load()["step"], checkpoints.latest_step(), checkpoints.damaged()) == (500, 500, [str(last)])
    (tmp_path / "checkpoints" / "step-000000500.pt").write_bytes(b"")
    for use in (checkpoints.load, checkpoints.latest_step):
        with pytest.raises(ModelError, match=r"step-000001000\.pt: is damaged, and so is what lies beside it"):
            use()


def test_code_in_a_state_is_not_run(checkpoints, tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    (tmp_path / "checkpoints").mkdir()
    torch.save({"identity": "{}", "state": Harm()}, tmp_path / "checkpoints" / "step-000000500.pt")
    with pytest.raises(ModelError, match="is damaged"):
        checkpoints.load()
    assert not (tmp_path / "harmed").exists()


def test_the_state_of_another_run_is_refused_saying_what_differs(checkpoints, tmp_path):
    checkpoints.save(500, state(500))
    other = {"seed": 1, "stages": [{"steps": 20, "data": [{"flip": False}]}]}
    with pytest.raises(ModelError) as caught:
        Checkpoints(str(tmp_path), other).load()
    said = "stages.0.data.0.flip: True there, False now; stages.0.steps: 10 there, 20 now"
    assert f"step-000000500.pt: the state of another run ({said}); choose another --output" in str(caught.value)


def test_many_differences_are_a_few_and_a_number():
    there, now = ({str(k): k + more for k in range(7)} for more in (0, 1))
    assert differences(there, now).endswith("3: 3 there, 4 now and 3 more")
    assert differences(there, there) == ""


def test_a_folder_that_cannot_be_written_is_one_line(checkpoints, tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(OutputError, match=r"step-000000500\.pt: cannot be written"):
        checkpoints.save(500, state(500))
