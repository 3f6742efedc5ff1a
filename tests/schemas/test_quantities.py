import pytest

from schemas.quantities import counted, duration_text, share_text, size_text


@pytest.mark.parametrize(
    ("n", "thing", "text"), [(1, "shard", "1 shard"), (0, "shard", "0 shards"), (1234, "class", "1,234 classes")]
)
def test_counts(n, thing, text):
    assert counted(n, thing) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (17_540_000, "17.5 MB"), (3e18, "3000.0 PB")],
)
def test_sizes(n_bytes, text):
    assert size_text(n_bytes) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "0.0%"), (1e-9, "<0.1%"), (0.0005, "0.1%"), (0.1249, "12.5%"), (1, "100.0%")]
)
def test_shares(fraction, text):
    assert share_text(fraction) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (40.4, "40 s"), (60, "1 min"), (3900, "1 h 5 min"), (3601, "1 h"), (183_600, "2 d 3 h")],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text
