import pytest

from pipeline.output import absolute_uri, done_shards, read_job, storing, sweep, write_job
from pipeline.storage import StorageOptions
from schemas.errors import OutputError
from tests.schemas.test_job import record

STORAGE = StorageOptions()


def test_a_job_is_written_once_and_read_back(tmp_path):
    assert read_job(str(tmp_path), STORAGE) is None
    assert write_job(record(), str(tmp_path), STORAGE)
    assert not write_job(record(sources=("other",)), str(tmp_path), STORAGE)
    assert read_job(str(tmp_path), STORAGE) == record()


def test_a_job_on_object_storage_is_written_once_and_read_back(s3):
    assert read_job(s3.uri("out"), STORAGE) is None
    assert write_job(record(), s3.uri("out"), STORAGE)
    assert not write_job(record(sources=("other",)), s3.uri("out"), STORAGE)
    assert read_job(s3.uri("out/"), STORAGE) == record()


@pytest.mark.parametrize("name", ["photo.jpg", "labels/x.parquet", "other/deep/file"])
def test_an_output_that_holds_something_else_is_refused(tmp_path, s3, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    s3.put(f"out/{name}", b"mine")
    for output in (str(tmp_path), s3.uri("out")):
        with pytest.raises(OutputError, match=f"holds something else \\({name.split('/')[0]}\\) and no job.json"):
            read_job(output, STORAGE)


def test_a_plan_that_was_interrupted_is_no_hindrance(tmp_path):
    for name in ("manifest", "vocabularies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").write_text("half a plan")
    (tmp_path / ".DS_Store").write_text("how a desktop shows the folder")
    assert read_job(str(tmp_path), STORAGE) is None


def test_a_job_record_that_was_interrupted_is_no_hindrance_and_swept(tmp_path):
    (tmp_path / f".{'0' * 32}.partial").write_text('{"format": "escnet')
    assert read_job(str(tmp_path), STORAGE) is None
    sweep(str(tmp_path), STORAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_file_of_the_users_is_something_else(tmp_path):
    (tmp_path / ".mine.partial").write_text("mine")
    with pytest.raises(OutputError, match=r"holds something else \(\.mine\.partial\)"):
        read_job(str(tmp_path), STORAGE)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        read_job(str(tmp_path / "out"), STORAGE)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "escnet-job/9"}', "\x00"])
def test_a_damaged_job_record_is_refused(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(OutputError, match=r"job\.json: is not a job record of this version"):
        read_job(str(tmp_path), STORAGE)


def test_done_shards_are_those_whose_file_is_whole(tmp_path):
    assert done_shards(str(tmp_path), STORAGE) == set()
    (tmp_path / "labels").mkdir()
    partial = f".{'0' * 32}.partial"
    for name in ("a.parquet", "b.parquet", partial, "notes.txt"):
        (tmp_path / "labels" / name).write_text("")
    assert done_shards(str(tmp_path), STORAGE) == {"a", "b"}
    sweep(str(tmp_path), STORAGE)
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a.parquet", "b.parquet", "notes.txt"]


def test_a_local_output_is_absolute_for_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("out", STORAGE) == str(tmp_path / "out")
    assert absolute_uri("s3://bucket/out", STORAGE) == "s3://bucket/out"


def test_what_storage_raises_is_one_line():
    with pytest.raises(OutputError, match="out: the disk is full"), storing("out"):
        raise OSError(28, "No space left on device")
