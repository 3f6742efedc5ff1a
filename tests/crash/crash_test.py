"""Kill drivers, actors and nodes of labelling jobs at random moments, and compare every byte of what they leave.

    python -m tests.crash.crash_test --kills 200 --output-on local --seed 1

One job after the other runs over 66 shards on a Ray cluster of a head and two nodes. A killed driver is started again
as its user would, a killed node is replaced. Exits with 1 and keeps everything if any output is not byte for byte that
of an uninterrupted run. docs/crash-test.md says more.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from tests.crash.campaign import Campaign, Outcome, uninterrupted
from tests.crash.cluster import running_cluster
from tests.crash.kills import KILL_KINDS, SHARES, draw_kills
from tests.crash.places import LocalPlace, Place, open_place
from tests.crash.world import make_world

_SHOWN = 40


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=200, show_default=True, help="How many.")
@click.option("--output-on", type=click.Choice(["local", "s3"]), default="local", show_default=True, help="Storage.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws kinds, victims and moments.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the outcome to this file.")
def main(kills: int, output_on: str, seed: int, json_path: Path | None) -> None:
    """Kill drivers, actors and nodes of labelling jobs, and compare every byte of what they leave."""
    folder = Path(tempfile.mkdtemp(prefix="escnet-crash-"))
    outcome = crash(kills, output_on, seed, folder)
    for line in summary_lines(outcome):
        click.echo(line)
    if json_path is not None:
        found = {"output_on": output_on, "seed": seed, **asdict(outcome)}
        json_path.write_text(json.dumps(found, indent=2) + "\n")
    if outcome.differences:
        click.echo(f"Outputs, logs and requests are kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


def crash(n_kills: int, output_on: str, seed: int, folder: Path) -> Outcome:
    """The whole of it, in a folder that is there."""
    world = make_world(folder / "world")
    with (
        open_place(output_on, folder) as place,
        in_environment(place),
        running_cluster(folder, place.environment) as cluster,
    ):
        expected = uninterrupted(LocalPlace(folder / "outputs"), cluster, world, folder)
        click.echo(f"uninterrupted run: {len(expected)} files; now {n_kills} kills, seed {seed}")
        campaign = Campaign(place, cluster, world, folder, expected, click.echo)
        return campaign.run(draw_kills(n_kills, SHARES[output_on], seed))


def summary_lines(outcome: Outcome) -> list[str]:
    """The table at the end, and what differs."""
    kills = ", ".join(f"{outcome.kills[kind]} {kind}" for kind in KILL_KINDS)
    table = {
        "kills": f"{sum(outcome.kills.values())} ({kills})",
        "minutes": f"{outcome.seconds / 60:.1f}",
        "jobs completed": outcome.n_jobs,
        "label files compared": outcome.n_shards,
        "temporary files left by kills": outcome.n_mid_write,
        "jobs swept by one more run": outcome.n_swept,
        "drivers that gave up": len(outcome.gave_up),
        "nodes lost without a kill": outcome.n_nodes_died,
        "differences": len(outcome.differences),
    }
    rows = [f"{name:<30} {value}" for name, value in table.items()]
    more = len(outcome.differences) - _SHOWN
    return [*rows, *outcome.differences[:_SHOWN], *([f"... and {more} more"] if more > 0 else [])]


@contextmanager
def in_environment(place: Place) -> Iterator[None]:
    """For `escnet verify`, which runs in this process and finds storage as users configure it."""
    before = dict(os.environ)
    os.environ.update(place.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main()
