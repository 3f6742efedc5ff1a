"""A job on a disk that fills up: it says so, what it wrote is whole, and with more space it goes on."""

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.e2e.command import annotate
from tests.small_disk import small_disk

__all__ = ["small_disk"]


def test_a_job_whose_disk_fills_up_says_so_and_goes_on_when_there_is_space(small_disk, tmp_path):
    rng = np.random.default_rng(4)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    disk = small_disk(72)  # the plan takes 24 KiB, a shard 12 to 16
    output = disk.path / "labels"
    arguments = (tmp_path / "pictures", "--output", output, "--shard-size", 1, "--actors", 1)
    stopped = annotate(*arguments, code=1)
    assert "the disk is full; free some space and run again" in stopped.stderr.splitlines()[-1]
    done = sorted((output / "labels").iterdir())
    assert 0 < len(done) < 8
    assert all(pq.read_metadata(path).num_rows == 1 for path in done)
    assert {path.suffix for path in done} == {".parquet"}
    before = {path.name: path.read_bytes() for path in done}
    disk.remount("size=10m")
    annotate(*arguments)
    after = {path.name: path.read_bytes() for path in (output / "labels").iterdir()}
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
