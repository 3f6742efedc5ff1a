"""Whole jobs over tiny pictures for tests: all but the network and Ray, whose part a stand-in has in this process."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.actors.actor import make_runner
from pipeline.actors.orders import ShardOrder
from pipeline.annotation.annotate import JobReport, annotate
from pipeline.annotation.labelling import replica_setup
from schemas.errors import StoppedError
from schemas.job import JobRequest
from tests.pipeline.stand_in import load


@dataclass
class Labelling:
    """Takes the place of `label_shards`: labels here, keeps in mind what, and stops after `stop_after` shards."""

    vocabularies: list[str] = field(default_factory=list)
    stop_after: int = 1000

    def __call__(self, job, run, *, load_segmenter, check, on_result):
        runner = make_runner(replica_setup(job, run, load_segmenter))
        self.vocabularies = []
        for ref in run.shards:
            check()
            if len(self.vocabularies) == self.stop_after:
                raise StoppedError("stopped")
            on_result(runner.run(ShardOrder(ref)))
            self.vocabularies.append(ref.vocabulary)


@dataclass
class World:
    """Pictures and words on disk, and the jobs over them."""

    folder: Path

    def draw(self, name: str, value: int, size_hw=(4, 6)) -> None:
        path = self.folder / "photos" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((*size_hw, 3), value, np.uint8)).save(path)

    def erase(self, name: str) -> None:
        (self.folder / "photos" / f"{name}.png").unlink()

    def words(self, name: str, *classes: str) -> str:
        path = self.folder / f"{name}.yaml"
        path.write_text(f"name: {name}\nclasses: [{', '.join(classes)}]\n")
        return str(path)

    def annotate(self, output: object, *, source: str = "photos", load=load, **options) -> JobReport:
        given = {"vocabularies": [str(self.folder / "w.yaml")], "shard_size": 2, **options}
        return annotate(
            JobRequest(
                sources=[str(self.folder / source)], output=str(output), model="escnet-nano", allow_random_weights=True,
                **given,
            ),
            load_segmenter=load,
        )  # fmt: skip


def small_world(folder: Path) -> World:
    """Six pictures and a vocabulary of two classes, of which the stand-in takes one by the last bit of a value."""
    found = World(folder)
    for i in range(6):
        found.draw(str(i), 10 + i)
    found.words("w", "even", "odd")
    return found
