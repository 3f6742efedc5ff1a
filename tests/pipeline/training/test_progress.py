"""What a run of training says while it goes."""

import pytest

from pipeline.training import progress as progress_module
from pipeline.training.curves import Curves
from pipeline.training.progress import TrainingProgress
from pipeline.training.run_folder import tell_step


def test_steps_and_scores_are_said_in_words(tmp_path, capsys):
    curves = Curves(str(tmp_path), step=0)
    curves.add({"step": 5, "stage": "one", "learning_rate": 0.1, "pictures_a_second": 3.21, "loss": 2.5})
    scores = {"miou": 0.5, "miou_seen": 0.625, "miou_heldout": 0.25, "pixel_accuracy": 0.75, "patch_accuracy": 0.8}
    curves.add({"step": 5, "stage": "one", **scores})
    with TrainingProgress(str(tmp_path), n_steps=5, step=0) as progress:
        progress.look(is_last=True)
    assert capsys.readouterr().err.splitlines() == [
        "step 5 of 5, loss 2.5000, 3.2 pictures/s",
        "step 5: mIoU 0.500, mIoU seen 0.625, mIoU held-out 0.250, pixel accuracy 0.750, patch accuracy 0.800",
    ]


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    times = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: times[-1])
    return times


def test_a_sign_of_life_comes_long_before_the_first_line_of_the_curve(tmp_path, capsys, clock):
    folder = str(tmp_path)
    with TrainingProgress(folder, n_steps=100, step=20) as progress:
        for after, step in ((3, None), (12, None), (14, 21), (25, 26), (26, 27), (41, 41)):
            if step is not None:
                tell_step(folder, step)
            clock.append(100.0 + after)
            progress.look()
        Curves(folder, step=20).add(
            {"step": 40, "stage": "one", "learning_rate": 0.1, "pictures_a_second": 3.21, "loss": 2.5}
        )
        tell_step(folder, 51)
        clock.append(154.0)
        progress.look()
        tell_step(folder, 52)
        progress.look()
        progress.look(is_last=True)
    assert capsys.readouterr().err.splitlines() == [
        "step 20 of 100; the network is being loaded",
        "step 26 of 100, 2 min 43 s left",
        "step 41 of 100, 1 min 20 s left",
        "step 51 of 100, loss 2.5000, 3.2 pictures/s, 1 min 5 s left",
        "step 52 of 100, loss 2.5000, 3.2 pictures/s, 1 min 2 s left",
    ]
