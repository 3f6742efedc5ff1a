from dataclasses import replace

import pytest

from schemas.job import JobRecord, LabelOptions, ManifestRecord, ModelRecord, differences, shard_identity
from schemas.manifest import ManifestRow

OPTIONS = LabelOptions(
    views="single", device="cpu", dtype="float32", batch_size=1, cpus_per_actor=1, max_pixels=1_000_000
)
ROW = ManifestRow("a.jpg", "s3://bucket/a.jpg", size_bytes=10, etag="e")
SIGNED = "https://host/a.jpg?X-Amz-Signature=secret&X-Amz-Date=20260101&page=2"


def identity(*rows, words="w", model="m", options=OPTIONS):
    return shard_identity(rows, words, model, options)


@pytest.mark.parametrize(
    "other",
    [
        identity(replace(ROW, image_id="b.jpg")),
        identity(replace(ROW, uri="s3://bucket/b.jpg")),
        identity(replace(ROW, size_bytes=11)),
        identity(replace(ROW, etag="f")),
        identity(replace(ROW, byte_offset=512, byte_length=10)),
        identity(replace(ROW, image=b"bytes")),
        identity(ROW, ROW),
        identity(ROW, words="other words"),
        identity(ROW, model="other weights"),
        *(
            identity(ROW, options=OPTIONS.model_copy(update=change))
            for change in (
                {"views": "sliding"},
                {"device": "cuda"},
                {"dtype": "bfloat16"},
                {"batch_size": 4},
                {"cpus_per_actor": 2},
                {"max_pixels": 2},
                {"preselect": 5},
            )
        ),
    ],
)
def test_whatever_decides_the_labels_is_part_of_a_shards_identity(other):
    assert other != identity(ROW)


def test_what_decides_no_label_is_no_part_of_a_shards_identity():
    assert identity(replace(ROW, split="train", mask_uri="m.png", width=3)) == identity(ROW)


def test_a_signature_is_no_part_of_a_shards_identity():
    other_day = SIGNED.replace("secret", "secret2").replace("20260101", "20260102")
    assert identity(replace(ROW, uri=SIGNED)) == identity(replace(ROW, uri=other_day))
    assert identity(replace(ROW, uri=SIGNED)) != identity(replace(ROW, uri=SIGNED.replace("page=2", "page=3")))


def record(**changes) -> JobRecord:
    manifest = ManifestRecord(files=("part-00000.parquet",), n_rows=2, n_shards=1, shard_size=256, digest="d")
    model = ModelRecord(name="nano", fingerprint="f", is_random=False)
    whole = {"model": model, "vocabularies": {"v": "1"}, "options": OPTIONS, "manifest": manifest}
    return JobRecord(**{**whole, "sources": ("photos",), "versions": {}, **changes})


def test_the_same_job_has_no_differences():
    assert differences(record(), record(sources=("./photos/",), versions={"torch": "2"})) == []
    renamed = ModelRecord(name="renamed.safetensors", fingerprint="f", is_random=False)
    assert differences(record(), record(model=renamed)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ModelRecord(name="b16", fingerprint="g", is_random=False)}, "model: nano f there, b16 g now"),
        ({"vocabularies": {"v": "2"}}, "vocabulary v: 1 there, 2 now"),
        ({"vocabularies": {"w": "1"}}, "vocabulary v: 1 there, none now"),
        ({"options": OPTIONS.model_copy(update={"max_pixels": 5})}, "max-pixels: 1000000 there, 5 now"),
        ({"manifest": record().manifest.model_copy(update={"n_rows": 3})}, "pictures: 2 there, 3 now"),
        (
            {"manifest": record().manifest.model_copy(update={"digest": "e"})},
            "pictures: some of them were renamed, replaced, or changed in size or etag",
        ),
    ],
)
def test_differences_say_what_differs(changes, said):
    assert said in differences(asked=record(**changes), found=record())
