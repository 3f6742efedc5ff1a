"""The shard runner with a stand-in for the model: everything from manifest rows to the published file is real."""

import io
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from escnet.scoring import Segmentation
from pipeline.actors.orders import Counts, ShardOrder, Stuck
from pipeline.actors.shard import ShardRunner
from pipeline.output.plan import cut_shards, read_plan, write_plan
from pipeline.storage import StorageOptions
from schemas.errors import PictureError
from schemas.manifest import ManifestRow
from schemas.timings import STAGES
from schemas.vocabulary import Vocabulary

STORAGE = StorageOptions()
WORDS = Vocabulary(name="words", classes=[{"id": 0, "name": "dark"}, {"id": 1, "name": "light"}])


def png(value: int, size_hw=(6, 9)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size_hw, 3), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


@dataclass
class Seen:
    size_hw: tuple[int, int]
    value: int


class Clock:
    """Stands in for `time` in some modules: it passes when a test says so, and by a microsecond at every look."""

    sleep, thread_time = staticmethod(time.sleep), staticmethod(time.thread_time)

    def __init__(self, monkeypatch, *modules):
        self.now = 0.0
        for module in modules:
            monkeypatch.setattr(f"pipeline.actors.{module}.time", self)

    def monotonic(self):
        self.now += 1e-6
        return self.now

    perf_counter = monotonic

    def passes(self, seconds):
        self.now += seconds


