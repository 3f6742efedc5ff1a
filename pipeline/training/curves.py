"""The curves of a run: one CSV line for every record, written as it goes, and a drawing of them."""

import csv
import io
import os
from collections.abc import Sequence
from itertools import pairwise

from pipeline.output import storing
from pipeline.storage.local_files import new_local_file

CSV_FILE = "curves.csv"
PNG_FILE = "curves.png"
LOSSES = ("loss", "segmentation", "alignment")
SCORES = ("miou", "miou_seen", "miou_heldout", "pixel_accuracy", "patch_accuracy")
_COLUMNS = ("step", "stage", "learning_rate", "pictures_a_second", *LOSSES, *SCORES)
_NAMES = {
    "miou": "mIoU", "miou_seen": "mIoU, seen classes", "miou_heldout": "mIoU, held-out classes",
    "pixel_accuracy": "pixel accuracy", "patch_accuracy": "patch accuracy",
}  # fmt: skip

Record = dict[str, float | int | str]


class Curves:
    """The files of one run, for the one process that writes them; it raises OutputError where it cannot.

    Args:
        run_folder: local; holds `curves.csv` and `curves.png`.
        step: from which the run goes on; later lines, of steps that are done again, are cut off.
    """

    def __init__(self, run_folder: str, step: int) -> None:
        self._folder = run_folder
        self._records = [record for record in read_curves(run_folder) if int(record["step"]) <= step]
        path = os.path.join(run_folder, CSV_FILE)
        with storing(path), new_local_file(path, replace=True) as file:
            file.write((_line(_COLUMNS) + "".join(map(_line_of, self._records))).encode())

    def add(self, record: Record) -> None:
        """Append a line; a record with scores also draws the curves anew."""
        self._records.append(record)
        path = os.path.join(self._folder, CSV_FILE)
        with storing(path), open(path, "a", encoding="utf-8") as file:
            file.write(_line_of(record))
        if any(name in record for name in SCORES):
            self.draw()

    def draw(self) -> None:
        """Write `curves.png`: losses, and scores beside them if there are any; stages apart by a line."""
        from matplotlib.figure import Figure  # here, so that lines can be read without it

        panels = [("Loss", LOSSES, None), ("Scores on pictures that are not trained on", SCORES, 1.0)]
        if not any(name in record for record in self._records for name in SCORES):
            del panels[1]
        figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
        for axes, (title, names, top) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _plot(axes, self._records, names)
            axes.set(title=title, xlabel="step", ylim=(0, top))
            for step in _stage_ends(self._records):
                axes.axvline(step, color="0.7", linewidth=1, linestyle=":")
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
            if axes.get_lines():
                axes.legend(frameon=False)
        path = os.path.join(self._folder, PNG_FILE)
        with storing(path), new_local_file(path, replace=True) as file:
            figure.savefig(file, format="png", dpi=110)


def read_curves(run_folder: str) -> list[Record]:
    """The records of a run so far, oldest first; without a line that is half written.

    Raises:
        OutputError: they cannot be read.
    """
    path = os.path.join(run_folder, CSV_FILE)
    with storing(path):
        try:
            with open(path, encoding="utf-8", newline="") as file:
                text = file.read()
        except FileNotFoundError:
            return []
    whole = text[: text.rfind("\n") + 1]
    return [_record(row) for row in csv.DictReader(io.StringIO(whole))]


def _record(row: dict[str, str]) -> Record:
    values: Record = {"step": int(row["step"]), "stage": row["stage"]}
    return values | {name: float(text) for name, text in row.items() if text and name not in values}


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _line_of(record: Record) -> str:
    return _line([str(record.get(name, "")) for name in _COLUMNS])


def _plot(axes, records: Sequence[Record], names: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    """A line for each name that has values; of losses that are all of the loss, the loss alone."""
    drawn: list[list[tuple[float, float]]] = []
    for name in names:
        points = [(float(record["step"]), float(record[name])) for record in records if name in record]
        if not points or points in drawn:
            continue
        drawn.append(points)
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, label=_NAMES.get(name, name), marker="." if len(points) < 40 else None, linewidth=1.5)


def _stage_ends(records: Sequence[Record]) -> list[int]:
    return [int(a["step"]) for a, b in pairwise(records) if a["stage"] != b["stage"]]
