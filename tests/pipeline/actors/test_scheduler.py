"""The driver's loop on a real Ray with real replicas, some of which are killed."""

import io
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from escnet.models import resolve_model
from pipeline.actors.actor import ReplicaSetup
from pipeline.actors.placement import Placement, ray_cluster
from pipeline.actors.scheduler import run_shards
from pipeline.output.plan import cut_shards, read_plan, write_plan
from pipeline.progress import Progress
from pipeline.storage import StorageOptions
from schemas.errors import JobFailedError, PlacementError
from schemas.job import LabelOptions
from schemas.manifest import ManifestRow
from schemas.vocabulary import Vocabulary
from tests.pipeline import stand_in

STORAGE = StorageOptions()
WORDS = Vocabulary(name="words", classes=["cat", "dog", "grass"])
OPTIONS = LabelOptions(
    views="single", device="cpu", dtype="float32", batch_size=1, cpus_per_actor=1, max_pixels=10_000_000
)


@pytest.fixture(scope="module", autouse=True)
def embedded_ray():
    with ray_cluster(None):
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 96, 3), np.uint8)).save(folder / f"{i:02}.png")
    return folder


def planned(pictures, output, shard_size=2):
    rows = [ManifestRow(path.name, str(path)) for path in sorted(pictures.iterdir())]
    shards = cut_shards([rows], ("words",), shard_size, lambda r, _: f"shard-{r[0].image_id}")
    return read_plan(write_plan(shards, str(output), STORAGE), str(output), STORAGE)


def work(refs, output, n_actors=1, check=lambda: None, words=WORDS, **stood_in):
    model = resolve_model("escnet-nano", allow_random_weights=True)
    setup = ReplicaSetup(model, {"words": words}, OPTIONS, str(output), STORAGE, {"model": "nano"}, **stood_in)
    with Progress(sum(ref.n_rows for ref in refs)) as progress:
        yield from run_shards(refs, setup, Placement(n_actors, 1, 0), progress, check=check)


def kill_replicas(may_be_killed=lambda pid: True):  # noqa: ARG005
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may be dead already
            if may_be_killed(child.pid) and "ray::Replica" in "".join(child.cmdline()):
                child.kill()


def contents(output):
    # A writer that was killed leaves a temporary file; the next run of the job sweeps it.
    return {path.name: path.read_bytes() for path in (output / "labels").glob("*.parquet")}


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    assert sum(result.totals.labelled for result in work(planned(pictures, output), output)) == 12
    return contents(output)


def test_a_replica_that_is_killed_is_replaced_and_its_shards_are_done_again(pictures, undisturbed, tmp_path, capsys):
    results, go_on = [], tmp_path / "go on"
    load = partial(stand_in.load_held, go_on)  # the second shard is at hand, and not done
    for result in work(planned(pictures, tmp_path), tmp_path, load_segmenter=load):
        if not results:
            kill_replicas()
            go_on.touch()
        results.append(result)
    assert sorted(result.shard_id for result in results) == [f"shard-{i:02}.png" for i in range(0, 12, 2)]
    assert contents(tmp_path) == undisturbed
    out, err = capsys.readouterr()
    assert err.count("a worker process died; what it had at hand is done again") == 1
    assert "raylet" not in out + err


@pytest.mark.parametrize("is_loading", [False, True])  # before it answers for the first time, or while it loads
def test_a_model_that_keeps_dying_ends_the_job_with_one_line(pictures, tmp_path, is_loading):
    stop = threading.Event()

    def kill_all():
        while not stop.is_set():
            kill_replicas(lambda pid: not is_loading or (tmp_path / f"loading-{pid}").exists())
            time.sleep(0.05)

    killer = threading.Thread(target=kill_all)
    killer.start()
    load = partial(stand_in.load_without_end, tmp_path)
    try:
        with pytest.raises(JobFailedError, match=r"a worker process died \d+ times at .*fewer --actors"):
            list(work(planned(pictures, tmp_path), tmp_path, load_segmenter=load))
    finally:
        stop.set()
        killer.join()
    assert not (tmp_path / "labels").exists()


def test_an_actor_that_cannot_load_the_model_does_not_end_a_job_that_others_can_do(pictures, tmp_path):
    load = partial(stand_in.load_in_one_process, tmp_path / "model", 3)
    results = list(work(planned(pictures, tmp_path), tmp_path, n_actors=2, load_segmenter=load))
    assert sum(result.totals.labelled for result in results) == 12


def junk(n, output, shard_size, good=()):
    rows = [ManifestRow(f"{i}.jpg", str(output / f"gone-{i}.jpg")) for i in range(n)]
    rows += [ManifestRow(path.name, str(path)) for path in good]
    shards = cut_shards([rows], ("words",), shard_size, lambda r, _: f"shard-{r[0].image_id}")
    return read_plan(write_plan(shards, str(output), STORAGE), str(output), STORAGE)


@pytest.mark.parametrize("shard_size", [150, 40])
def test_where_the_first_hundred_pictures_fail_the_job_stops_and_writes_nothing(tmp_path, shard_size):
    with pytest.raises(JobFailedError, match=r"the first 100 pictures all failed, the last one with fetch/not_found"):
        list(work(junk(150, tmp_path, shard_size), tmp_path))
    assert not (tmp_path / "labels").exists()


