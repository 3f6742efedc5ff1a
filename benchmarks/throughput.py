"""Does the model ever wait? `escnet annotate` against the bare Segmenter, by clocks outside of both.

    python benchmarks/throughput.py --n 200 --json FILE
    python benchmarks/throughput.py --n 200 --actors 1 2
    python benchmarks/throughput.py --n 200 --storage s3        # pictures and labels on a moto server on this machine

The bare model labels pictures that are decoded and resized already, on one thread, before and after the jobs; the mean
of both counts, since the machine may drift. A job's pace is taken from the times at which its label files appeared, as
`escnet status` does. Its own account (docs/output.md, "Runs") is put beside that, and beside the command by the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.bench.made_up import made_up_picture, made_up_vocabulary, write_pictures, write_words
from pipeline.output.files import files_below
from pipeline.output.run_log import last_run
from pipeline.storage import StorageOptions, join, write_replace

ESCNET = Path(sys.executable).parent / "escnet"
STORAGE = StorageOptions()


def main() -> None:
    """Measure, and print one line a job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="escnet-b16")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--n", type=int, default=200, help="pictures a job")
    parser.add_argument("--n-bare", type=int, default=20, help="pictures of the bare model, each time")
    parser.add_argument("--size", nargs=2, type=int, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--shard-size", type=int, default=8, help="as annotate cuts 200 pictures by itself")
    parser.add_argument("--actors", nargs="+", type=int, default=[1])
    parser.add_argument("--storage", choices=["local", "s3"], default="local")
    parser.add_argument("--json", help="keep the figures there")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        print(json.dumps(bare(asked.model, asked.classes, asked.n_bare, tuple(asked.size))))
        return
    found = compare(asked)
    if asked.json:
        Path(asked.json).write_text(json.dumps({**vars(asked), "json": None, **found}, indent=2) + "\n")


def compare(asked: argparse.Namespace) -> dict:
    """The bare model, the jobs, and the bare model again."""
    with tempfile.TemporaryDirectory() as name, places(asked.storage, Path(name)) as where:
        folder = Path(name)
        write_pictures(folder / "made", asked.n, tuple(asked.size))
        words = write_words(folder / "words.yaml", asked.classes)
        for path in sorted((folder / "made").iterdir()):
            write_replace(join(where, f"pictures/{path.name}"), path.read_bytes(), STORAGE)
        before = bare_alone()
        print(f"bare model, before: {before:.3f} pictures a second", flush=True)
        jobs = [job(asked, where, words, n_actors) for n_actors in asked.actors]
        after = bare_alone()
    bare_per_s = statistics.mean((before, after))
    print(f"bare model, after: {after:.3f} pictures a second")
    for each in jobs:
        each["of_bare"] = each["per_s_by_files"] / bare_per_s
        each["of_first"] = each["per_s_by_files"] / jobs[0]["per_s_by_files"]
        print(
            f"{each['n_actors']} actors: {each['per_s_by_files']:.3f} a second by the label files, "
            f"{each['of_bare']:.1%} of the bare model; the run says {each['per_s_by_run']:.3f}, model alone "
            f"{each['alone_per_s_by_run']:.3f}, reached {each['reached_by_run']:.1%}; "
            f"command {each['command_s']:.1f} s, the run says {each['command_s_by_run']:.1f}; "
            f"{each['of_first']:.2f} times the first"
        )
    return {"bare_per_s": [before, after], "jobs": jobs}


@contextmanager
def places(storage: str, folder: Path) -> Iterator[str]:
    """Where pictures and labels lie."""
    if storage == "local":
        yield str(folder)
        return
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    boto3.client("s3").create_bucket(Bucket="benchmark")
    yield "s3://benchmark"
    server.stop()


def job(asked: argparse.Namespace, where: str, words: str, n_actors: int) -> dict:
    """One `escnet annotate`, by the clock, by its label files, and by its own account."""
    output = join(where, f"labels-{n_actors}")
    command = [
        ESCNET, "annotate", join(where, "pictures"), "--vocabulary", words, "--output", output, "--model", asked.model,
        "--allow-random-weights", "--views", "single", "--shard-size", asked.shard_size, "--actors", n_actors,
        "--gpus-per-actor", 0,
    ]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - started
    print(done.stdout, flush=True)
    run = last_run(output, STORAGE)["timings"]
    return {
        "n_actors": n_actors,
        "per_s_by_files": pace(output, asked.shard_size, n_actors),
        "per_s_by_run": run["pictures_per_s"],
        "alone_per_s_by_run": run["model_alone_pictures_per_s"],
        "reached_by_run": run["reached"],
        "command_s": seconds,
        "command_s_by_run": run["start_s"] + run["labelling_s"] + run["end_s"],
        "timings": run,
    }


def pace(output: str, shard_size: int, n_actors: int) -> float:
    """Pictures a second between the first label file of every actor and the last one. All shards are full."""
    times = sorted(file.modified for file in files_below(join(output, "labels"), STORAGE))
    first = times[n_actors - 1]
    return (len(times) - n_actors) * shard_size / (times[-1] - first)


def bare_alone() -> float:
    """`bare` in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--bare"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def bare(model: str, n_classes: int, n: int, size: tuple[int, int]) -> float:
    """Pictures a second of the Segmenter alone on one thread, after two to warm up."""
    import torch

    from escnet.models import load_model, resolve_model
    from escnet.segmenter import Segmenter

    torch.set_num_threads(1)
    segmenter = Segmenter(load_model(resolve_model(model, allow_random_weights=True)), views="single")
    words = segmenter.compile(made_up_vocabulary(n_classes))
    pictures = [segmenter.prepare(made_up_picture(number, size)) for number in range(n + 2)]
    for picture in pictures[:2]:
        segmenter.segment([picture], words)
    started = time.perf_counter()
    for picture in pictures[2:]:
        segmenter.segment([picture], words)
    return n / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
