import pytest

from pipeline.job_files import make_request, read_job_file
from schemas.errors import InputError

KNOWN = ("sources", "vocabularies", "model", "shard_size", "allow_random_weights")


def write(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return str(path)


def test_keys_are_option_names_with_either_dash(tmp_path):
    path = write(
        tmp_path, "source: photos\nvocabulary: [a.yaml, b.yaml]\nshard-size: 4\nallow_random_weights: true\nmodel:\n"
    )
    expected = {
        "sources": ["photos"],
        "vocabularies": ["a.yaml", "b.yaml"],
        "shard_size": 4,
        "allow_random_weights": True,
    }
    assert read_job_file(path, KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shard-sise: 4", r"unknown option 'shard-sise'; did you mean 'shard_size'"),
        ("- photos", r"found a list, expected `option: value` lines"),
        ("", r"found nothing, expected"),
        ("model: a\nmodel: b", r"job\.yaml, line 2: key 'model' stands twice"),
        ("model: a\n  b: [", r"job\.yaml, line 2: not YAML"),
        ("model: !!python/object/apply:os.system ['true']", r"job\.yaml, line 1: found the tag"),
        ("shard-size: 1\nshard_size: 2", r"'shard_size' stands twice"),
    ],
)
def test_a_bad_job_file_is_one_line_that_names_it(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as error:
        read_job_file(write(tmp_path, text), KNOWN)
    assert "job.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00"), lambda _: None])
def test_an_unreadable_job_file_is_one_line_that_names_it(tmp_path, make):
    make(tmp_path / "job.yaml")
    with pytest.raises(InputError, match=r"job\.yaml: cannot be read"):
        read_job_file(str(tmp_path / "job.yaml"), KNOWN)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"output": ""}, "--output: found ''"),
        ({"max_failed": float("nan")}, "--max-failed: found `nan`"),
        ({"shard_size": 0}, "--shard-size: found `0`"),
    ],
)
def test_a_value_out_of_range_names_the_option(wrong, said):
    options = {"sources": ("s",), "vocabularies": ("v",), "model": "m", "output": "o"}
    assert make_request(options).shard_size == 256
    with pytest.raises(InputError, match=said):
        make_request({**options, **wrong})
