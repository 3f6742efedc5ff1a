"""`escnet export`: labels in the formats of other tools."""

import click

from jobs.options import storage

FORMATS = (
    "png", "coco-panoptic", "coco-rle", "huggingface", "webdataset", "yolo-seg", "label-studio", "cvat", "fiftyone",
)  # fmt: skip

EPILOG = """\b
Examples:
  Masks as ADE20K and mmsegmentation have them, with the pictures:
    escnet export labels/ --format png --with-images --output masks/
  One that opens with datasets.load_dataset("exported/"):
    escnet export labels/ --format huggingface --output exported/
  COCO, to object storage, without what is less sure than 0.5:
    escnet export s3://bucket/labels/ --format coco-panoptic --min-confidence 0.5 --output s3://bucket/coco/
  Some pictures alone, here those that `escnet select` chose:
    escnet export labels/ --images look.parquet --format cvat --with-images --output look/
"""


@click.command(short_help="Write labels as another tool reads them.", epilog=EPILOG)
@click.argument("output")
@click.option("--format", "name", type=click.Choice(FORMATS), required=True, help="docs/exports.md describes them.")
@click.option("--output", "destination", metavar="URI", required=True, help="An empty or new folder or prefix.")
@click.option("--vocabulary", metavar="NAME", help="Which one, where OUTPUT has labels of several vocabularies.")
@click.option(
    "--images", metavar="MANIFEST", help="Only the pictures that this manifest names, such as one of `escnet select`."
)
@click.option("--with-images", is_flag=True, help="Copy the pictures too, where the format may do without.")
@click.option("--shift-ids", is_flag=True, help="Class ids one higher and 0 for ignore, as in ADE20K's own files.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Pixels that are less sure become ignored.",
)
@storage
def export(
    output: str,
    name: str,
    destination: str,
    vocabulary: str | None,
    images: str | None,
    with_images: bool,
    shift_ids: bool,
    min_confidence: float,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Write the labels in OUTPUT as another tool reads them, corrections by people in place.

    OUTPUT is what `escnet annotate` wrote. The same command again goes on where it stopped. Pictures that failed are
    left out and counted; what a format cannot hold is said.
    """
    from pipeline.export import export_labels
    from pipeline.export.formats import Choices
    from pipeline.export.summary import export_lines
    from pipeline.storage import StorageOptions

    report = export_labels(
        output,
        destination,
        name,
        vocabulary=vocabulary,
        choices=Choices(with_images=with_images, shift_ids=shift_ids),
        min_confidence=min_confidence,
        images=images,
        storage=StorageOptions(endpoint_url, profile),
    )
    for line in export_lines(report):
        click.echo(line)
