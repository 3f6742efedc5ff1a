"""What the real command labelled is proven by the real command, and a changed bit of it is found."""

import json

import numpy as np
from PIL import Image

from tests.e2e.command import annotate, escnet


def test_real_labels_are_proven_and_a_changed_bit_is_found(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((24, 32, 3), ord(name), np.uint8)).save(photos / f"{name}.png")
    annotate(photos, "--output", output, "--shard-size", 1, "--actors", 1)
    assert "proven: 2 of 2 rows in 2 label files" in escnet("verify", output, "--workers", 2).stdout
    found = json.loads(escnet("status", output, "--json", "-").stdout)
    assert (found["n_shards_done"], found["by_status"]) == (2, {"labelled": 2, "failed": 0})
    victim = sorted(output.glob("labels/*.parquet"))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    said = escnet("verify", output, code=1).stdout.splitlines()
    assert said[0] == f"{output}: not proven, 1 fault"
    assert said[2].startswith(f"  labels/{victim.name}: found ")
