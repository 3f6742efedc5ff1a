"""`escnet evaluate`: labels against ground truth."""

import click

from jobs.options import storage
from pipeline.protocols import PROTOCOLS

EPILOG = """\b
Examples:
  Masks in a folder, named as the pictures (photos/a/b.jpg has masks/a/b.png):
    escnet evaluate labels/ --ground-truth masks/
  A manifest with columns image_id and mask_uri, and the scores as JSON:
    escnet evaluate labels/ --ground-truth val.parquet --json scores.json
  A benchmark, as the papers measure it:
    escnet evaluate s3://bucket/labels/ --ground-truth s3://bucket/ade/val.parquet --protocol A-150
  One number for a script:
    escnet evaluate labels/ --ground-truth masks/ --json - | jq .miou
"""


@click.command(epilog=EPILOG)
@click.argument("output")
@click.option(
    "--ground-truth",
    required=True,
    metavar="URI",
    help="Manifest with a column `mask_uri`, or folder or prefix of masks named as the pictures.",
)
@click.option("--vocabulary", metavar="NAME", help="Which one, where OUTPUT has labels of several vocabularies.")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    help="Measure as this benchmark does, and refuse labels of another vocabulary.",
)
@click.option("--allow-missing", is_flag=True, help="Leave pictures without a mask out, in place of an error.")
@click.option(
    "--json", "json_file", metavar="FILE", help="Write all scores there too; `-` prints them, and nothing else."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage
def evaluate(
    output: str,
    ground_truth: str,
    vocabulary: str | None,
    protocol: str | None,
    allow_missing: bool,
    json_file: str | None,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Compare the labels in OUTPUT with ground truth: mIoU, accuracy and calibration, held-out classes apart.

    OUTPUT is what `escnet annotate` wrote. Masks are PNG or TIFF with one channel, of the size of the picture; values
    are class ids of the vocabulary, and 255 (in 16 bits 65535) leaves a pixel out. Pixels that the labels ignore, and
    pictures that failed, count as wrong. Scores are fractions from 0 to 1.
    """
    from pipeline.evaluation import evaluate as evaluate_labels
    from pipeline.evaluation.summary import evaluation_lines
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    file = None if json_file == "-" else json_file
    if overwrite and file is None:
        raise click.UsageError("--overwrite goes with --json FILE; leave it out")
    if file is not None and not overwrite:
        refuse_taken(file, options)
    found = evaluate_labels(
        output, ground_truth, vocabulary=vocabulary, protocol=protocol, allow_missing=allow_missing, storage=options
    )
    if json_file == "-":
        click.echo(json_text(found.as_json()), nl=False)
        return
    for line in evaluation_lines(found):
        click.echo(line)
    if file is not None:
        write_json(found.as_json(), file, options, replace=overwrite)
