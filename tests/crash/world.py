"""What the crash test labels: small pictures, some of them bad, under three vocabularies, and the request for it."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.job import JobRequest

N_PICTURES = 256
SHARD_SIZE = 4
N_SHARDS = 66  # 86 + 85 + 85 pictures of three vocabularies, four a shard
_BAD_EVERY = 16

_VOCABULARIES = {
    "plain": "name: plain\nclasses: [sky, water, road, tree]\n",
    "wide": "name: wide\nclasses: [{id: 300, name: sky}, {id: 7, name: water}, {id: 12, name: road}]\n",
    "strict": (
        "name: strict\n"
        "classes: [{id: 0, name: sky, min_confidence: 0.5}, {id: 1, name: boat, min_margin: 0.2}]\n"
        "distractors: [sea, {prompt: ship, becomes: boat}]\n"
    ),
}
_BAD_KINDS = ("truncated", "empty", "not_an_image", "not_found")
_STAGES = {"truncated": "decode", "empty": "fetch", "not_an_image": "decode", "not_found": "fetch"}


@dataclass(frozen=True)
class World:
    """A manifest and its vocabularies in a folder. `failed` counts by stage and kind what cannot be labelled."""

    manifest: Path
    vocabularies: tuple[Path, ...]
    n_rows: int
    failed: dict[str, int]

    def request(self, output: str, address: str) -> JobRequest:
        """Label everything on the cluster at `address`."""
        return JobRequest(
            sources=(str(self.manifest),),
            vocabularies=tuple(map(str, self.vocabularies)),
            model="escnet-b16",
            allow_random_weights=True,  # the stand-in has none
            output=output,
            address=address,
            actors=3,
            gpus_per_actor=0,
            shard_size=SHARD_SIZE,
        )


def make_world(folder: Path) -> World:
    """Draw the pictures; the same ones every time."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    names, failed = [], Counter[str]()
    for number in range(N_PICTURES):
        names.append(f"{number:03}.png")
        kind = _BAD_KINDS[number // _BAD_EVERY % len(_BAD_KINDS)] if number % _BAD_EVERY == _BAD_EVERY - 1 else None
        _write_picture(pictures / names[-1], number, kind)
        if kind:
            failed[f"{_STAGES[kind]}/{kind}"] += 1
    words = tuple(folder / f"{name}.yaml" for name in _VOCABULARIES)
    for path in words:
        path.write_text(_VOCABULARIES[path.stem])
    with open(folder / "manifest.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image_id", "uri", "vocabulary"))
        rows.writerows((name, pictures / name, words[k % len(words)].stem) for k, name in enumerate(names))
    return World(folder / "manifest.csv", words, len(names), dict(failed))


def _write_picture(path: Path, number: int, kind: str | None) -> None:
    noise = np.random.default_rng(number)
    height, width = (int(side) for side in noise.integers(24, 57, 2))
    coarse = noise.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((width, height)).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "not_an_image":
        path.write_text("no picture")
    elif kind == "not_found":
        path.unlink()
