"""`escnet status`: how far a job is."""

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  How far, what failed, and how long it will take:
    escnet status labels/
  In object storage, while the job runs on a cluster:
    escnet status s3://bucket/labels/ --endpoint-url https://storage.example.org
  One number for a script:
    escnet status labels/ --json - | jq .n_pictures_left
"""


@click.command(short_help="Say how far a job is.", epilog=EPILOG)
@click.argument("output")
@click.option("--json", "json_file", metavar="FILE", help="Write all of it there too; `-` prints it, and nothing else.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage
def status(output: str, json_file: str | None, overwrite: bool, endpoint_url: str | None, profile: str | None) -> None:
    """Say how far the job in OUTPUT is, from its plan, one listing, and the footers of its label files alone.

    OUTPUT is what `escnet annotate` writes, also while it runs elsewhere. The pace is that of the last ten minutes of
    activity, by the times at which label files appeared: the pictures in the files of the ten minutes up to the newest
    one, but for the first file's, by the time from the first to the newest. The time left is at that pace.
    """
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.output.status import status as read_status
    from pipeline.output.status import status_lines
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    file = None if json_file == "-" else json_file
    if overwrite and file is None:
        raise click.UsageError("--overwrite goes with --json FILE; leave it out")
    if file is not None and not overwrite:
        refuse_taken(file, options)
    report = read_status(output, options)
    if json_file == "-":
        click.echo(json_text(report.as_json()), nl=False)
        return
    for line in status_lines(report):
        click.echo(line)
    if file is not None:
        write_json(report.as_json(), file, options, replace=overwrite)
