"""`escnet select`: the pictures most worth a person's time."""

import click

from jobs.options import storage

EPILOG = """\b
Examples:
  The hundred pictures that a person should look at first:
    escnet select labels/ --budget 100 --output look.parquet
  Which, and why:
    duckdb -c "select image_id, round(score, 2), reason from 'look.parquet'"
  Label these again, with a larger model:
    escnet annotate look.parquet --vocabulary words.yaml --model large.safetensors --output again/
"""


@click.command(epilog=EPILOG)
@click.argument("output")
@click.option("--budget", type=click.IntRange(min=1), required=True, metavar="N", help="How many pictures.")
@click.option("--output", "file", required=True, metavar="MANIFEST.parquet", help="Where the manifest goes.")
@click.option("--overwrite", is_flag=True, help="Replace MANIFEST.parquet if it is there.")
@storage
def select(output: str, budget: int, file: str, overwrite: bool, endpoint_url: str | None, profile: str | None) -> None:
    """Choose the N pictures in OUTPUT that are most worth a person's time, the most worthy first, as a manifest.

    The score of a picture is the mean of four numbers from 0 to 1: how unsure the model was of it, how rare its rarest
    class is, how much it differs from its shard, and how much it adds to those chosen before. They are computed from
    statistics columns and stand in the manifest; `reason` is the one of the first three that speaks most for it. The
    same labels give the same choice. docs/report.md has the formulas.
    """
    from pipeline.selection import select as choose
    from pipeline.storage import StorageOptions
    from schemas.errors import one_line

    done = choose(output, budget, file, replace=overwrite, storage=StorageOptions(endpoint_url, profile))
    click.echo(one_line(f"{done.file}: {done.n_chosen:,} of {done.n_labelled:,} labelled pictures"))
    for reason, n in done.reasons.items():
        click.echo(f"  {n:,} {reason}")
