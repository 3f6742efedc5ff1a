"""A replica on a node that does not see what the driver sees."""

import re

import pytest

from pipeline.actors.actor import Replica
from pipeline.annotation.labelling import Run, replica_setup
from pipeline.annotation.resolve import resolve_job
from pipeline.storage import StorageOptions
from schemas.errors import PlacementError
from schemas.job import JobRequest
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
