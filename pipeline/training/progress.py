"""Progress of a run: a bar in a terminal, plain lines elsewhere, read from the curve that the workers write."""

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

from pipeline.progress import BAR, LINE_EVERY_S, say
from pipeline.training.curves import CSV_FILE, SCORES, Record, read_curves
from schemas.quantities import duration_text

_SAID = {
    "miou": "mIoU", "miou_seen": "mIoU seen", "miou_heldout": "mIoU held-out", "pixel_accuracy": "pixel accuracy",
    "patch_accuracy": "patch accuracy",
}  # fmt: skip


class TrainingProgress:
    """Counts steps towards the last.

    Args:
        folder: of the run.
        n_steps: of the whole run.
        step: from which it goes on.
    """

    def __init__(self, folder: str, n_steps: int, step: int) -> None:
        self._folder, self._n_steps = folder, n_steps
        self._step = self._first = step
        self._n_measured = step  # the step of the last scores that were said
        self._seen_at = 0.0
        self._started = self._last_line = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=n_steps,
            initial=step,
            unit=" steps",
            smoothing=0.1,
            dynamic_ncols=True,
            bar_format=BAR,
            disable=not self._is_terminal,
        )

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        say(text)

    def look(self, *, is_last: bool = False) -> None:
        """Show what the curve says by now. `is_last`: the last line too, however soon after the one before."""
        try:
            written_at = os.stat(os.path.join(self._folder, CSV_FILE)).st_mtime
        except FileNotFoundError:
            return
        if written_at == self._seen_at and not is_last:
            return
        self._seen_at = written_at
        records = read_curves(self._folder)
        lines = [record for record in records if "loss" in record and int(record["step"]) > self._step]
        if lines:
            self._show(lines[-1], is_last)
        for record in records:
            if int(record["step"]) > self._n_measured and any(name in record for name in SCORES):
                self._n_measured = int(record["step"])
                self.say(f"step {self._n_measured:,}: {scores_text(record)}")

    def _show(self, record: Record, is_last: bool) -> None:
        step = int(record["step"])
        self._bar.update(step - self._step)
        self._bar.set_postfix_str(f"loss {record['loss']:.4f}, {record['pictures_a_second']:.1f} pictures/s")
        self._step = step
        now = time.monotonic()
        if self._is_terminal or (now - self._last_line < LINE_EVERY_S and not is_last):
            return
        self._last_line = now
        left = (now - self._started) / max(1, step - self._first) * (self._n_steps - step)
        self.say(
            f"step {step:,} of {self._n_steps:,}, loss {record['loss']:.4f}, "
            f"{record['pictures_a_second']:.1f} pictures a second, {duration_text(left)} left"
        )


def scores_text(record: Record) -> str:
    """Such as "mIoU 0.412, mIoU held-out 0.381, patch accuracy 0.733"."""
    return ", ".join(f"{_SAID[name]} {record[name]:.3f}" for name in SCORES if name in record)
