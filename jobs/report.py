"""`escnet report`: a run as one HTML page."""

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  Look at a run:
    escnet report labels/ --output report.html
  With IoU and calibration, measured before:
    escnet evaluate labels/ --ground-truth masks/ --json scores.json
    escnet report labels/ --output report.html --scores scores.json
  A large set in a bucket, with more pictures, its page in the same bucket:
    escnet report s3://bucket/labels/ --output s3://bucket/report.html --pictures 300
"""


@click.command(short_help="Write one HTML page about labels: how sure, what failed.", epilog=EPILOG)
@click.argument("output")
@click.option("--output", "file", required=True, metavar="FILE.html", help="Where the page goes.")
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=120,
    show_default=True,
    metavar="N",
    help="Show at most N, at some 60 kB each.",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    metavar="N",
    help="Read the statistics of N label files, spread over the set, and of the others the footer alone.",
)
@click.option(
    "--scores", metavar="FILE.json", help="What `escnet evaluate --json` wrote: its IoUs and calibration are shown."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.html if it is there.")
@storage
def report(
    output: str,
    file: str,
    pictures: int,
    shards: int,
    scores: str | None,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Write one HTML page about the labels in OUTPUT: what was found, how sure, what failed, and pictures to look at.

    The page opens in any browser and loads nothing over the network. Counts are those of all labels; pictures are a
    sample: random ones, those the model is least sure of, the rarest classes, the most ignored, and some for each
    class. They are fetched again; of those that are gone, the labels are shown alone. docs/report.md has a tour.
    """
    from pipeline.report import write_report
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    done = write_report(
        output, file, n_pictures=pictures, n_shards=shards, scores=scores, replace=overwrite, storage=options
    )
    for line in done.lines():
        click.echo(line)
