"""`escnet show`: the labels of one picture as a drawing."""

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  Picture, labels and both together, as street_01.jpg.png in this folder:
    escnet show labels/ street_01.jpg
  The labels over the picture:
    escnet show labels/ a/street_01.jpg --view blend --output drawing.png
  From a bucket:
    escnet show s3://bucket/labels/ a/street_01.jpg --output drawing.png
"""


@click.command(short_help="Draw the labels of one picture.", epilog=EPILOG)
@click.argument("output")
@click.argument("image_id")
@click.option("--output", "file", metavar="FILE.png", help="Where the drawing goes. [default: the picture's name]")
@click.option(
    "--view",
    type=click.Choice(["side-by-side", "blend", "labels"]),
    default="side-by-side",
    show_default=True,
    help="Picture, labels and blend side by side, or one of them.",
)
@click.option(
    "--opacity",
    type=click.FloatRange(0, 1),
    default=0.55,
    show_default=True,
    metavar="X",
    help="Of the labels over the picture, from 0 to 1.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.png if it is there.")
@storage
def show(
    output: str,
    image_id: str,
    file: str | None,
    view: str,
    opacity: float,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Draw the labels of the picture IMAGE_ID in OUTPUT, in the vocabulary's colours and with a legend, as a PNG.

    IMAGE_ID is what the column `image_id` says: by default the picture's path below the source. The picture is fetched
    again from where it lay; if it is gone, its labels are drawn alone. Ignored pixels are black. Sides of more than
    2048 pixels are made smaller. Of a picture that a person corrected it is that mask; the legend says who and when.
    """
    from pathlib import PurePosixPath

    from pipeline.show import show as draw
    from pipeline.storage import StorageOptions
    from schemas.errors import one_line
    from schemas.manifest import public_uri
    from schemas.quantities import time_text

    options = StorageOptions(endpoint_url, profile)
    file = file or f"{PurePosixPath(image_id).name or 'picture'}.png"
    drawn = draw(output, image_id, file, view=view, opacity=opacity, replace=overwrite, storage=options)
    row = drawn.row
    if drawn.correction is not None:
        sure = f"corrected by {drawn.correction.author} on {time_text(drawn.correction.time)}"
    else:
        sure = "no pixel labelled" if row.confidence_mean is None else f"confidence {row.confidence_mean:.3f}"
    size = f"{row.width} x {row.height}"
    click.echo(one_line(f"{public_uri(file)}: {image_id}, {size}, {sure}, {row.ignored_fraction:.1%} ignored"))
    if drawn.missing is not None:
        click.echo(one_line(f"  labels alone: {drawn.missing}"))
