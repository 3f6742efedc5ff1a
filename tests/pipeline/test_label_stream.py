"""Reading labels for training: what a sample holds, parts of workers and ranks, orders, thresholds, object storage."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import pipeline
from pipeline.output.overrides import write_overrides
from schemas.errors import InputError
from tests.pipeline.labelled_output import STORAGE, Answer, override, write_output
from tests.pipeline.odd_names import NAMES, WORDS, photo


def ids(dataset, n_workers: int = 0) -> list[str]:
    loader = DataLoader(dataset, batch_size=None, num_workers=n_workers)
    return [sample["image_id"] for sample in loader]


def test_samples_are_picture_and_positions_of_classes(labelled, truth):
    dataset = pipeline.open_labels(labelled)
    assert (dataset.classes, dataset.class_ids) == (("sky", "deep sea", "ship"), (0, 7, 9))
    samples = list(dataset)
    assert [each["image_id"] for each in samples] == list(NAMES)
    for each in samples:
        pixels = np.asarray(Image.open(photo(labelled, each["image_id"])))
        assert (each["image"].numpy() == pixels.transpose(2, 0, 1)).all()
        assert each["mask"].dtype == torch.int64
        values = np.array([0, 7, 9, 255])[each["mask"].numpy().clip(-1)]  # -100 becomes the last
        assert (values == truth[each["image_id"]]).all()
        assert set(each["mask"].unique().tolist()) <= {0, 1, 2, -100}


def test_a_threshold_and_corrections_are_applied_on_the_fly(labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "out")
    mask = np.full((29, 41), 9, np.uint8)
    write_overrides([override("a/1.jpg", mask, WORDS)], str(tmp_path / "out"), STORAGE)
    plain, sure = (list(pipeline.open_labels(str(tmp_path / "out"), min_confidence=c)) for c in (0.0, 0.6))
    assert (sure[0]["mask"] == 2).all()
    for one, other in zip(plain[1:], sure[1:], strict=True):
        kept = other["mask"] != -100
        assert 0.1 < kept.float().mean() < 0.6
        assert (one["mask"][kept] == other["mask"][kept]).all()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> str:
    """Forty pictures of one pixel in ten label files."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    answers = {f"{k:02}.png": Answer(np.zeros((1, 1), np.int32)) for k in range(40)}
    for name in answers:
        Image.new("RGB", (1, 1)).save(folder / "photos" / name)
    write_output(str(folder / "out"), {"words": answers}, [WORDS], shard_size=4, folder=str(folder / "photos"))
    return str(folder / "out")


EVERY = [f"{k:02}.png" for k in range(40)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("n_ranks", "n_workers"), [(1, 2), (3, 0), (6, 2)])
def test_readers_share_the_pictures_without_overlap(many, shuffle, n_ranks, n_workers):
    parts = [
        ids(pipeline.open_labels(many, shuffle=shuffle, rank=rank, world_size=n_ranks), n_workers)
        for rank in range(n_ranks)
    ]
    assert sorted(each for part in parts for each in part) == EVERY
    assert all(parts)


def test_orders_are_those_of_seed_and_epoch(many):
    dataset = pipeline.open_labels(many, shuffle=True, seed=3, shuffle_buffer=16)
    first = ids(dataset)
    assert sorted(first) == EVERY
    assert first != EVERY
    assert ids(dataset) == first
    dataset.set_epoch(1)
    assert sorted(ids(dataset)) == EVERY
    assert ids(dataset) != first
    assert ids(pipeline.open_labels(many, shuffle=True, seed=4, shuffle_buffer=16)) != first
    assert len({each[:1] for each in first[:8]}) > 1  # not file after file


def test_transforms_make_batches(labelled):
    def crop(sample):
        return {"image": sample["image"][:, :16, :16], "mask": sample["mask"][:16, :16]}

    (batch,) = DataLoader(pipeline.open_labels(labelled, transform=crop), batch_size=6)
    assert (batch["image"].shape, batch["mask"].shape) == ((6, 3, 16, 16), (6, 16, 16))


def test_labels_in_object_storage_are_streamed_from_there(s3, labelled, truth):
    for path in [p for p in photo(labelled, "").parent.rglob("out/**/*") if p.is_file()]:
        s3.client.put_object(
            Bucket=s3.name, Key=str(path.relative_to(photo(labelled, "").parent)), Body=path.read_bytes()
        )
    samples = list(pipeline.open_labels(s3.uri("out")))
    assert [each["image_id"] for each in samples] == list(NAMES)
    assert (samples[1]["mask"].numpy() == np.array([0, 1, 2, -100])[np.searchsorted([0, 7, 9], truth["a/2.png"])]).all()


def test_pictures_that_are_gone_are_an_error_or_left_out(labelled):
    path = photo(labelled, "a/2.jpg")
    kept = path.read_bytes()
    try:
        path.unlink()
        with pytest.raises(InputError, match=r"picture 'a/2.jpg' cannot be read: .*no such file; mend it, or"):
            list(pipeline.open_labels(labelled))
        assert ids(pipeline.open_labels(labelled, skip_unreadable=True)) == [
            each for each in NAMES if each != "a/2.jpg"
        ]
        Image.new("RGB", (5, 5)).save(path, "PNG")
        with pytest.raises(InputError, match=r"picture 'a/2\.jpg' is 5 x 5, but its labels are 41 x 31: it was"):
            list(pipeline.open_labels(labelled))
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_confidence": 2}, "min_confidence: found 2, expected a number from 0 to 1"),
        ({"shuffle_buffer": 0}, "shuffle_buffer: found 0, expected at least 1"),
        ({"rank": 1}, "found rank 1 and world_size None, expected both or neither"),
        ({"rank": 2, "world_size": 2}, "found rank 2 of world_size 2, expected 0 to 1"),
        ({"vocabulary": "wrods"}, "did you mean 'words'?"),
    ],
)
def test_wrong_options_are_one_line(labelled, options, said):
    with pytest.raises(InputError) as caught:
        pipeline.open_labels(labelled, **options)
    assert said in str(caught.value)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, pipeline; print(sorted({'torch', 'ray', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
