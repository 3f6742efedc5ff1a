"""A replica on a node that does not see what the driver sees, and how many threads work beside the model."""

import re
import threading
import time
from types import SimpleNamespace

import pytest

from pipeline.actors.actor import Replica, ReplicaSetup, make_runner
from pipeline.actors.orders import ShardOrder
from pipeline.annotation.labelling import Run, replica_setup
from pipeline.annotation.resolve import resolve_job
from pipeline.picture.decide import decide
from pipeline.storage import StorageOptions
from schemas.errors import PlacementError
from schemas.job import JobRequest, LabelOptions
from schemas.vocabulary import Vocabulary
from tests.pipeline.actors.test_shard import LightOrDark, planned, png
from tests.pipeline.stand_in import load


@pytest.mark.parametrize("gone", ["photos", "out"])
def test_pictures_or_output_on_a_disk_that_is_not_shared_end_the_job(tmp_path, gone):
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "job.json").touch()
    sources, output = ("s3://b/photos", str(tmp_path / "photos")), str(tmp_path / "out")
    request = JobRequest(
        sources=sources, vocabularies=("pascal-voc-20",), model="escnet-nano", output=output, address="auto"
    )
    job = resolve_job(request, StorageOptions(), [{"CPU": 1}])
    run = Run([], n_rows=0, n_rows_before=0, start=str, stopped=str, has_labels=False)
    setup = replica_setup(job, run, load)
    Replica(setup).warm_up()

    lost = tmp_path / ("photos" if gone == "photos" else "out/job.json")
    lost.rename(tmp_path / "elsewhere")
    with pytest.raises(PlacementError, match=f"^{re.escape(str(lost))}: not there on node .*in object storage"):
        Replica(setup).warm_up()
    alone = replica_setup(
        resolve_job(request.model_copy(update={"address": None}), StorageOptions(), [{"CPU": 1}]), run, load
    )
    assert alone.shared == ()


class AtOnce:
    """Holds threads in a function until so many are in it, and for a while in which more could come; counts them."""

    def __init__(self, function, expected: int) -> None:
        self.function, self.expected = function, expected
        self.now = self.most = 0
        self.changed = threading.Condition()

    def __call__(self, *arguments):
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.expected, timeout=60)
        time.sleep(0.05)
        with self.changed:
            self.now -= 1
        return self.function(*arguments)


@pytest.mark.parametrize(
    ("device", "n_cores", "expected"),
    [("cpu", 6, (4, 2)), ("cuda", 6, (6, 6)), ("cuda", 64, (8, 8)), ("cuda", 1, (4, 2))],
)
def test_beside_a_model_on_a_gpu_as_many_threads_work_as_there_are_cores(
    tmp_path, monkeypatch, device, n_cores, expected
):
    model, decided = LightOrDark(), AtOnce(decide, expected[1])
    model.prepare, model.compile = AtOnce(model.prepare, expected[0]), lambda _: "compiled words"
    monkeypatch.setattr("pipeline.actors.stages.decide", decided)
    monkeypatch.setattr("pipeline.actors.actor.local_cpus", lambda: n_cores)
    options = LabelOptions(
        views="single", device=device, dtype="float32", batch_size=20, cpus_per_actor=1, max_pixels=1000
    )
    words = Vocabulary(name="words", classes=["dark", "light"])
    setup = ReplicaSetup(
        SimpleNamespace(),
        {"words": words},
        options,
        str(tmp_path),
        StorageOptions(),
        {},
        load_segmenter=lambda _: model,
    )
    (ref,) = planned(tmp_path, [png(1)] * 20)
    assert make_runner(setup).run(ShardOrder(ref)).totals.labelled == 20
    assert (model.prepare.most, decided.most) == expected
