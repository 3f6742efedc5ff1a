"""`escnet train`: from a recipe to a checkpoint."""

from typing import TYPE_CHECKING

import click

from jobs.options import storage

if TYPE_CHECKING:
    from pipeline.training.launcher import TrainingReport

EPILOG = """\b
Examples:
  The paper's smaller network on COCO-Stuff, on all GPUs of this machine:
    escnet train configs/escnet-b16-coco-stuff.yaml --output runs/b16
  A first try of a recipe, on the CPU:
    escnet train recipe.yaml --output try --set stages.0.steps=10 --device cpu
  On a cluster, with a folder that all its machines share:
    escnet train recipe.yaml --output /shared/run --address auto --workers 8

The same command again goes on where it stopped. Exit codes: 0 done, 2 wrong usage or bad input, 130 stopped by Ctrl-C,
1 anything else.
"""


@click.command(epilog=EPILOG)
@click.argument("config", metavar="CONFIG")
@click.option(
    "--output", metavar="DIR", help="Local folder for curves, states and the checkpoint. [default: runs/<name>]"
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value in place of the file's, such as stages.0.steps=100. May be given several times.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes that train together. [default: one a GPU, or 1]")
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), help="One GPU for each worker, or none. [default: GPUs if any]"
)
@click.option(
    "--cpus-per-worker",
    type=click.IntRange(min=1),
    help="CPU cores, and threads, of each worker. [default: without GPUs all of this machine's, shared out; else 1]",
)
@click.option(
    "--loader-processes",
    type=click.IntRange(min=0),
    help="Processes of each worker that read pictures ahead. [default: 4 beside a GPU, else 1]",
)
@click.option("--address", metavar="ADDR", help="Ray cluster: `auto` or HOST:PORT. [default: this machine]")
@click.option("--overwrite", is_flag=True, help="Do away with a run in DIR, finished or not, and begin anew.")
@storage
def train(
    config: str,
    output: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    device: str | None,
    cpus_per_worker: int | None,
    loader_processes: int | None,
    address: str | None,
    overwrite: bool,
    endpoint_url: str | None,
    profile: str | None,
) -> None:
    """Train a network as the recipe CONFIG, a YAML file, says.

    DIR gets curves.csv and curves.png as it goes, states to go on from, and in the end NAME.safetensors, which
    `escnet annotate --model` takes.
    """
    from pipeline.storage import StorageOptions
    from pipeline.training.config_file import read_config

    reached = StorageOptions(endpoint_url, profile)
    recipe = read_config(config, overrides, reached)

    from pipeline.training.launcher import train as run_training  # loads torch: after the recipe is known to be sound
    from pipeline.training.workers import Workers

    report = run_training(
        recipe,
        output or f"runs/{recipe.name}",
        workers=Workers(workers, cpus_per_worker, device, loader_processes, address),
        storage=reached,
        overwrite=overwrite,
    )
    for line in _summary_lines(report):
        click.echo(line)


def _summary_lines(report: "TrainingReport") -> list[str]:
    from pipeline.training.progress import scores_text
    from schemas.quantities import duration_text

    if report.n_steps_before == report.n_steps:
        done = "all of them before: nothing is left to do; --overwrite trains anew"
    else:
        before = f"{report.n_steps_before:,} of them before, " if report.n_steps_before else ""
        done = f"{before}in {duration_text(report.seconds)}"
    lines = [f"{report.checkpoint}: fingerprint {report.fingerprint}", f"  {report.n_steps:,} steps, {done}"]
    return lines + ([f"  {scores_text(dict(report.scores))}"] if report.scores else [])
