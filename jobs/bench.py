"""`escnet bench`: how fast a model labels on this machine."""

import re
from typing import Any

import click

from jobs.options import CountOrOff, storage

EPILOG = """\b
Examples:
  How fast the paper's network is here, by the length of the vocabulary:
    escnet bench --model escnet-b16 --allow-random-weights --classes 20,150,847 --views single --repeat 3
  Your checkpoint, both view modes, with all figures in a file for later comparison:
    escnet bench --model my.safetensors --classes 150 --views single,sliding --json bench.json
  What leaving unlikely classes out before the network runs, as `escnet annotate` does, saves:
    escnet bench --model escnet-b16 --allow-random-weights --classes 150 --views single --preselect off,16,32
  Which batch and precision a GPU likes best, and nothing of the pipeline:
    escnet bench --model my.safetensors --classes 150 --dtype float32,bfloat16 --batch-size 1,8,32 --pictures 0
  Large pictures, on two cores:
    escnet bench --model my.safetensors --classes 20 --size 640x480,4000x3000 --threads 2

Every combination of the lists is measured, each in a process of its own.
"""

SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


def _whole_numbers(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """`20,150` as whole numbers."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 10**6 for word in words):
        raise click.BadParameter(f"{text!r}: expected whole numbers from 1 with commas between them, such as 20,150")
    return tuple(dict.fromkeys(map(int, words)))


def _counts_or_off(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int | str, ...] | None:
    """`off,32` as what `CountOrOff` makes of each."""
    if text is None:
        return None
    return tuple(dict.fromkeys(CountOrOff().convert(word.strip(), param, ctx) for word in text.split(",")))


def _one_of(*names: str) -> Any:
    def read(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        if text is None:
            return None
        words = [word.strip() for word in text.split(",")]
        if not set(words) <= set(names):
            raise click.BadParameter(f"{text!r}: expected one or several of {', '.join(names)}, with commas")
        return tuple(dict.fromkeys(words))

    return read


def _sizes(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[tuple[int, int], ...]:
    found = [SIZE.fullmatch(word.strip()) for word in text.split(",")]
    if not all(found):
        raise click.BadParameter(f"{text!r}: expected WIDTHxHEIGHT in pixels, such as 640x480, with commas")
    return tuple(dict.fromkeys((int(match[1]), int(match[2])) for match in found if match))


@click.command(short_help="Measure how fast a model labels on this device.", epilog=EPILOG)
@click.option(
    "--model", required=True, metavar="M", help="Checkpoint, also s3://..., or preset; see `escnet model list`."
)
@click.option("--allow-random-weights", is_flag=True, help="Accept a model that nobody trained: it is as fast.")
@click.option(
    "--classes", default="20,150,847", show_default=True, callback=_whole_numbers, help="Lengths of the vocabulary."
)
@click.option("--views", callback=_one_of("single", "sliding"), help="View modes. [default: the model's own]")
@click.option(
    "--dtype",
    "dtypes",
    callback=_one_of("float32", "bfloat16", "float16"),
    help="Precisions. [default: bfloat16 on a GPU, float32 on a CPU]",
)
@click.option(
    "--preselect",
    "preselects",
    metavar="N|off,...",
    callback=_counts_or_off,
    help="Most classes that are looked for in a picture, as `escnet annotate` has it. "
    "[default: 32; off for a model whose classes depend on each other]",
)
@click.option(
    "--batch-size", "batch_sizes", callback=_whole_numbers, help="Pictures a pass. [default: 16 on a GPU, 1 on a CPU]"
)
@click.option(
    "--size", "sizes", default="640x480", show_default=True, callback=_sizes, help="Sizes of the pictures, in pixels."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cuda if there is a GPU]")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU cores, as --cpus-per-actor."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Timed passes, after one to warm up."
)
@click.option(
    "--pictures",
    "n_pictures",
    type=click.IntRange(min=0),
    default=24,
    show_default=True,
    help="Pictures of the job that is measured by stage, with the first of each list; 0 leaves it out.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all of it there too; `-` prints it, and nothing else.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage
def bench(json_file: str | None, overwrite: bool, **asked: Any) -> None:
    """Measure how fast a model labels on this device: the network alone, and a whole job by stage.

    Pictures and words are made up and the same every time; the speed does not depend on what they show. Options
    of which `--help` speaks in the plural take several values with commas between them. Shown are medians.
    """
    from pipeline.bench import BenchRequest
    from pipeline.bench import bench as run_bench
    from pipeline.bench.table import bench_lines
    from pipeline.json_files import json_text, refuse_taken, write_json
    from pipeline.storage import StorageOptions

    options = StorageOptions(asked["endpoint_url"], asked["profile"])
    file = None if json_file == "-" else json_file
    if overwrite and file is None:
        raise click.UsageError("--overwrite goes with --json FILE; leave it out")
    if file is not None and not overwrite:
        refuse_taken(file, options)
    found = run_bench(BenchRequest(**asked), lambda line: click.echo(line, err=True))
    if json_file == "-":
        click.echo(json_text(found), nl=False)
        return
    for line in bench_lines(found):
        click.echo(line)
    if file is not None:
        write_json(found, file, options, replace=overwrite)
