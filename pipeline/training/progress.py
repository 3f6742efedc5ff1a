"""Progress of a run: a bar in a terminal, plain lines elsewhere, by what workers tell and write in the curve."""

import os
import sys
import time
from types import TracebackType

from pipeline.progress import LINE_EVERY_S, bar, say
from pipeline.training.curves import CSV_FILE, SCORES, Record, read_curves
from pipeline.training.run_folder import told_step
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
        self._step = step
        self._begun = self._first = step  # `_first` from which the pace is taken
        self._said = step  # by the last line
        self._n_measured = step  # the step of the last scores that were said
        self._line: Record = {}  # the newest of the curve
        self._seen_at = 0.0
        self._started = self._last_line = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._bar = bar(n_steps, step, "steps")

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        say(text)

    def look(self, *, is_last: bool = False) -> None:
        """Show how far the run is by now. `is_last`: with a line, however soon after the one before."""
        now = time.monotonic()
        scored = self._read_curve()
        step = max(self._step, told_step(self._folder), int(self._line.get("step", 0)))
        if self._step == self._begun < step:
            self._first, self._started = step, now  # what was loaded until now is no part of the pace
        self._bar.update(step - self._step)
        self._bar.refresh()  # the time that has passed, however long a step takes
        self._step = step
        is_due = now - self._last_line >= LINE_EVERY_S
        is_news = step > self._said
        if (is_due and (is_news or step == self._begun)) or (is_last and is_news):
            self._write_line(now)
        for record in scored:
            self.say(f"step {int(record['step']):,}: {scores_text(record)}")

    def _read_curve(self) -> list[Record]:
        """The scores that are new there."""
        try:
            written_at = os.stat(os.path.join(self._folder, CSV_FILE)).st_mtime
        except FileNotFoundError:
            return []
        if written_at == self._seen_at:
            return []
        self._seen_at = written_at
        records = read_curves(self._folder)
        lines = [record for record in records if "loss" in record]
        if lines and int(lines[-1]["step"]) > int(self._line.get("step", self._begun)):
            self._line = lines[-1]
            self._bar.set_postfix_str(_loss_text(self._line))
        scored = [record for record in records if int(record["step"]) > self._n_measured and scores_text(record)]
        self._n_measured = max([self._n_measured, *(int(record["step"]) for record in scored)])
        return scored

    def _write_line(self, now: float) -> None:
        self._last_line, self._said = now, self._step
        if not self._is_terminal:
            self.say(self._words(now))

    def _words(self, now: float) -> str:
        done = f"step {self._step:,} of {self._n_steps:,}"
        if self._step == self._begun:
            return f"{done}; the network is being loaded"
        loss = f", {_loss_text(self._line)}" if self._line else ""
        if self._step in (self._first, self._n_steps):
            return done + loss
        left = (now - self._started) / (self._step - self._first) * (self._n_steps - self._step)
        return f"{done}{loss}, {duration_text(left)} left"


def _loss_text(line: Record) -> str:
    return f"loss {line['loss']:.4f}, {line['pictures_a_second']:.1f} pictures/s"


def scores_text(record: Record) -> str:
    """Such as "mIoU 0.412, mIoU held-out 0.381, patch accuracy 0.733"."""
    return ", ".join(f"{_SAID[name]} {record[name]:.3f}" for name in SCORES if name in record)
