"""`escnet relabel`: labels decided again without the model."""

from typing import Any

import click

from jobs.options import level, storage
from schemas.errors import EXIT_DONE, EXIT_OTHER

EPILOG = """\b
Examples:
  The words as they were used, to change thresholds, colours, ids or what is ignored:
    cp labels/vocabularies/street.yaml street.yaml
    escnet relabel labels/ --vocabulary street.yaml --output labels-strict/
  Children rolled up to their parents, and back again:
    escnet relabel labels/ --level parent --output coarse/
    escnet relabel coarse/ --level leaf --output fine/
  A job of several vocabularies, of which two changed; each takes the place of the one of its name:
    escnet relabel s3://bucket/labels/ --vocabulary street.yaml --vocabulary indoor.yaml --output s3://bucket/labels-2/

The same command again goes on where it stopped. Exit codes: 0 done, 1 some shards have no labels to begin with or
damaged ones, 2 wrong usage or words that need the model, 130 stopped by Ctrl-C. More in docs/relabel.md.
"""


@click.command(short_help="Decide labels again with other thresholds, without the model.", epilog=EPILOG)
@click.argument("output")
@click.option(
    "--vocabulary",
    "vocabularies",
    multiple=True,
    metavar="V",
    help="File, or name of a bundled vocabulary, with the same prompts as the one of its name in OUTPUT. Give several "
    "where OUTPUT has several; those left out stay as they are.",
)
@level
@click.option("--output", "other", required=True, metavar="OTHER", help="Folder or prefix for the new labels.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes, one shard each. [default: one a core]"
)
@storage
def relabel(endpoint_url: str | None, profile: str | None, **asked: Any) -> int:
    """Decide the labels of OUTPUT again, without pictures, model or GPU; write them to --output as a new one.

    OUTPUT is what `escnet annotate` wrote, and stays as it is. Thresholds, ids, names, colours, parents, and what is a
    class, a distractor or ignored may change; prompts and templates may not. The label files are, byte for byte, those
    that `annotate` would write with the new vocabulary.
    """
    from pipeline.relabel import RelabelRequest, relabel_lines
    from pipeline.relabel import relabel as run_relabel
    from pipeline.storage import StorageOptions

    if not asked["vocabularies"] and asked["level"] is None:
        raise click.UsageError("nothing to change: give --vocabulary, --level, or both")
    report = run_relabel(RelabelRequest(**asked, storage=StorageOptions(endpoint_url, profile)))
    for line in relabel_lines(report):
        click.echo(line)
    return EXIT_DONE if report.is_complete else EXIT_OTHER
