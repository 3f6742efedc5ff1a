"""`escnet merge`: corrections by people come back."""

import getpass

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  Masks corrected in a folder that `escnet export --format png` wrote:
    escnet merge labels/ --corrections masks/annotations/ --author ada
  A project exported from Label Studio as JSON:
    escnet merge labels/ --corrections project.json
  CVAT's "Segmentation mask 1.1", unzipped:
    escnet merge s3://bucket/labels/ --corrections cvat/
  Back to what some pictures were before they were corrected, with their earlier masks alone in a folder:
    escnet merge labels/ --corrections earlier/ --revert
"""


@click.command(short_help="Store masks that people corrected beside the labels.", epilog=EPILOG)
@click.argument("output")
@click.option(
    "--corrections", metavar="EXPORT", required=True, help="Folder of PNG or CVAT, JSON of COCO or Label Studio."
)
@click.option("--author", metavar="NAME", help="Who corrected them. [default: who runs the command]")
@click.option("--vocabulary", metavar="NAME", help="Which one, where OUTPUT has labels of several vocabularies.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="That of the export, if it was given there: what it ignored is no correction.",
)
@click.option("--revert", is_flag=True, help="Store masks as well that show a picture as it was before a correction.")
@storage
def merge(
    output: str,
    corrections: str,
    author: str | None,
    vocabulary: str | None,
    min_confidence: float,
    revert: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Store corrected masks beside the labels in OUTPUT, in overrides/, with author and time.

    Only masks that differ from the labels are stored. Evaluation, exports and training then take them in place of the
    model's; label files stay as they are. Pictures, classes and sizes have to be those of OUTPUT.

    A mask that shows its picture as it was before a correction, the model's mask or an earlier correction, is taken to
    come from an export made before that one: it is passed over and named. With --revert it is stored, and undoes it.
    """
    from pipeline.corrections import merge_corrections
    from pipeline.corrections.summary import merge_lines
    from pipeline.storage import StorageOptions

    report = merge_corrections(
        output,
        corrections,
        author=author or getpass.getuser(),
        vocabulary=vocabulary,
        min_confidence=min_confidence,
        revert=revert,
        storage=StorageOptions(endpoint_url, profile),
    )
    for line in merge_lines(report):
        click.echo(line)
