"""`escnet dataset`: benchmarks as they are published, made ready for training and evaluation."""

import click


@click.group(short_help="Prepare public benchmarks from their official archives.")
def dataset() -> None:
    """Prepare public benchmarks: from their official archives to a manifest, masks and a vocabulary.

    \b
    escnet dataset list
    escnet dataset prepare coco-stuff-171 coco/ --output coco-stuff/
    """


@dataset.command("list", short_help="List the datasets, their splits and archives.")
def list_() -> None:
    """List the datasets: how many pictures each split has, and which archives to download."""
    from pipeline.datasets.registry import DATASETS

    click.echo(f"{'NAME':<20}{'PICTURES':<42}ARCHIVES")
    for each in DATASETS.values():
        pictures = ", ".join(f"{split} {count:,}" for split, count in each.n_official.items())
        click.echo(f"{each.name:<20}{pictures:<42}{each.archives}")


@dataset.command(
    short_help="Turn an unpacked dataset into a manifest and masks.",
    epilog="""\b
Examples:
  escnet dataset prepare coco-stuff-171 coco/ --output coco-stuff/
  escnet dataset prepare ade20k-150 ADEChallengeData2016/ --split val --output ade150/
  escnet dataset prepare pascal-voc-20b VOCdevkit/ --split val --output voc20b/

docs/datasets.md says which archives each dataset needs, and what becomes of their masks.
""",
)
@click.argument("name")
@click.argument("root")
@click.option("--output", required=True, metavar="DIR", help="Folder to write, apart from ROOT.")
@click.option(
    "--split", metavar="SPLIT", help="Prepare this split alone: train, val, or VOC's trainaug. [default: train and val]"
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads. [default: one a core]")
def prepare(name: str, root: str, output: str, split: str | None, workers: int | None) -> None:
    """Turn dataset NAME, unpacked in ROOT, into manifest.parquet, vocabulary.yaml and masks/ in DIR.

    NAME is one of `escnet dataset list`, and also the bundled vocabulary whose ids the masks hold. ROOT and DIR are
    local folders. ROOT is only read, and the manifest refers to the pictures in it. The same command again goes on
    with a run that was stopped.
    """
    from pipeline.datasets.prepare import prepare_dataset, summary_lines

    done = prepare_dataset(name, root, output, splits=(split,) if split else (), workers=workers)
    for line in summary_lines(done):
        click.echo(line)
