"""What a run of training says while it goes."""

from pipeline.training.curves import Curves
from pipeline.training.progress import TrainingProgress


def test_steps_and_scores_are_said_in_words(tmp_path, capsys):
    curves = Curves(str(tmp_path), step=0)
    curves.add({"step": 5, "stage": "one", "learning_rate": 0.1, "pictures_a_second": 3.21, "loss": 2.5})
    scores = {"miou": 0.5, "miou_seen": 0.625, "miou_heldout": 0.25, "pixel_accuracy": 0.75, "patch_accuracy": 0.8}
    curves.add({"step": 5, "stage": "one", **scores})
    with TrainingProgress(str(tmp_path), n_steps=5, step=0) as progress:
        progress.look(is_last=True)
    assert capsys.readouterr().err.splitlines() == [
        "step 5 of 5, loss 2.5000, 3.2 pictures a second, 0 s left",
        "step 5: mIoU 0.500, mIoU seen 0.625, mIoU held-out 0.250, pixel accuracy 0.750, patch accuracy 0.800",
    ]
