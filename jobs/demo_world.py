"""`escnet demo-world`: pictures with ground truth to try everything on, drawn rather than downloaded."""

import shlex
from typing import TYPE_CHECKING

import click

from jobs.options import storage
from schemas.quantities import counted

if TYPE_CHECKING:
    from pipeline.demo_world.folder import WrittenWorld

MOST_SCENES = 100_000  # names of pictures have five digits


@click.command(
    "demo-world",
    short_help="Draw scenes of objects with exact masks, to try things out.",
    epilog="""\b
Examples:
  escnet demo-world --n 100 --seed 1 --output world/
  escnet demo-world --n 500 --seed 2 --all-names --output s3://bucket/world/
  escnet demo-world --n 20 --seed 3 --size 512 --n-objects 60 --synonyms --output large/

The same options give the same bytes. docs/demo-world.md says what there is to see, and what is hard about it.
""",
)
@click.option(
    "--n", "n_scenes", type=click.IntRange(1, MOST_SCENES), required=True, metavar="N", help="Scenes to draw."
)
@click.option(
    "--seed", type=click.IntRange(min=0), required=True, metavar="S", help="Decides the names and every scene."
)
@click.option("--output", required=True, metavar="DIR", help="New or empty folder or object-storage prefix.")
@click.option(
    "--size", "side_px", type=click.IntRange(64, 2048), default=256, show_default=True, help="Side in pixels."
)
@click.option(
    "--n-objects", type=int, default=36, show_default=True,
    help="Names of objects in the scenes, an even number up to 168; half of them are held out.",
)  # fmt: skip
@click.option("--all-names", is_flag=True, help="All 492 names in the vocabulary; pictures and masks stay as they are.")
@click.option("--synonyms", is_flag=True, help="A second prompt for names that can be said in other words.")
@storage
def demo_world(
    n_scenes: int,
    seed: int,
    output: str,
    side_px: int,
    n_objects: int,
    all_names: bool,
    synonyms: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Draw scenes of objects on textured ground: images/, masks/, vocabulary.yaml and manifest.parquet in DIR.

    An object has a colour, a pattern and a shape, and so it is named: "red striped star". Half of the objects are
    combinations that training on the demo world never sees, marked `heldout: true` in the vocabulary. Masks are
    exact.
    """
    from pipeline.demo_world.folder import write_world
    from pipeline.storage import StorageOptions

    written = write_world(
        output,
        n_scenes=n_scenes,
        seed=seed,
        n_objects=n_objects,
        all_names=all_names,
        synonyms=synonyms,
        side_px=side_px,
        storage=StorageOptions(endpoint_url, profile),
    )
    for line in _summary_lines(written):
        click.echo(line)


def _summary_lines(written: "WrittenWorld") -> list[str]:
    from pipeline.demo_world.folder import MANIFEST_FILE, VOCABULARY_FILE
    from pipeline.storage import join

    classes = written.vocabulary.classes
    seen = [each for each in classes if written.pixels[each.id]]
    manifest = shlex.quote(join(written.output, MANIFEST_FILE))
    vocabulary = shlex.quote(join(written.output, VOCABULARY_FILE))
    scenes = counted(written.n_scenes, "scene")
    return [
        f"{written.output}: {scenes} of {written.side_px} x {written.side_px} px",
        f"  classes: {len(classes)}, of them {sum(each.heldout for each in classes)} held out",
        f"  drawn:   {len(seen)}, of them {sum(each.heldout for each in seen)} held out",
        f"  label:   escnet annotate {manifest} --vocabulary {vocabulary} --model escnet-nano --output LABELS",
        f"  measure: escnet evaluate LABELS --ground-truth {manifest}",
    ]
