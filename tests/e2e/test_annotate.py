"""Whole jobs over real photographs: the real command, embedded Ray, the real network with random weights."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.labels import FOOTER_KEY, LABEL_SCHEMA
from tests.e2e.command import ESCNET, annotate, digests, escnet
from tests.e2e.picture_server import picture_server
from tests.e2e.terminal import in_terminal

N_PHOTOS = 10


@pytest.fixture(scope="module")
def photos(shared_data, tmp_path_factory) -> Path:
    """Ten of the photographs, in two folders with names that trip up programs."""
    folder = tmp_path_factory.mktemp("photos")
    names = sorted((shared_data / "photos" / "images").iterdir())[:N_PHOTOS]
    for i, path in enumerate(names):
        below = folder / ("a #1%20ü" if i % 2 else "b")
        below.mkdir(exist_ok=True)
        shutil.copy(path, below / path.name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def labelled(photos, tmp_path_factory) -> Path:
    """The photographs labelled by one actor, in shards of four."""
    output = tmp_path_factory.mktemp("one") / "labels of one"
    annotate(photos, "--output", output, "--shard-size", 4, "--actors", 1)
    return output


def rows_of(output: Path) -> list[dict]:
    return [row for path in sorted(output.glob("labels/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_photograph_is_one_labelled_row(labelled, photos):
    found = {row["image_id"]: row for row in rows_of(labelled)}
    expected = {str(path.relative_to(photos)) for path in photos.rglob("*.jpg")}
    assert set(found) == expected
    assert {row["status"] for row in found.values()} == {"labelled"}
    for image_id, row in found.items():
        with Image.open(photos / image_id) as picture, Image.open(io.BytesIO(row["mask"])) as mask:
            assert (row["width"], row["height"]) == picture.size == mask.size
            counted = dict(zip(*np.unique(np.asarray(mask), return_counts=True), strict=True))
        assert {c["class_id"]: c["pixels"] for c in row["classes"]} == counted
        assert row["uri"] == str(photos / image_id)


def test_label_files_have_the_promised_columns_and_footers(labelled):
    files = sorted(labelled.glob("labels/*.parquet"))
    assert len(files) == 3
    for path in files:
        assert pq.read_schema(path).equals(LABEL_SCHEMA)
        footer = json.loads(pq.read_metadata(path).metadata[FOOTER_KEY])
        assert footer["shard_id"] == path.stem
        assert footer["totals"]["labelled"] == pq.read_metadata(path).num_rows


def test_a_run_keeps_where_its_time_went(labelled):
    (run,) = (labelled / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    events = [json.loads(line) for path in sorted(run.glob("*.jsonl")) for line in path.read_text().splitlines()]
    shards = [event for event in events if event["event"] == "shard"]
    assert {event["shard_id"] for event in shards} == {path.stem for path in labelled.glob("labels/*.parquet")}
    assert sum(event["labelled"] for event in shards) == summary["timings"]["stages"]["n_segmented"] == N_PHOTOS
    assert (summary["state"], summary["command"], summary["n_pictures"]) == ("done", "annotate", N_PHOTOS)
    timings = summary["timings"]
    assert sum(event["seconds"]["segment"] for event in shards) <= timings["labelling_s"]
    assert sum(timings["lost"].values()) + timings["reached"] == pytest.approx(1, abs=0.01)
    assert list(summary["start_steps"]) == ["plan", "cluster", "model"]


def test_duckdb_reads_the_dataset(labelled):
    query = f"select count(*), sum(width * height) from '{labelled}/labels/*.parquet' where status = 'labelled'"
    ((n_rows, n_pixels),) = duckdb.sql(query).fetchall()
    assert (n_rows, n_pixels) == (N_PHOTOS, sum(row["width"] * row["height"] for row in rows_of(labelled)))
    classes = duckdb.sql(
        f"select c.name, sum(c.pixels) from (select unnest(classes) c from '{labelled}/labels/*.parquet') group by 1"
    ).fetchall()
    assert sum(pixels for _, pixels in classes) == n_pixels


def test_the_same_command_again_does_no_work(labelled, photos):
    before = {path: path.stat().st_mtime_ns for path in labelled.rglob("*") if path.is_file()}
    done = annotate(photos, "--output", labelled, "--shard-size", 4, "--actors", 1)
    assert f"Nothing to do: {N_PHOTOS} of {N_PHOTOS} pictures are labelled" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in labelled.rglob("*") if path.is_file()} == before


def test_two_actors_write_the_same_bytes_as_one(labelled, photos, tmp_path):
    annotate(photos, "--output", tmp_path, "--shard-size", 4, "--actors", 2)
    assert digests(tmp_path) == digests(labelled)


def test_a_job_goes_on_where_it_stopped(labelled, photos, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(labelled, output)
    lost = sorted(output.glob("labels/*.parquet"))[1]
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("labels/*.parquet")}
    done = annotate(photos, "--output", output, "--shard-size", 4, "--actors", 1)
    assert "Done: 10 of 10 pictures are labelled" in done.stdout
    assert digests(output) == digests(labelled)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--shard-size", 5], "shard-size: 4 there, 5 now"),
        (["--shard-size", 4, "--limit", 3], "pictures: 10 there, 3 now"),
        (["--shard-size", 4, "--max-pixels", 99], "max-pixels: 178956970 there, 99 now"),
        (["--shard-size", 4, "--views", "sliding"], "views: single there, sliding now"),
        (["--shard-size", 4, "--vocabulary", "ade20k-150"], "vocabulary ade20k-150: none there"),
    ],
)
def test_another_job_never_mixes_into_an_output(labelled, photos, changed, said):
    before = digests(labelled)
    done = annotate(photos, "--output", labelled, *changed, code=2)
    assert "holds another job" in done.stderr
    assert said in done.stderr
    assert digests(labelled) == before


def test_a_replaced_picture_is_noticed(photos, tmp_path):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    annotate(copy, "--output", tmp_path / "out", "--limit", 2)
    victim = next(iter(sorted(copy.rglob("*.jpg"))))
    victim.write_bytes(victim.read_bytes() + b"\0")
    done = annotate(copy, "--output", tmp_path / "out", "--limit", 2, code=2)
    assert f"pictures: 2 there, 2 now: 1 changed ('{victim.relative_to(copy)}')" in done.stderr


def test_sources_of_many_kinds_make_one_job(photos, tmp_path):
    pictures = sorted(photos.rglob("*.jpg"))
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in pictures[:2]:
            tar.add(path, arcname=f"tar/{path.name}")
    images = [{"bytes": path.read_bytes(), "path": f"parquet/{path.name}"} for path in pictures[2:4]]
    pq.write_table(pa.table({"image": images}), tmp_path / "images.parquet")
    (tmp_path / "list.csv").write_text("image_id,uri\n" + f"mine,{pictures[4]}\n")
    annotate(
        tmp_path / "shard.tar", tmp_path / "images.parquet", tmp_path / "list.csv", f"{photos}/b/*.jpg",
        "--output", tmp_path / "out", "--limit", 6,
    )  # fmt: skip
    found = [(row["image_id"], row["status"]) for row in rows_of(tmp_path / "out")]
    names = [f"tar/{p.name}" for p in pictures[:2]] + ["images/0", "images/1"]
    names += ["mine", sorted(path.name for path in photos.glob("b/*.jpg"))[0]]
    assert found == [(name, "labelled") for name in names]


def test_a_job_file_holds_every_option_and_the_command_line_wins(photos, tmp_path):
    (tmp_path / "job.yaml").write_text(
        f"sources: ['{photos}']\nvocabulary: pascal-voc-20\nmodel: escnet-nano\noutput: {tmp_path / 'out'}\n"
        "allow-random-weights: true\nviews: single\nlimit: 9\nshard-size: 2\n"
    )
    escnet("annotate", "--job", tmp_path / "job.yaml", "--limit", 3)
    assert len(rows_of(tmp_path / "out")) == 3
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert (job["manifest"]["shard_size"], job["options"]["views"], job["manifest"]["n_rows"]) == (2, "single", 3)


def test_pictures_and_labels_on_object_storage(photos, labelled, s3):
    pictures = sorted(photos.rglob("*.jpg"))[:4]
    for path in pictures:
        s3.put(f"in put/{path.relative_to(photos)}", path.read_bytes())
    s3.put("in put/readme.txt", b"no picture")
    done = annotate(s3.uri("in put/"), "--output", s3.uri("out"), "--shard-size", 4)
    assert "Done: 4 of 4 pictures are labelled" in done.stdout
    assert "no pictures, left out: 1 .txt" in done.stdout
    keys = [item["Key"] for item in s3.client.list_objects_v2(Bucket=s3.name, Prefix="out/")["Contents"]]
    labels = [key for key in keys if key.startswith("out/labels/")]
    assert len(labels) == 1
    here = {row["image_id"]: row["mask"] for row in rows_of(labelled)}
    there = pq.read_table(io.BytesIO(s3.get(labels[0]))).to_pylist()
    assert [row["image_id"] for row in there] == [str(path.relative_to(photos)) for path in pictures]
    assert all(row["mask"] == here[row["image_id"]] for row in there)
    again = annotate(s3.uri("in put/"), "--output", s3.uri("out"), "--shard-size", 4)
    assert "Nothing to do" in again.stdout


@pytest.fixture
def held_job(tmp_path):
    """The arguments of a job in shards of one picture that cannot get its third before the server lets go, and that."""
    (tmp_path / "pictures").mkdir()
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        Image.fromarray(np.full((40, 60, 3), 40 * i, np.uint8)).save(tmp_path / "pictures" / name)
    with picture_server(tmp_path / "pictures") as server:
        (tmp_path / "list.csv").write_text("\n".join(["uri", *(f"{server.address}/{name}" for name in names)]))
        server.hold(lambda name: name >= "2.png")
        yield (tmp_path / "list.csv", "--output", tmp_path / "out", "--shard-size", 1, "--actors", 1), server


def command_of(arguments) -> list[str]:
    nano = ("--model", "escnet-nano", "--views", "single", "--vocabulary", "pascal-voc-20")
    return list(map(str, (ESCNET, "annotate", *nano, *arguments)))


def wait_for_labels(output: Path, process: subprocess.Popen) -> None:
    while process.poll() is None and not list(output.glob("labels/*.parquet")):
        time.sleep(0.05)


def stop(held_job, output: Path, number: signal.Signals) -> tuple[int, str]:
    """Exit code and errors of a job that gets a signal when its first shard is there."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command_of(held_job[0]), text=True, **streams) as process:
        wait_for_labels(output, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=500)
    return process.returncode, said


