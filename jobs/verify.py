"""`escnet verify`: the proof that an output is whole and as it was written."""

import click

from jobs.options import storage
from schemas.errors import EXIT_DONE, EXIT_OTHER

EPILOG = """\b
Examples:
  Everything:
    escnet verify labels/
  In object storage, with eight processes, and all that was found as JSON:
    escnet verify s3://bucket/labels/ --workers 8 --json findings.json
  A large set: all names and footers, and the rows of a hundred label files:
    escnet verify s3://bucket/labels/ --sample 100 --seed 7

Exit codes: 0 all of it holds, 1 something does not or is missing, 2 there is no output.
"""


@click.command(short_help="Prove that every picture is in exactly one row of labels.", epilog=EPILOG)
@click.argument("output")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Look into N label files, spread over the set; of the others at name and footer alone. [default: all]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Which files --sample takes: another number, other files."
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes, one label file each. [default: one a core]"
)
@click.option(
    "--json", "json_file", metavar="FILE", help="Write all that was found there; `-` prints it, and nothing else."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage
def verify(
    output: str,
    sample: int | None,
    seed: int,
    workers: int | None,
    json_file: str | None,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> int:
    """Prove that every manifest row of OUTPUT is in exactly one row of one label file, and that no byte changed.

    OUTPUT is what `escnet annotate` wrote. Names, fingerprints and counts are compared with job.json and the plan. Of
    every label file the rows are compared with the manifest and with their own masks and evidence, and the bytes with
    those that the rows make. Nothing is written or repaired. docs/verify.md says what is proven, and what is not.
    """
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.output.verification.summary import verify_lines
    from pipeline.output.verify import verify as verify_output
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    file = None if json_file == "-" else json_file
    if overwrite and file is None:
        raise click.UsageError("--overwrite goes with --json FILE; leave it out")
    if file is not None and not overwrite:
        refuse_taken(file, options)
    report = verify_output(output, options, sample=sample, seed=seed, workers=workers)
    if json_file == "-":
        click.echo(json_text(report.as_json()), nl=False)
    else:
        for line in verify_lines(report):
            click.echo(line)
    if file is not None:
        write_json(report.as_json(), file, options, replace=overwrite)
    return EXIT_DONE if report.holds else EXIT_OTHER
