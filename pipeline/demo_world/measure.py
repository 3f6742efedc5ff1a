"""How well a network labels scenes of the demo world, without files and without Ray: for tests and quick looks."""

from escnet.segmenter import Segmenter
from pipeline.demo_world.attributes import AttributeCounts
from pipeline.demo_world.folder import N_OBJECTS, world_scene
from pipeline.demo_world.names import MATERIALS, OBJECTS, class_id, draw_names, world_vocabulary
from pipeline.evaluation.scores import PixelCounts


def measure(segmenter: Segmenter, *, seed: int, n_scenes: int, all_names: bool = False) -> dict[str, float]:
    """Scores on the first scenes of the world of a seed, each in [0, 1].

    Args:
        seed: of the world, whose 36 objects, half of them held out, are in the scenes.
        all_names: let all names of the world compete, not only those in the scenes and the materials.

    Returns:
        miou, miou_seen, miou_heldout, pixel_accuracy; worst_material, an IoU; colour, pattern and shape, shares of
        object pixels.
    """
    objects = draw_names(seed, N_OBJECTS)
    vocabulary = world_vocabulary(OBJECTS if all_names else objects, name="demo-world")
    compiled = segmenter.compile(vocabulary)
    counts, attributes = PixelCounts([each.id for each in vocabulary.classes]), AttributeCounts()
    for number in range(n_scenes):
        scene = world_scene(objects, seed, number)
        winner = segmenter(scene.picture, compiled).winner
        counts.update(winner, scene.mask)
        attributes.update(winner, scene.mask)
    scores = counts.scores()
    by_kind = {
        f"miou_{kind}": scores.mean_iou([each.id for each in vocabulary.classes if each.heldout is is_heldout])
        for kind, is_heldout in (("seen", False), ("heldout", True))
    }
    materials = {class_id(name) for name in MATERIALS}
    found = {
        "miou": scores.miou,
        **{name: value for name, value in by_kind.items() if value is not None},
        "pixel_accuracy": scores.pixel_accuracy,
        "worst_material": min((c.iou for c in scores.classes if c.id in materials and c.iou is not None), default=0.0),
    }
    return found | attributes.shares()
