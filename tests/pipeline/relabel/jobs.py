"""Jobs with the real network in this process, and the vocabularies that they are relabelled with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from escnet.models import load_model, resolve_model
from escnet.segmenter import Segmenter
from pipeline.annotation.annotate import annotate
from pipeline.demo_world.folder import world_scene
from pipeline.demo_world.names import OBJECTS
from pipeline.relabel import RelabelReport, RelabelRequest, relabel
from schemas.job import JobRequest

CLASSES: list[dict[str, Any]] = [
    {"id": 0, "name": "grass", "parent": "plants"},
    {"id": 1, "name": "sand", "parent": "ground"},
    {"id": 2, "name": "water", "prompts": ["water", "sea"], "min_confidence": 0.4},
    {"id": 3, "name": "brick", "parent": "ground"},
    {"id": 4, "name": "plants", "prompts": [], "parent": "ground"},
    {"id": 5, "name": "red star", "parent": "star", "min_margin": 0.2},
    {"id": 6, "name": "star", "parent": "shape"},
    {"id": 7, "name": "blue circle", "parent": "shape"},
    {"id": 8, "name": "shape", "prompts": []},
    {"id": 9, "name": "ground", "prompts": []},
]
DISTRACTORS: list[dict[str, Any]] = [
    {"prompts": ["snow"]}, {"prompts": ["wood"], "becomes": 3}, {"prompts": ["gravel"], "becomes": 1},
]  # fmt: skip


def words(changes: dict[str, dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A vocabulary like the first, but for keys of classes by name, and of the whole."""
    classes = [{**each, **(changes or {}).get(each["name"], {})} for each in CLASSES]
    return {"name": "w", "classes": classes, "distractors": DISTRACTORS, **more}


def all_classes(**keys: Any) -> dict[str, dict[str, Any]]:
    return {each["name"]: keys for each in CLASSES}


def renumbered() -> dict[str, Any]:
    """Other ids, so high that masks need 16 bits; other names; the same prompts in another order."""
    classes = [{**each, "prompts": each.get("prompts", [each["name"]]), "id": 300 - each["id"]} for each in CLASSES]
    for each in classes:
        each["name"] = f"the {each['name']}"
        each["prompts"] = each["prompts"][::-1]
        if "parent" in each:
            each["parent"] = f"the {each['parent']}"
    becomes = [{**each, **({"becomes": 300 - each["becomes"]} if "becomes" in each else {})} for each in DISTRACTORS]
    return {"name": "w", "classes": classes[::-1], "distractors": becomes[::-1]}


def swapped() -> dict[str, Any]:
    """A class that became a distractor, and a distractor that became a class."""
    classes = [each for each in CLASSES if each["name"] != "sand"] + [{"id": 20, "name": "snow"}]
    distractors = [{"prompts": ["sand"]}, {"prompts": ["wood"]}, {"prompts": ["gravel"], "becomes": 20}]
    return {"name": "w", "classes": classes, "distractors": distractors}


EDITS: dict[str, dict[str, Any]] = {
    "tighter": words(all_classes(min_confidence=0.7, min_margin=0.5)),
    "looser": words(all_classes(min_confidence=0.0, min_margin=0.0)),
    "one tighter, one looser": words({"grass": {"min_confidence": 0.9}, "red star": {"min_margin": 0.01}}),
    "16 bit": words(ignore_id=65535),
    "renumbered": renumbered(),
    "swapped": swapped(),
    "other colours": words(all_classes(color="#102030")),
    "parents": words(level="parent"),
    "roots": words({"brick": {"min_confidence": 0.6}}, level="top"),
}


@dataclass
class Jobs:
    """Label and relabel the pictures of one folder."""

    pictures: Path
    folder: Path
    segmenter: Segmenter

    def vocabulary(self, content: dict[str, Any], name: str = "words") -> str:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(path)

    def label(self, output: object, *vocabularies: dict[str, Any], **options: Any) -> Path:
        files = [self.vocabulary(each, f"words-{k}") for k, each in enumerate(vocabularies)]
        given = {"sources": [str(self.pictures)], "shard_size": 3, "views": "single", **options}
        request = JobRequest(vocabularies=files, model="escnet-nano", output=str(output), gpus_per_actor=0, **given)
        annotate(request, load_segmenter=lambda _: self.segmenter)
        return Path(str(output))

    def relabel(self, output: object, other: object, *vocabularies: dict[str, Any], **options: Any) -> RelabelReport:
        files = tuple(self.vocabulary(each, f"new-{k}") for k, each in enumerate(vocabularies))
        return relabel(RelabelRequest(str(output), str(other), files, **{"workers": 1, **options}))


def nano() -> Segmenter:
    return Segmenter(load_model(resolve_model("escnet-nano")), views="single")


def contents(output: Path) -> dict[str, bytes]:
    """Every file of an output, but for its lock and what tells of its runs."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name != ".lock"]
    files = [path for path in files if path.relative_to(output).parts[0] != "runs"]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def shrunk(path: Path, place: Path) -> None:
    """A small copy of a photograph, with sides that no cell divides."""
    with Image.open(path) as photo:
        photo.convert("RGB").resize((157, 118)).save(place)


def draw_scenes(folder: Path, n: int) -> None:
    """The first few scenes of a demo world."""
    folder.mkdir()
    for k in range(n):
        Image.fromarray(world_scene(OBJECTS[:36], 5, k, 128).picture).save(folder / f"{k}.png")
