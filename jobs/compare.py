"""`escnet compare`: two runs over the same pictures."""

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  Where two models differ:
    escnet compare labels-small/ labels-large/
  All classes, and the hundred pictures that differ most, as JSON:
    escnet compare labels-small/ labels-large/ --worst 100 --json difference.json
  One number for a script:
    escnet compare labels-1/ labels-2/ --json - | jq .pixel_agreement
"""


@click.command(short_help="Compare two runs over the same pictures, pixel by pixel.", epilog=EPILOG)
@click.argument("first")
@click.argument("second")
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="Name the N pictures that differ most; the terminal shows ten of them.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all of it there too; `-` prints it, and nothing else.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage
def compare(
    first: str,
    second: str,
    worst: int,
    json_file: str | None,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Compare the labels in FIRST and SECOND, outputs of two runs over the same pictures, pixel by pixel.

    Pictures belong together by image_id, classes by name, whatever their ids and vocabularies. Neither run is taken for
    the truth: a class's IoU is the share of its pixels, in either, that both have. Ignored pixels agree with ignored
    ones alone. Pictures that one of them lacks or failed are counted and left out.
    """
    from pipeline.comparison import compare as compare_labels
    from pipeline.comparison.summary import comparison_lines
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    file = None if json_file == "-" else json_file
    if overwrite and file is None:
        raise click.UsageError("--overwrite goes with --json FILE; leave it out")
    if file is not None and not overwrite:
        refuse_taken(file, options)
    found = compare_labels(first, second, n_worst=worst, storage=options)
    if json_file == "-":
        click.echo(json_text(found.as_json()), nl=False)
        return
    for line in comparison_lines(found):
        click.echo(line)
    if file is not None:
        write_json(found.as_json(), file, options, replace=overwrite)
