"""What long work says of itself, in a terminal and elsewhere."""

import pytest
from tqdm import tqdm

from pipeline import progress
from pipeline.progress import Progress


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (40, "10 of 40 pictures, 2 failed, 0.50 a second, 1 min left"),
        (100_000, "10 of 100,000 pictures, 2 failed, 0.50 a second, 2 d 7 h left"),
    ],
)
def test_lines_say_the_time_left_in_words(monkeypatch, capsys, total, said):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(total) as shown:
        now[0] += 20
        shown.update(10, 2, is_loading=False)
    assert capsys.readouterr().err.splitlines() == [said]


@pytest.mark.parametrize(("n", "rate"), [(1, "0.10 pictures/s"), (50, "5.00 pictures/s")])
def test_the_bar_counts_pictures_a_second_however_slow_they_are(n, rate):
    text = tqdm.format_meter(n=n, total=100, elapsed=10, unit=" pictures", ncols=80, bar_format=progress.BAR)
    assert rate in text
    assert len(text) <= 80