def test_failures_that_came_first_are_rows_once_a_picture_succeeds(pictures, tmp_path):
    refs = junk(100, tmp_path, 60, good=sorted(pictures.iterdir())[:1])  # the second shard has the one good picture
    results = list(work(refs, tmp_path))
    assert sorted(result.totals.rows for result in results) == [41, 60]
    assert len(list((tmp_path / "labels").iterdir())) == 2


@contextmanager
def expiring_server(folder, n_answers):
    """Gives so many pictures of a folder, and then says 403 to everything: how often it was asked, and its address."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if len(asked) > n_answers:
                self.send_error(403)
            else:
                super().do_GET()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_credentials_that_run_out_midway_end_the_job_and_become_no_rows(pictures, tmp_path):
    names, numbers = sorted(path.name for path in pictures.iterdir()), count()
    with expiring_server(pictures, n_answers=5) as address:
        rows = [ManifestRow(name, f"{address}/{name}") for name in names * 10]
        shards = cut_shards([rows], ("words",), 2, lambda *_: f"shard-{next(numbers)}")
        refs = read_plan(write_plan(shards, str(tmp_path), STORAGE), str(tmp_path), STORAGE)
        with pytest.raises(JobFailedError, match=r"refuses by now what it gave before, the last one with fetch/forbid"):
            list(work(refs, tmp_path))
    written = [pq.read_table(path).to_pylist() for path in (tmp_path / "labels").glob("*.parquet")]
    assert written
    assert {row["status"] for rows in written for row in rows} == {"labelled"}


def test_an_output_that_cannot_be_written_ends_the_job_with_one_line(pictures, tmp_path):
    refs = planned(pictures, tmp_path)
    (tmp_path / "labels").write_text("a file where the folder should be")
    with pytest.raises(JobFailedError, match=r"labels: a file stands where a folder is needed"):
        list(work(refs, tmp_path))


def test_a_cluster_that_is_not_there_is_one_line():
    with (
        pytest.raises(PlacementError, match=r"--address 127\.0\.0\.1:1: no Ray cluster answers"),
        ray_cluster("127.0.0.1:1"),
    ):
        pass


def test_label_files_carry_the_jobs_identity(undisturbed, tmp_path):
    name, data = next(iter(undisturbed.items()))
    (tmp_path / name).write_bytes(data)
    assert b'"model":"nano"' in pq.read_metadata(tmp_path / name).metadata[b"escnet.shard"]


def planned_values(values, output, shard_size):
    """Small gray pictures, of which some do harm to the model that sees them."""
    rows = []
    for i, value in enumerate(values):
        buffer = io.BytesIO()
        Image.fromarray(np.full((6, 9, 3), value, np.uint8)).save(buffer, "png")
        rows.append(ManifestRow(f"{i}.png", f"mem/{i}.png", image=buffer.getvalue()))
    shards = cut_shards([rows], ("words",), shard_size, lambda r, _: f"shard-{r[0].image_id}")
    return read_plan(write_plan(shards, str(output), STORAGE), str(output), STORAGE)


def errors(output, ref):
    rows = pq.read_table(output / "labels" / f"{ref.shard_id}.parquet").to_pylist()
    return {row["image_id"]: f"{row['error_stage']}/{row['error_kind']}" for row in rows if row["status"] == "failed"}


def test_a_picture_that_kills_its_process_is_found_and_its_neighbours_are_labelled(tmp_path, capsys):
    refs = planned_values([1, stand_in.KILLS, stand_in.RAISES, 2], tmp_path, shard_size=2)
    results = list(work(refs, tmp_path, load_segmenter=stand_in.load))
    assert sum(result.totals.labelled for result in results) == 2
    assert [errors(tmp_path, ref) for ref in refs] == [{"1.png": "segment/killed"}, {"2.png": "segment/internal"}]
    said = capsys.readouterr().err
    assert "looking for the picture that does it" in said
    assert "1 of its pictures end the process, and become failed rows" in said


def test_a_picture_the_model_does_not_come_back_from_is_a_failed_row(tmp_path, capsys):
    refs = planned_values([1, 2, stand_in.HANGS, 3], tmp_path, shard_size=2)
    results = list(work(refs, tmp_path, load_segmenter=stand_in.load, timeout_s=3600))
    assert sum(result.totals.labelled for result in results) == 3
    assert [errors(tmp_path, ref) for ref in refs] == [{}, {"2.png": "segment/timeout"}]
    assert "a picture takes longer than --timeout" in capsys.readouterr().err


def test_what_the_driver_is_told_to_check_ends_the_job(tmp_path):
    def check():
        raise JobFailedError("somebody else holds the output")

    refs = planned_values([1], tmp_path, shard_size=1)
    with pytest.raises(JobFailedError, match="somebody else"):
        list(work(refs, tmp_path, check=check, load_segmenter=stand_in.load))


def test_two_actors_on_a_node_compute_the_embeddings_of_a_vocabulary_once(pictures, tmp_path):
    words = Vocabulary(name="words", classes=["cat", "dog", tmp_path.name])  # that no earlier test has left behind
    refs = planned(pictures, tmp_path)[:4]
    results = list(work(refs, tmp_path, n_actors=2, words=words, load_segmenter=stand_in.load_counting_embeddings))
    assert sum(result.totals.labelled for result in results) == 8
    assert len(list(tmp_path.glob("loads-*"))) == 2
    assert len(list(tmp_path.glob("computed-*"))) == 1
