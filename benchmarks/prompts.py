"""Several prompts for one class: one average in embedding space, or the best of them at each pixel.

    python benchmarks/prompts.py --n 60 --json benchmarks/prompts.json

On scenes of the demo world, with the network in the box. Three vocabularies: the names of the scenes with their
synonyms (crimson disc for red circle), the same with names that leave the pattern out as third prompts, and 15 classes
that are each made of unlike words. Every class has one prompt; the average of its prompts, as in a vocabulary file; the
best of them, its largest logit; or its first prompt and distractors that become it (`becomes`), as a file can have it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from escnet.models import load_model, resolve_model
from escnet.scoring import per_pixel, score
from escnet.segmenter import Segmenter
from escnet.text import CompiledVocabulary
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import ObjectName, draw_names, world_vocabulary
from pipeline.demo_world.scenes import Scene
from pipeline.evaluation.judge import classes_of_codes
from pipeline.evaluation.scores import NO_CLASS, PixelCounts
from schemas.vocabulary import Distractor, Vocabulary, VocabularyClass

UNIONS = {
    "plants": ("grass", "straw", "wood"),
    "stone": ("brick", "gravel", "marble", "tiles", "asphalt"),
    "loose": ("sand", "snow"),
    "open": ("water", "sky"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-nano")
    parser.add_argument("--n", type=int, default=60, help="scenes")
    parser.add_argument("--seed", type=int, default=12_345, help="of the world")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    segmenter = Segmenter(load_model(resolve_model(options.model)), views="single")
    objects = draw_names(options.seed, N_OBJECTS)
    scenes = [world_scene(objects, options.seed, number) for number in range(options.n)]
    report = {"model": options.model, "seed": options.seed, "scenes": options.n}
    for name, vocabulary in vocabularies(objects).items():
        truth = truth_of(vocabulary, objects)
        report[name] = {
            "one prompt": measure(segmenter, scenes, with_prompts(vocabulary, lambda each: each.prompts[:1]), truth),
            "average": measure(segmenter, scenes, vocabulary, truth),
            "best of": measure(segmenter, scenes, vocabulary, truth, is_best_of=True),
            "becomes": measure(segmenter, scenes, with_distractors(vocabulary), truth),
        }
        print(json.dumps({name: report[name]}, indent=2), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def vocabularies(objects: list[ObjectName]) -> dict[str, Vocabulary]:
    """What is compared; the first prompt of every class is the name that the masks were made with."""
    synonyms = world_vocabulary(objects, name="synonyms", synonyms=True)
    shorter = {str(each): f"{each.colour} {each.shape}" for each in objects}
    looser = with_prompts(synonyms, lambda each: (*each.prompts, shorter.get(each.name, each.name)))
    shapes: dict[str, list[str]] = {}
    for each in objects:
        shapes.setdefault(each.shape, []).append(str(each))
    unions = [*UNIONS.items(), *sorted(shapes.items())]
    classes = [VocabularyClass(id=k, name=name, prompts=tuple(words)) for k, (name, words) in enumerate(unions)]
    unlike = Vocabulary(name="unlike", classes=tuple(classes))
    return {"synonyms": synonyms, "synonyms and shorter names": looser, "unlike words": unlike}


def with_prompts(vocabulary: Vocabulary, prompts: Callable[[VocabularyClass], tuple[str, ...]]) -> Vocabulary:
    """The vocabulary with other prompts, each once; one whose prompts another class has too keeps its first only."""
    classes = [each.model_copy(update={"prompts": tuple(dict.fromkeys(prompts(each)))}) for each in vocabulary.classes]
    return Vocabulary(name=vocabulary.name, classes=tuple(classes))


def with_distractors(vocabulary: Vocabulary) -> Vocabulary:
    """All prompts but the first of each class as distractors that become it."""
    owner = {prompt: each.id for each in reversed(vocabulary.classes) for prompt in reversed(each.prompts)}
    first = with_prompts(vocabulary, lambda each: each.prompts[:1])
    taken = {each.prompts[0] for each in first.classes}
    distractors = [
        Distractor(prompts=(prompt,), becomes=class_id) for prompt, class_id in owner.items() if prompt not in taken
    ]
    return Vocabulary(name=vocabulary.name, classes=first.classes, distractors=tuple(distractors))


def truth_of(vocabulary: Vocabulary, objects: list[ObjectName]) -> np.ndarray:
    """By id in the masks of the scenes: the id of the class with that prompt."""
    by_prompt = {prompt: each.id for each in reversed(vocabulary.classes) for prompt in reversed(each.prompts)}
    names = world_vocabulary(objects, name="scenes").classes
    table = np.full(NO_CLASS + 1, NO_CLASS, np.uint16)
    for each in names:
        table[each.id] = by_prompt[each.name]
    return table


def measure(
    segmenter: Segmenter, scenes: list[Scene], vocabulary: Vocabulary, truth: np.ndarray, *, is_best_of: bool = False
) -> dict[str, float]:
    """mIoU, pixel accuracy and calibration error, each in [0, 1]; entries are what a picture costs."""
    compiled, owners = compile_prompts(segmenter, vocabulary) if is_best_of else (segmenter.compile(vocabulary), None)
    classes, first_code = classes_of_codes(vocabulary)
    counts = PixelCounts([each.id for each in vocabulary.classes])
    for scene in scenes:
        codes, logits = segmenter.logits(segmenter.prepare(scene.picture), compiled)
        if owners is not None:
            codes, logits = best_of(logits, owners)
        found = score(logits, codes, scene.mask.shape, segmenter.network.config)
        counts.update(classes[found.winner - first_code], truth[scene.mask], confidence=per_pixel(found).confidence)
    scores = counts.scores()
    figures = {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "ece": scores.ece or 0.0}
    return {"entries": len(compiled.codes)} | {name: round(value, 4) for name, value in figures.items()}


def compile_prompts(segmenter: Segmenter, vocabulary: Vocabulary) -> tuple[CompiledVocabulary, np.ndarray]:
    """Every prompt as an entry of its own, and the class id of each."""
    owner = {prompt: each.id for each in reversed(vocabulary.classes) for prompt in reversed(each.prompts)}
    classes = [VocabularyClass(id=k, name=prompt) for k, prompt in enumerate(owner)]
    compiled = segmenter.compile(Vocabulary(name="prompts", classes=tuple(classes)))
    ids = list(owner.values())
    return compiled, np.array([ids[code] for code in compiled.codes], np.int32)


def best_of(logits: Tensor, owners: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """The class ids, ascending, and for each the largest logit of its prompts."""
    ids, places = np.unique(owners, return_inverse=True)
    best = torch.full((len(ids), *logits.shape[1:]), -torch.inf)
    index = torch.from_numpy(places).view(-1, 1, 1).expand_as(logits)
    return ids.astype(np.int32), best.scatter_reduce(0, index, logits, "amax")


if __name__ == "__main__":
    main()
