"""`escnet select`: the pictures most worth a person's time."""

from typing import TYPE_CHECKING

import click

from jobs.export import FORMATS
from jobs.options import storage

if TYPE_CHECKING:
    from pipeline.storage import StorageOptions

EPILOG = """\b
Examples:
  The hundred pictures that a person should look at first:
    escnet select labels/ --budget 100 --output look.parquet
  Which, and why:
    duckdb -c "select image_id, round(score, 2), reason from 'look.parquet'"
  The same as tasks for Label Studio, with the masks to be corrected (docs/exports.md):
    escnet select labels/ --budget 100 --output look.parquet --export tasks/ --format label-studio
  Label these again, with a larger model:
    escnet annotate look.parquet --vocabulary words.yaml --model large.safetensors --output again/
"""


@click.command(short_help="Choose the pictures most worth a person's time.", epilog=EPILOG)
@click.argument("output")
@click.option("--budget", type=click.IntRange(min=1), required=True, metavar="N", help="How many pictures.")
@click.option("--output", "file", required=True, metavar="MANIFEST.parquet", help="Where the manifest goes.")
@click.option("--overwrite", is_flag=True, help="Replace MANIFEST.parquet if it is there.")
@click.option(
    "--export", "destination", metavar="URI", help="Export them too, into this empty or new folder or prefix."
)
@click.option("--format", "name", type=click.Choice(FORMATS), help="Of the export; docs/exports.md describes them.")
@click.option("--vocabulary", metavar="NAME", help="Choose among pictures of this one, where there are several.")
@storage
def select(
    output: str,
    budget: int,
    file: str,
    overwrite: bool,
    destination: str | None,
    name: str | None,
    vocabulary: str | None,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Choose the N pictures in OUTPUT that are most worth a person's time, the most worthy first, as a manifest.

    The score of a picture is the mean of four numbers from 0 to 1: how unsure the model was of it, how rare its rarest
    class is, how much it differs from its shard, and how much it adds to those chosen before. They are computed from
    statistics columns and stand in the manifest; `reason` is the one of the first three that speaks most for it. The
    same labels give the same choice. docs/report.md has the formulas.

    With --export and --format they are written as another tool reads them too, as `escnet export --images` does.
    """
    from pipeline.selection import select as choose
    from pipeline.storage import StorageOptions
    from schemas.errors import one_line

    if (destination is None) != (name is None):
        raise click.UsageError("--export and --format go together: where the export goes, and in which format")
    where = StorageOptions(endpoint_url, profile)
    one = destination is not None
    done = choose(output, budget, file, one_vocabulary=one, vocabulary=vocabulary, replace=overwrite, storage=where)
    click.echo(one_line(f"{done.file}: {done.n_chosen:,} of {done.n_labelled:,} labelled pictures"))
    for reason, n in done.reasons.items():
        click.echo(f"  {n:,} {reason}")
    if destination is not None and name is not None:
        _export(output, destination, name, vocabulary, file, where)


def _export(
    output: str, destination: str, name: str, vocabulary: str | None, images: str, storage: "StorageOptions"
) -> None:
    from pipeline.export import export_labels
    from pipeline.export.summary import export_lines
    from schemas.errors import InputError

    try:
        report = export_labels(output, destination, name, vocabulary=vocabulary, images=images, storage=storage)
    except InputError as error:
        again = f"escnet export {output} --images {images} --format {name} --output URI"
        raise InputError(f"{error}; the choice itself stands in {images}: {again}") from error
    for line in export_lines(report):
        click.echo(line)
