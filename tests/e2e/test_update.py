"""An update by the real command: embedded Ray, and the small network with its own weights."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.command import digests, escnet


def draw(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(path)


def annotate(*arguments: object, code: int = 0) -> str:
    """What the command said."""
    nano = ("--model", "escnet-nano", "--views", "single", "--shard-size", 2, "--actors", 1)
    done = escnet("annotate", *nano, *arguments, code=code)
    return done.stdout + done.stderr


@pytest.fixture
def world(tmp_path) -> Path:
    """Four pictures in a folder, and two words."""
    (tmp_path / "photos").mkdir()
    for i in range(4):
        draw(tmp_path / "photos" / f"{i}.png", i)
    (tmp_path / "words.txt").write_text("sky\ngrass\n")
    return tmp_path


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_an_update_labels_what_changed_and_takes_over_the_rest(world):
    job = (world / "photos", "--vocabulary", world / "words.txt")
    old, new, fresh = (world / name for name in ("old", "new", "fresh"))
    annotate(*job, "--output", old)
    before = contents(old)
    draw(world / "photos" / "3.png", 9)
    with open(world / "photos" / "3.png", "ab") as file:
        file.write(b"\0")  # two drawings may have the same size
    refused = annotate(*job, "--output", old, code=2)
    assert "pictures: 4 there, 4 now: 1 changed ('3.png')" in refused
    assert f"`--update {old} --output NEW`" in refused

    said = annotate(*job, "--output", new, "--update", old)
    assert f"1 of 2 shards are taken over from {old}" in said
    assert "Done: 4 of 4 pictures are labelled. This run: 2 in" in said
    assert f"update:  1 of 2 shards taken over from {old}; pictures: 0 new, 1 changed, 0 gone" in said
    assert contents(old) == before
    annotate(*job, "--output", fresh)
    assert digests(new) == digests(fresh)
    assert len(digests(new).items() & digests(old).items()) == 1

    shutil.rmtree(old)
    assert "Nothing to do: 4 of 4" in annotate(*job, "--output", new, "--update", old)
    assert f"go on with --update {old}" in annotate(*job, "--output", new, code=2)
