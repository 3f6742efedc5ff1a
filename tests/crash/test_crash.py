"""Ten kills on each kind of storage, and the proof that the comparison behind them can fail."""

import io
import shutil
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.crash import crash_test
from tests.crash.campaign import Campaign, Outcome, uninterrupted
from tests.crash.cluster import running_cluster
from tests.crash.comparison import differences
from tests.crash.crash_test import crash, in_environment, main
from tests.crash.kills import KILL_KINDS, SHARES, draw_kills
from tests.crash.places import LocalPlace, s3_place
from tests.crash.world import N_SHARDS, make_world
from tests.s3 import fresh_clients

pytestmark = pytest.mark.cluster
N_KILLS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def world(folder):
    return make_world(folder / "world")


@pytest.fixture(scope="module")
def on_s3(s3_server):
    return s3_place(s3_server)


@pytest.fixture(scope="module")
def cluster(folder, on_s3):
    with running_cluster(folder, on_s3.environment) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(folder, world, cluster):
    """A folder of outputs, and the files of a run in it that nobody disturbed."""
    place = LocalPlace(folder / "outputs")
    return place, uninterrupted(place, cluster, world, folder)


@pytest.mark.parametrize("output_on", ["local", "s3"])
def test_kills_lose_and_double_and_change_nothing(output_on, folder, world, on_s3, cluster, undisturbed):
    local, expected = undisturbed
    place = on_s3 if output_on == "s3" else local
    logs = folder / output_on
    logs.mkdir()
    with in_environment(place), fresh_clients():
        outcome = Campaign(place, cluster, world, logs, expected).run(draw_kills(N_KILLS, SHARES[output_on], seed=1))
    assert outcome.differences == []
    assert sum(outcome.kills.values()) == N_KILLS
    assert {kind for kind, n_kills in outcome.kills.items() if n_kills} == {
        k for k, n in SHARES[output_on].items() if n
    }
    assert outcome.n_shards == outcome.n_jobs * N_SHARDS > 0


def test_an_output_that_is_wrong_is_reported_and_kept(folder, world, cluster, undisturbed):
    place, expected = undisturbed
    logs = folder / "wrong"
    logs.mkdir()
    wrong = LocalPlace(folder / "wrong outputs")
    shutil.copytree(place.uri("uninterrupted"), wrong.uri("job-001"))  # so that its driver finds all done
    name = min(name for name in expected if name.startswith("labels/"))
    altered = {**expected, name: expected[name] + b"x"}
    outcome = Campaign(wrong, cluster, world, logs, altered).run([])
    n_bytes = len(expected[name])
    line = f"job-001: {name}: {n_bytes} bytes that differ from the {n_bytes + 1} of an uninterrupted run"
    assert line in outcome.differences
    assert wrong.files("job-001") == expected


def label_file(*image_ids):
    data = io.BytesIO()
    pq.write_table(pa.table({"image_id": list(image_ids)}), data)
    return data.getvalue()


JOB = {"job.json": b"{}", "manifest/part-0.parquet": b"rows"}
TWO_SHARDS = {**JOB, "labels/1.parquet": label_file("a", "b"), "labels/2.parquet": label_file("c")}


def without(name):
    return {key: data for key, data in TWO_SHARDS.items() if key != name}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (TWO_SHARDS, []),
        ({**TWO_SHARDS, "runs/1/events.jsonl": b"said"}, []),
        (without("labels/1.parquet"), ["labels/1.parquet: missing", "2 pictures without a row: a, b"]),
        (without("job.json"), ["job.json: missing"]),
        (
            {**TWO_SHARDS, "labels/3.parquet": TWO_SHARDS["labels/2.parquet"]},
            ["labels/3.parquet: nobody asked for it", "1 pictures with a row too many: c"],
        ),
        ({**TWO_SHARDS, "labels/.0.partial": b""}, ["labels/.0.partial: nobody asked for it"]),
        (
            {**TWO_SHARDS, "manifest/part-0.parquet": b"words"},
            ["manifest/part-0.parquet: 5 bytes that differ from the 4 of an uninterrupted run"],
        ),
    ],
)
def test_the_comparison_finds_what_is_missing_doubled_or_altered(found, lines):
    assert differences(found, TWO_SHARDS) == lines


def test_the_comparison_finds_a_torn_file_and_a_flipped_bit():
    whole = TWO_SHARDS["labels/2.parquet"]
    torn = differences({**TWO_SHARDS, "labels/2.parquet": whole[:-9]}, TWO_SHARDS)
    assert torn[0].startswith("labels/2.parquet: ")
    assert torn[1].startswith("labels/2.parquet: cannot be read (")
    assert torn[2:] == ["1 pictures without a row: c"]
    flipped = bytes([*whole[:20], whole[20] ^ 1, *whole[21:]])
    line = f"labels/2.parquet: {len(whole)} bytes that differ from the {len(whole)} of an uninterrupted run"
    assert line in differences({**TWO_SHARDS, "labels/2.parquet": flipped}, TWO_SHARDS)


@pytest.mark.parametrize("output_on", ["local", "s3"])
@pytest.mark.parametrize("n_kills", [1, 10, 200])
def test_kills_come_in_the_shares_asked_for_and_again_the_same(output_on, n_kills):
    shares = SHARES[output_on]
    kills = draw_kills(n_kills, shares, seed=7)
    found = Counter(kill.kind for kill in kills)
    assert len(kills) == n_kills
    assert all(abs(found[kind] - n_kills * shares[kind] / 100) <= 1 for kind in KILL_KINDS)
    assert kills == draw_kills(n_kills, shares, seed=7)
    assert kills != draw_kills(n_kills, shares, seed=8)


def test_what_differs_is_the_exit_code_and_keeps_everything(monkeypatch, tmp_path):
    right = Outcome(n_jobs=1, n_shards=N_SHARDS)
    kept = []

    def outcomes(*arguments):
        *_, seed, folder = arguments
        kept.append(folder)
        return right if seed == 1 else replace(right, differences=["job-001: labels/1.parquet: missing"])

    monkeypatch.setattr(crash_test, crash.__name__, outcomes)
    same = CliRunner().invoke(main, ["--seed", "1", "--json", str(tmp_path / "same.json")])
    different = CliRunner().invoke(main, ["--seed", "2"])
    assert (same.exit_code, different.exit_code) == (0, 1)
    assert [folder.exists() for folder in kept] == [False, True]
    assert "job-001: labels/1.parquet: missing" in different.output
    assert str(kept[1]) in different.output
    assert '"differences": []' in (tmp_path / "same.json").read_text()
    kept[1].rmdir()