STOPPED = "stopped; [12] of 6 shards are done and kept, the same command goes on with the rest"


def test_ctrl_c_says_how_to_go_on_and_the_same_command_goes_on(held_job, tmp_path):
    arguments, server = held_job
    code, said = stop(held_job, tmp_path / "out", signal.SIGINT)
    assert code == 130, said
    assert re.search(f"^{STOPPED}", said, re.MULTILINE)
    assert "Traceback" not in said
    server.let_go()
    assert "Done: 6 of 6 pictures are labelled" in annotate(*arguments).stdout
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["labelled"] * 6


@pytest.mark.slow
def test_the_papers_network_labels_photographs(photos, tmp_path):
    options = ["--model", "escnet-b16", "--allow-random-weights", "--vocabulary", "pascal-voc-20", "--views", "single"]
    escnet("annotate", photos, *options, "--output", tmp_path, "--limit", 2, "--actors", 1)
    assert [row["status"] for row in rows_of(tmp_path)] == ["labelled", "labelled"]


@pytest.fixture
def signing_server(photos):
    """An HTTP server that wants today's signature; yields its address and a list whose last item is that signature."""
    today = ["first"]

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if f"Signature={today[-1]}" not in self.path:
                self.send_error(403)
                return
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=photos / "b")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", today
        server.shutdown()


