"""`escnet annotate`: label pictures."""

import time
from typing import Any

import click

from jobs.options import CountOrOff, image_root, level, placement, storage
from schemas.errors import EXIT_DONE, EXIT_TOO_MANY_FAILED

EPILOG = """\b
Examples:
  The demo world, which `escnet demo-world` draws, with the network in the box, which knows nothing else:
    escnet annotate world/manifest.parquet --vocabulary world/vocabulary.yaml --model escnet-nano --output labels/
  Label a folder with a checkpoint of yours:
    escnet annotate photos/ --vocabulary ade20k-150 --model my.safetensors --output labels/
  A bucket, in your own words, on a cluster:
    escnet annotate s3://bucket/photos/ --vocabulary words.yaml --model my.safetensors \\
        --output s3://bucket/labels/ --address auto --actors 16
  The first hundred pictures of a manifest:
    escnet annotate manifest.parquet --vocabulary words.txt --model my.safetensors --output try/ --limit 100
  The folder has changed, or the words have: a new output, in which only what differs is labelled anew:
    escnet annotate photos/ --vocabulary ade20k-150 --model my.safetensors --update labels/ --output labels-2/
  Everything in a job file; options on the command line win:
    escnet annotate --job job.yaml --limit 100

The same command again goes on where it stopped. Exit codes: 0 done, 3 done but more pictures failed than
--max-failed allows, 2 wrong usage or bad input, 130 stopped by Ctrl-C, 1 anything else.
"""


def _read_job_file(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    """Let the file's keys stand in for options that the command line leaves out."""
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **options_in(path, ctx)}


def options_in(job_file: str, ctx: click.Context) -> dict[str, Any]:
    """The options of `escnet annotate` that a job file sets, by their Python names."""
    from pipeline.annotation.job_files import read_job_file

    options = {option.name: option for option in annotate.params if option.name and option.name != "job"}
    flags = [name for name, option in options.items() if isinstance(option, click.Option) and option.is_flag]

    def check(name: str, value: Any) -> None:
        try:
            options[name].process_value(ctx, value)
        except click.BadParameter as error:
            raise ValueError(error.message) from error

    return read_job_file(job_file, options, flags, check)


@click.command(short_help="Label every picture of each SOURCE into one Parquet dataset.", epilog=EPILOG)
@click.argument("sources", nargs=-1, metavar="SOURCE...", required=True)
@click.option(
    "--vocabulary",
    "vocabularies",
    multiple=True,
    required=True,
    metavar="V",
    help="Name of a bundled vocabulary, or a file of yours (YAML, text, JSON, COCO). "
    "Give several where a manifest's `vocabulary` column chooses; rows that choose none take the first.",
)
@level
@click.option(
    "--model",
    required=True,
    metavar="M",
    help="Checkpoint (a file or s3://...), or a preset with its weights; see `escnet model list`.",
)
@click.option("--output", required=True, metavar="URI", help="Folder or object-storage prefix for the labels.")
@click.option(
    "--update",
    metavar="OLD",
    help="Output of an earlier job, which stays as it is: what is the same there is copied, only the rest is labelled.",
)
@click.option(
    "--job",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_job_file,
    help="YAML file with any of these options (and `sources`); the command line wins.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N pictures.")
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    help="Pictures a shard: the unit of work and of retry, one label file each. [default: 256; in a job of under 8192 "
    "pictures fewer, so that there are up to 32 shards, of 8 or more]",
)
@placement
@click.option(
    "--cpus-per-actor",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU cores, and threads, of each replica.",
)
@click.option(
    "--views",
    type=click.Choice(["sliding", "single"]),
    help="Four windows and the whole picture, averaged; or the whole picture once, at a fifth of the cost. "
    "[default: what the model was made for, see `escnet model show`]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Precision of the network. [default: bfloat16 on a GPU, float32 on a CPU]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Pictures a pass on a GPU, 16 if not given; on a CPU always 1."
)
@click.option(
    "--preselect",
    type=CountOrOff(),
    metavar="N|off",
    help="Most classes of a vocabulary that are looked for in a picture, those likeliest by CLIP; the others get no "
    "pixel there. `off` looks for all. [default: 32; off for a model whose classes depend on each other]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_956_970,
    show_default=True,
    help="Pictures with more pixels, or more bytes than so many pixels can have, become failed rows (too_large).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds that one picture may take to be fetched, decoded, segmented or encoded before it is a failed row.",
)
@click.option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Fraction of pictures that may fail before the exit code is 3.",
)
@click.option("--expected", type=click.UNPROCESSED, hidden=True)  # of a plan file, which `escnet plan` writes
@click.option("--strict", is_flag=True, help="Stop a run that strays from the plan in its job file; see `escnet plan`.")
@click.option("--allow-random-weights", is_flag=True, help="Accept a model that nobody trained. Its labels are noise.")
@image_root
@storage
def annotate(**asked: Any) -> int:
    """Label every picture of each SOURCE; write one Parquet dataset below --output.

    A SOURCE is a folder, a glob in quotes, an object-storage prefix, a manifest (Parquet, CSV, JSONL), a COCO
    file, a WebDataset tar, a Parquet file with image bytes, or one picture.
    """
    started = time.monotonic()
    from pipeline.annotation.annotate import annotate as run_job
    from pipeline.annotation.job_files import make_request
    from pipeline.annotation.summary import summary_lines

    request = make_request(asked)
    report = run_job(request, started=started)
    for line in summary_lines(report):
        click.echo(line)
    if report.failed_fraction > request.max_failed:
        share = f"{report.n_failed} of {report.totals.rows} pictures"
        click.echo(f"{share} failed, more than --max-failed {request.max_failed:g} allows.", err=True)
        return EXIT_TOO_MANY_FAILED
    return EXIT_DONE
