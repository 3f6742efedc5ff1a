"""`escnet manifest`: list pictures into a manifest, and look into one."""

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

import click

from jobs.options import image_root, storage
from schemas.errors import one_line
from schemas.quantities import counted, size_text

if TYPE_CHECKING:
    from pipeline.sources.listing import SourceSummary
    from schemas.manifest import ManifestRow

SHOWN_COLUMNS = ("image_id", "width", "height", "size_bytes", "byte_offset", "vocabulary", "split", "mask_uri", "uri")


@click.group(short_help="List pictures into a manifest, and look at one.")
def manifest() -> None:
    """List pictures into a manifest: the file that says which pictures a job labels.

    A manifest is a Parquet, CSV or JSON Lines file with a column `uri` and, if you like, `image_id` (unique),
    `width`, `height`, `size_bytes`, `etag`, `byte_offset` and `byte_length` (a part of a file), `mask_uri`,
    `vocabulary` and `split`. A relative `uri` is one below the manifest's own folder.
    """


@manifest.command(
    epilog="""\b
Examples:
  escnet manifest build photos/ --output photos.parquet
  escnet manifest build 's3://bucket/2024-*/**/*.jpg' --output s3://bucket/photos.parquet
  escnet manifest build annotations/instances.json --image-root val2017/ --output val.csv
  escnet manifest build 'shards/train-*.tar' --output train.parquet
"""
)
@click.argument("sources", nargs=-1, metavar="SOURCE...", required=True)
@click.option("--output", required=True, metavar="FILE", help="Manifest to write: .parquet, .csv or .jsonl.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@image_root
@storage
def build(
    sources: tuple[str, ...],
    output: str,
    overwrite: bool,
    image_root: str | None,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """List the pictures of each SOURCE into one manifest.

    A SOURCE is a folder, a glob in quotes, an object-storage prefix, a manifest, a COCO file, a WebDataset tar, a
    Parquet file with image bytes, or one picture. `image_id` is the path below the source's root and must be
    unique over all sources. Files that are no pictures are counted and left out.
    """
    from pipeline.progress import listing
    from pipeline.sources import SourceSummary, list_batches
    from pipeline.sources.manifest import write_manifest
    from pipeline.storage import StorageOptions

    options = StorageOptions(endpoint_url, profile)
    summary = SourceSummary()
    batches = listing(list_batches(sources, options, summary, image_root=image_root))
    write_manifest(chain.from_iterable(batches), output, options, replace=overwrite)
    for line in _summary_lines(output, summary):
        click.echo(line)


@manifest.command(
    short_help="Show the first rows of a manifest.",
    epilog="""\b
Examples:
  escnet manifest show photos.parquet
  escnet manifest show s3://bucket/photos.parquet --limit 100
""",
)
@click.argument("file")
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Rows to show.")
@storage
def show(file: str, limit: int, endpoint_url: str | None, profile: str | None) -> None:
    """Show the first rows of a manifest (.parquet, .csv or .jsonl), and what all of it comes to."""
    from pipeline.sources.manifest import read_manifest
    from pipeline.storage import StorageOptions

    first: list[ManifestRow] = []
    n_rows = size = 0
    vocabularies: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    for batch in read_manifest(file, StorageOptions(endpoint_url, profile)):
        first += batch[: limit - len(first)]
        n_rows += len(batch)
        size += sum(row.size_bytes or 0 for row in batch)
        vocabularies.update(row.vocabulary for row in batch if row.vocabulary)
        splits.update(row.split for row in batch if row.split)
    _echo_rows(first)
    click.echo(_pictures_and_size(n_rows, size))
    for name, counts in (("vocabularies", vocabularies), ("splits", splits)):
        if counts:
            values = ", ".join(f"{value} {count:,}" for value, count in sorted(counts.items()))
            click.echo(one_line(f"{name}: {values}"))


def _summary_lines(output: str, summary: "SourceSummary") -> list[str]:
    from schemas.manifest import public_uri

    lines = [f"{public_uri(output)}: {_pictures_and_size(summary.pictures, summary.bytes)}"]
    if summary.other_files:
        lines.append(f"  no pictures, left out: {summary.other_files_text()}")
    if summary.ignored_columns:
        lines.append(f"  columns that mean nothing here, left out: {', '.join(sorted(summary.ignored_columns))}")
    return list(map(one_line, lines))


def _echo_rows(rows: list["ManifestRow"]) -> None:
    """Columns that hold anything, each as wide as its widest cell, the URI last."""
    from schemas.manifest import public_uri

    columns = [column for column in SHOWN_COLUMNS if any(getattr(row, column) is not None for row in rows)]
    table = [columns] + [[public_uri(_cell(getattr(row, column))) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for cells in table if rows else []:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cell(value: str | int | None) -> str:
    """One line of text, whatever characters a name has."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _pictures_and_size(n_pictures: int, n_bytes: int) -> str:
    """Such as "3 pictures, 17.5 MB"; sizes that no listing knew are not in it."""
    return f"{counted(n_pictures, 'picture')}, {size_text(n_bytes) if n_bytes else 'sizes unknown'}"