def test_a_job_over_signed_addresses_goes_on_with_new_signatures(photos, signing_server, tmp_path):
    address, today = signing_server
    names = sorted(path.name for path in (photos / "b").iterdir())[:2]

    def write_manifest():
        lines = [f"{name},{address}/{name}?Signature={today[-1]}" for name in names]
        (tmp_path / "list.csv").write_text("\n".join(["image_id,uri", *lines]))

    write_manifest()
    annotate(tmp_path / "list.csv", "--output", tmp_path / "out", "--shard-size", 1, "--actors", 1)
    before = digests(tmp_path / "out")
    next((tmp_path / "out" / "labels").iterdir()).unlink()
    today.append("second")
    write_manifest()
    annotate(tmp_path / "list.csv", "--output", tmp_path / "out", "--shard-size", 1, "--actors", 1)
    assert digests(tmp_path / "out") == before
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["labelled", "labelled"]
    assert not any("Signature" in row["uri"] for row in rows_of(tmp_path / "out"))
    assert "first" not in (tmp_path / "out" / "job.json").read_text()


def test_a_terminal_that_is_closed_stops_in_order(held_job, tmp_path):
    with in_terminal(command_of(held_job[0])) as (process, terminal):
        wait_for_labels(tmp_path / "out", process)
        os.close(terminal)
        assert process.wait(timeout=500) == 1
    (summary,) = (tmp_path / "out" / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["state"] == "stopped"


def test_sigterm_stops_in_order(held_job, tmp_path):
    code, said = stop(held_job, tmp_path / "out", signal.SIGTERM)
    assert code == 1, said
    assert re.search(STOPPED, said)
    assert "SIGTERM received" not in said