class LightOrDark:
    """A stand-in for the Segmenter: one class a picture, by its brightness. Some values make it fail."""

    def __init__(self, failing=(), on_segment=None):
        self.failing = failing
        self.on_segment = on_segment
        self.batches = []

    def prepare(self, picture):
        return Seen(picture.shape[:2], int(picture[0, 0, 0]))

    def segment(self, batch, vocabulary):
        assert vocabulary == "compiled words"
        self.batches.append([seen.value for seen in batch])
        if self.on_segment:
            self.on_segment(batch)
        for seen in batch:
            if seen.value in self.failing:
                raise self.failing[seen.value]
        return [self._one(seen) for seen in batch]

    def _one(self, seen):
        h, w = seen.size_hw
        cells = (-(-h // 4), -(-w // 4))
        light = int(seen.value > 127)
        winner = np.full((h, w), light, np.int32)
        sure = np.full(cells, 255, np.uint8)
        return Segmentation(seen.size_hw, winner, np.full(cells, 1 - light, np.int32), sure, sure, 0.0)


def planned(tmp_path, images, shard_size=100):
    rows = [ManifestRow(f"{i}.png", f"mem/{i}.png", image=data) for i, data in enumerate(images)]
    files = write_plan(
        cut_shards([rows], ("words",), shard_size, lambda r, _: f"id{r[0].image_id}"), str(tmp_path), STORAGE
    )
    return read_plan(files, str(tmp_path), STORAGE)


def runner(tmp_path, model, batch_size=1, **options) -> ShardRunner:
    return ShardRunner(
        model,
        {"words": (WORDS, "compiled words")},
        output=str(tmp_path),
        storage=STORAGE,
        batch_size=batch_size,
        max_pixels=1000,
        identity={"model": "stand-in"},
        **options,
    )


def read(tmp_path, ref):
    return pq.read_table(tmp_path / "labels" / f"{ref.shard_id}.parquet").to_pylist()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_rows_come_in_manifest_order_whatever_the_batch(tmp_path, batch_size):
    values = [i * 12 for i in range(20)]
    (ref,) = planned(tmp_path, [png(value) for value in values])
    result = runner(tmp_path, LightOrDark(), batch_size).run(ShardOrder(ref))
    found = read(tmp_path, ref)
    assert [row["image_id"] for row in found] == [f"{i}.png" for i in range(20)]
    assert [row["classes"][0]["class_id"] for row in found] == [int(value > 127) for value in values]
    assert (result.totals.rows, result.totals.labelled, result.is_withheld) == (20, 20, False)


def test_a_batch_is_cut_by_position_whatever_fails_before_it(tmp_path):
    model = LightOrDark()
    (ref,) = planned(tmp_path, [png(1), b"not a picture", png(2), png(3), b"", png(4)])
    runner(tmp_path, model, batch_size=2).run(ShardOrder(ref))
    assert model.batches == [[1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (PictureError("segment", "internal", "not a number"), "internal"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("a bug at 0x7f12"), "internal"),
    ],
)
def test_a_picture_the_model_fails_on_is_one_failed_row_and_its_batch_is_labelled(tmp_path, raised, kind):
    (ref,) = planned(tmp_path, [png(1), png(2), png(3)])
    runner(tmp_path, LightOrDark(failing={2: raised}), batch_size=3).run(ShardOrder(ref))
    found = read(tmp_path, ref)
    assert [row["status"] for row in found] == ["labelled", "failed", "labelled"]
    assert (found[1]["error_stage"], found[1]["error_kind"]) == ("segment", kind)
    assert (found[1]["width"], found[1]["height"], found[1]["mask"], found[1]["classes"]) == (9, 6, None, None)
    assert "0x" not in found[1]["error_message"]


def test_bad_pictures_are_failed_rows_with_stage_and_kind(tmp_path):
    missing = ManifestRow("gone.png", str(tmp_path / "gone.png"))
    rows = [ManifestRow("a.png", "a", image=png(1)), missing, ManifestRow("big.png", "big", image=png(1, (40, 40)))]
    files = write_plan(cut_shards([rows], ("words",), 9, lambda *_: "id"), str(tmp_path), STORAGE)
    (ref,) = read_plan(files, str(tmp_path), STORAGE)
    result = runner(tmp_path, LightOrDark()).run(ShardOrder(ref))
    found = [(row["status"], row["error_stage"], row["error_kind"]) for row in read(tmp_path, ref)]
    assert found == [("labelled", None, None), ("failed", "fetch", "not_found"), ("failed", "decode", "too_large")]
    assert result.totals.failed == {"fetch/not_found": 1, "decode/too_large": 1}


def test_a_second_run_of_a_shard_changes_nothing(tmp_path):
    (ref,) = planned(tmp_path, [png(1)])
    runner(tmp_path, LightOrDark()).run(ShardOrder(ref))
    before = (tmp_path / "labels" / f"{ref.shard_id}.parquet").read_bytes()
    runner(tmp_path, LightOrDark(failing={1: RuntimeError()})).run(ShardOrder(ref))
    assert (tmp_path / "labels" / f"{ref.shard_id}.parquet").read_bytes() == before


def test_a_shard_of_failures_is_withheld_until_it_may_be_published(tmp_path):
    (ref,) = planned(tmp_path, [b"no picture"] * 3)
    result = runner(tmp_path, LightOrDark()).run(ShardOrder(ref, "failed"))
    assert result.is_withheld
    assert result.last_error.startswith("decode/not_an_image: ")
    assert not list(tmp_path.glob("labels/*"))
    assert not runner(tmp_path, LightOrDark()).run(ShardOrder(ref)).is_withheld
    assert [row["status"] for row in read(tmp_path, ref)] == ["failed"] * 3


def test_unreadable_pictures_alone_are_withheld_where_others_are_labelled_already(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise PictureError("fetch", "forbidden", "no")

    (ref,) = planned(tmp_path, [b"no picture"] * 3)
    assert not runner(tmp_path, LightOrDark()).run(ShardOrder(ref, "unreadable")).is_withheld
    (tmp_path / "labels" / f"{ref.shard_id}.parquet").unlink()
    monkeypatch.setattr("pipeline.actors.stages.fetch", fetch)
    assert runner(tmp_path, LightOrDark()).run(ShardOrder(ref, "unreadable")).is_withheld
    assert not list(tmp_path.glob("labels/*"))


class Bucket:
    """Pictures under a name each; some are refused. Takes the place of `fetch`."""

    def __init__(self, monkeypatch, *refused):
        self.refused = set(refused)
        for user in ("stages", "withholding"):
            monkeypatch.setattr(f"pipeline.actors.{user}.fetch", self.fetch)

    def fetch(self, row, *_, **__):
        if row.uri in self.refused or "all" in self.refused:
            raise PictureError("fetch", "forbidden", f"{row.uri}: no")
        return png(200)


def in_bucket(tmp_path, *names, shard_size=2):
    rows = [ManifestRow(name, f"s3://b/{name}") for name in names]
    shards = cut_shards([rows], ("words",), shard_size, lambda r, _: f"id{r[0].image_id}")
    return read_plan(write_plan(shards, str(tmp_path), STORAGE), str(tmp_path), STORAGE)


def test_a_shard_is_withheld_in_which_storage_begins_to_refuse(tmp_path, monkeypatch):
    bucket = Bucket(monkeypatch)
    first, second = in_bucket(tmp_path, "a", "b", "c", "d")
    one = runner(tmp_path, LightOrDark())
    assert not one.run(ShardOrder(first, "refused")).is_withheld
    bucket.refused.add("all")
    result = one.run(ShardOrder(second, "refused"))
    assert (result.is_withheld, result.is_refused) == (True, True)
    assert result.last_error == "fetch/forbidden: s3://b/d: no"
    assert [path.stem for path in (tmp_path / "labels").iterdir()] == [first.shard_id]
    bucket.refused.clear()
    assert not one.run(ShardOrder(second, "refused")).is_withheld


def test_one_shard_is_enough_to_see_that_credentials_ran_out(tmp_path, monkeypatch):
    bucket = Bucket(monkeypatch)
    (ref,) = in_bucket(tmp_path, "a", "b")

    def run_out_behind_the_first(row, *_, **__):
        data = bucket.fetch(row)
        bucket.refused.add("all")
        return data

    monkeypatch.setattr("pipeline.actors.stages.fetch", run_out_behind_the_first)
    monkeypatch.setattr("pipeline.actors.shard.N_READ_THREADS", 1)
    result = runner(tmp_path, LightOrDark()).run(ShardOrder(ref, "failed"))
    assert (result.totals.labelled, result.is_refused) == (1, True)


def test_pictures_that_are_forbidden_while_others_are_not_are_failed_rows(tmp_path, monkeypatch):
    Bucket(monkeypatch, "s3://b/b", "s3://b/c", "s3://b/d")
    one = runner(tmp_path, LightOrDark())
    for ref in in_bucket(tmp_path, "a", "b", "c", "d"):
        result = one.run(ShardOrder(ref, "refused"))
        assert (result.is_withheld, result.is_refused) == (False, False)
    assert [row["error_kind"] for row in read(tmp_path, ref)] == ["forbidden", "forbidden"]


def test_a_web_server_that_refuses_is_judged_by_what_it_gave_itself(tmp_path, monkeypatch):
    bucket = Bucket(monkeypatch)
    rows = [ManifestRow(name, f"https://{name}.org/1") for name in "abc"]
    shards = cut_shards([rows], ("words",), 1, lambda r, _: f"id{r[0].image_id}")
    first, second, third = read_plan(write_plan(shards, str(tmp_path), STORAGE), str(tmp_path), STORAGE)
    one = runner(tmp_path, LightOrDark())
    assert not one.run(ShardOrder(first, "refused")).is_withheld
    bucket.refused |= {"https://a.org/1", "https://b.org/1"}  # one is rude to everybody who asks again
    assert not one.run(ShardOrder(second, "refused")).is_withheld
    assert not one.run(ShardOrder(third, "refused")).is_withheld
    assert [read(tmp_path, ref)[0]["error_kind"] for ref in (first, second, third)] == [None, "forbidden", None]


def test_a_shard_with_one_label_is_not_withheld_for_its_failures(tmp_path):
    (ref,) = planned(tmp_path, [b"no picture", png(1)])
    assert not runner(tmp_path, LightOrDark()).run(ShardOrder(ref, "failed")).is_withheld
    assert [row["status"] for row in read(tmp_path, ref)] == ["failed", "labelled"]


def test_what_is_at_hand_is_counted_while_it_is(tmp_path):
    seen = []
    model = LightOrDark(on_segment=lambda _: seen.append(one.report().counts))
    (ref,) = planned(tmp_path, [png(1), b"", png(2)])
    one = runner(tmp_path, model)
    one.run(ShardOrder(ref))
    assert seen[0] == {ref.shard_id: Counts()}
    assert one.report().counts == {}


def test_a_failing_batch_is_halved_and_its_other_pictures_are_labelled(tmp_path):
    model = LightOrDark(failing={3: MemoryError()})
    (ref,) = planned(tmp_path, [png(value) for value in (1, 2, 3, 4)])
    runner(tmp_path, model, batch_size=4).run(ShardOrder(ref))
    assert model.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]
    assert [row["error_kind"] for row in read(tmp_path, ref)] == [None, None, "out_of_memory", None]


def test_the_next_shard_is_read_while_the_model_is_at_work(tmp_path):
    next_was_read = threading.Event()

    class Watched(LightOrDark):
        def prepare(self, picture):
            seen = super().prepare(picture)
            if seen.value == 200:
                next_was_read.set()
            return seen

    model = Watched(on_segment=lambda batch: batch[0].value == 1 and next_was_read.wait(60))
    first, second = planned(tmp_path, [png(1), png(2), png(200), png(201)], shard_size=2)
    one = runner(tmp_path, model)
    threads = [threading.Thread(target=one.run, args=(ShardOrder(ref),)) for ref in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert next_was_read.is_set()
    assert [len(read(tmp_path, ref)) for ref in (first, second)] == [2, 2]


def test_a_batch_that_did_not_fit_is_cut_smaller_from_then_on(tmp_path):
    model = LightOrDark(on_segment=lambda batch: (_ for _ in ()).throw(MemoryError()) if len(batch) > 2 else None)
    (ref,) = planned(tmp_path, [png(value) for value in range(1, 13)])
    result = runner(tmp_path, model, batch_size=8).run(ShardOrder(ref))
    assert [len(batch) for batch in model.batches] == [8, 4, 2, 2, 4, 2, 2, 2, 2]
    assert (result.totals.labelled, result.n_halved) == (12, 1)


def test_the_safe_size_is_remembered_for_pictures_of_that_size_only(tmp_path):
    def at_most(batch):
        if sum(h * w for h, w in (seen.size_hw for seen in batch)) > 200:
            raise MemoryError

    model = LightOrDark(on_segment=at_most)
    images = [png(1, (10, 10))] * 4 + [png(2, (4, 4))] * 4
    (ref,) = planned(tmp_path, images)
    runner(tmp_path, model, batch_size=4).run(ShardOrder(ref))
    assert [len(batch) for batch in model.batches] == [4, 2, 2, 4]


def hang(clock, is_all_else_done):
    """For ever, and it becomes late as soon as nothing else can."""
    while not is_all_else_done():
        time.sleep(0.01)
    clock.passes(10)
    threading.Event().wait()


def test_a_picture_that_hangs_before_the_model_is_a_failed_row(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, "timed_pool")

    def fetch(row, *_, **__):
        if row.image is None:
            hang(clock, lambda: one.report().counts[ref.shard_id].labelled == 1)
        return row.image

    monkeypatch.setattr("pipeline.actors.stages.fetch", fetch)
    rows = [ManifestRow("a.png", "a", image=png(1)), *(ManifestRow(f"{i}", f"slow/{i}") for i in range(6))]
    files = write_plan(cut_shards([rows], ("words",), 9, lambda *_: "id"), str(tmp_path), STORAGE)
    (ref,) = read_plan(files, str(tmp_path), STORAGE)
    one = runner(tmp_path, LightOrDark(), timeout_s=0.2)
    one.run(ShardOrder(ref))  # more of them than there are threads
    found = [(row["error_stage"], row["error_kind"], row["error_message"]) for row in read(tmp_path, ref)]
    assert found == [(None, None, None)] + [("fetch", "timeout", "fetch took longer than allowed")] * 6


def test_a_picture_that_hangs_while_it_is_encoded_is_a_failed_row_with_its_size(tmp_path, monkeypatch):
    from pipeline.actors.stages import encode_decided

    clock = Clock(monkeypatch, "timed_pool")

    def encode(row, *arguments):
        if row.image_id == "1.png":
            hang(clock, lambda: one.report().counts[ref.shard_id].labelled == 2)
        return encode_decided(row, *arguments)

    monkeypatch.setattr("pipeline.actors.stages.encode_decided", encode)
    (ref,) = planned(tmp_path, [png(1), png(2), png(3)])
    one = runner(tmp_path, LightOrDark(), timeout_s=0.3)
    one.run(ShardOrder(ref))
    found = [(row["error_stage"], row["error_kind"], row["width"]) for row in read(tmp_path, ref)]
    assert found == [(None, None, 9), ("encode", "timeout", 9), (None, None, 9)]


def test_a_model_that_does_not_come_back_is_told_with_its_pictures(tmp_path, monkeypatch):
    let_go, clock = threading.Event(), Clock(monkeypatch, "shard")

    def stay_away(batch):
        if batch[0].value == 3:
            clock.passes(100)
            let_go.wait(60)

    model = LightOrDark(on_segment=stay_away)
    (ref,) = planned(tmp_path, [png(1), png(2), b"", png(3), png(4)])
    one = runner(tmp_path, model, batch_size=2, timeout_s=90)
    thread = threading.Thread(target=one.run, args=(ShardOrder(ref),))
    thread.start()
    while (stuck := one.report().stuck) is None:
        assert thread.is_alive()
    let_go.set()
    thread.join(60)
    assert stuck == Stuck(ref.shard_id, (3,))
    assert one.report().stuck is None


def test_poisonous_pictures_are_not_tried_and_say_why(tmp_path):
    model = LightOrDark()
    (ref,) = planned(tmp_path, [png(1), png(2), png(3)])
    why = PictureError("segment", "killed", "it does")
    result = runner(tmp_path, model).run(ShardOrder(ref, poison={1: why}))
    assert model.batches == [[1], [3]]
    found = read(tmp_path, ref)
    assert [(row["error_stage"], row["error_kind"], row["error_message"]) for row in found] == [
        (None, None, None), ("segment", "killed", "it does"), (None, None, None),
    ]  # fmt: skip
    assert result.counts == Counts(2, 1)


def test_trying_some_pictures_runs_the_model_on_them_and_writes_nothing(tmp_path):
    model = LightOrDark()
    (ref,) = planned(tmp_path, [png(1), png(2), png(3), png(4)])
    assert runner(tmp_path, model).try_pictures(ref, (1, 3)) is None
    assert model.batches == [[2], [4]]
    assert not list(tmp_path.glob("labels/*"))


def test_only_rows_that_failed_so_are_done_again_and_the_others_stay_as_they_are(tmp_path):
    (ref,) = planned(tmp_path, [png(1), png(2), b"no picture", png(3)])
    runner(tmp_path, LightOrDark(failing={2: MemoryError(), 3: RuntimeError()})).run(ShardOrder(ref))
    before = read(tmp_path, ref)
    model = LightOrDark()
    again = runner(tmp_path, model, redo_kinds=frozenset({"out_of_memory"})).run(ShardOrder(ref))
    assert model.batches == [[2]]
    after = read(tmp_path, ref)
    assert [row["error_kind"] for row in after] == [None, None, "not_an_image", "internal"]
    assert [row for i, row in enumerate(after) if i != 1] == [row for i, row in enumerate(before) if i != 1]
    assert (again.counts, again.totals.labelled) == (Counts(1, 0), 2)


def test_doing_rows_again_never_costs_one_that_is_labelled(tmp_path):
    (ref,) = planned(tmp_path, [png(1), png(2), png(3)])
    runner(tmp_path, LightOrDark(failing={2: MemoryError()})).run(ShardOrder(ref))
    model = LightOrDark()
    again = runner(tmp_path, model, redo_kinds=frozenset({"out_of_memory"}))
    again.try_pictures(ref, (0, 1))
    assert model.batches == [[2]]  # what is labelled is not tried either
    killed = PictureError("segment", "killed", "it does")
    result = again.run(ShardOrder(ref, poison={0: killed, 1: killed}))
    assert [row["error_kind"] for row in read(tmp_path, ref)] == [None, "killed", None]
    assert result.counts == Counts(0, 1)


def test_rows_done_again_that_storage_does_not_give_are_withheld_though_others_are_labelled(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise PictureError("fetch", "forbidden", "no")

    (ref,) = planned(tmp_path, [png(1), png(2)])
    runner(tmp_path, LightOrDark(failing={2: MemoryError()})).run(ShardOrder(ref))
    monkeypatch.setattr("pipeline.actors.stages.fetch", fetch)
    again = runner(tmp_path, LightOrDark(), redo_kinds=frozenset({"out_of_memory"}))
    assert again.run(ShardOrder(ref, "unreadable")).is_withheld
    assert read(tmp_path, ref)[1]["error_kind"] == "out_of_memory"


def test_rows_that_stand_already_are_not_what_storage_gave_before(tmp_path, monkeypatch):
    """One was labelled in an earlier run and may have been closed since; of three others two can be read."""
    bucket = Bucket(monkeypatch, "s3://b/b", "s3://b/c", "s3://b/d")
    (ref,) = in_bucket(tmp_path, "b", "c", "d", "a", shard_size=4)
    runner(tmp_path, LightOrDark()).run(ShardOrder(ref))
    bucket.refused = {"s3://b/a", "s3://b/d"}
    result = runner(tmp_path, LightOrDark(), redo_kinds=frozenset({"forbidden"})).run(ShardOrder(ref, "refused"))
    assert (result.is_withheld, result.counts) == (False, Counts(2, 1))
    assert [row["error_kind"] for row in read(tmp_path, ref)] == [None, None, "forbidden", None]


def test_memory_that_torch_does_not_get_on_a_cpu_is_called_so(tmp_path):
    refused = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: ...")
    (ref,) = planned(tmp_path, [png(1)])
    runner(tmp_path, LightOrDark(failing={1: refused})).run(ShardOrder(ref))
    assert read(tmp_path, ref)[0]["error_kind"] == "out_of_memory"


def test_a_gpu_that_answers_with_errors_ends_the_process(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr("pipeline.actors.safe_batches.os.kill", lambda *arguments: ended.append(arguments))
    (ref,) = planned(tmp_path, [png(1)])
    failing = {1: RuntimeError("CUDA error: an illegal memory access was encountered")}
    runner(tmp_path, LightOrDark(failing=failing)).run(ShardOrder(ref))
    assert len(ended) == 1


def test_the_time_of_a_shard_is_told_by_stage_and_by_what_the_model_waited_for(tmp_path, monkeypatch):
    clock, looks = Clock(monkeypatch, "stopwatch", "shard"), []

    def look():  # the window does as it begins to wait for a picture, and again when it has it
        looks.append(1)
        return clock.perf_counter()

    def slowly(row, *_, **__):
        while len(looks) < {"0.png": 1, "1.png": 3}.get(row.image_id, 0):
            time.sleep(0.01)
        clock.passes(0.2 if row.image_id == "1.png" else 0)
        return row.image

    monkeypatch.setattr("pipeline.actors.windows.time", SimpleNamespace(perf_counter=look))
    monkeypatch.setattr("pipeline.actors.shard.N_READ_THREADS", 1)
    monkeypatch.setattr("pipeline.actors.stages.fetch", slowly)
    model = LightOrDark(on_segment=lambda _: clock.passes(0.05))
    (ref,) = planned(tmp_path, [png(1), png(2), b"no picture", png(3)])
    timings = runner(tmp_path, model, batch_size=2).run(ShardOrder(ref)).timings
    assert (timings.n_pictures, timings.n_segmented, timings.n_batches) == (4, 3, 2)
    assert 0.2 <= timings.seconds["fetch"] < 0.31  # another picture may be fetched while the model is at work
    assert timings.seconds["segment"] == pytest.approx(0.1, abs=0.01)
    assert timings.waits["pictures"] == pytest.approx(0.2, abs=0.01)
    assert timings.model_s == pytest.approx(0.1, abs=0.01)
    assert min(timings.seconds[stage] for stage in STAGES if stage != "memory") > 0


def test_a_model_with_a_core_of_its_own_is_charged_only_for_what_it_computed(tmp_path):
    model = LightOrDark(on_segment=lambda _: time.sleep(0.1))  # it has the thread, and computes nothing
    (ref,) = planned(tmp_path, [png(1), png(2)])
    timings = runner(tmp_path, model, has_own_core=True).run(ShardOrder(ref)).timings
    assert timings.seconds["segment"] >= 0.2
    assert timings.model_s < 0.05


def test_the_time_between_two_shards_is_the_models_own_wait(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, "stopwatch", "shard", "windows")
    first, second = planned(tmp_path, [png(1), png(2)], shard_size=1)
    one = runner(tmp_path, LightOrDark())
    one.run(ShardOrder(first))
    clock.passes(0.2)
    assert one.run(ShardOrder(second)).timings.waits["shards"] == pytest.approx(0.2, abs=0.01)
