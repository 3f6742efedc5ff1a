import click
import pytest

from pipeline.annotation.job_files import make_request, read_job_file
from schemas.errors import InputError

FLAGS = ("allow_random_weights",)
KNOWN = ("sources", "vocabularies", "model", "shard_size", "max_failed", *FLAGS)


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
        "shard_size": "4",
        "allow_random_weights": True,
    }
    assert read_job_file(path, KNOWN, FLAGS) == expected


@pytest.mark.parametrize(
    "written", ["2.7", "010", "1.10", "1_000", "0x10", "1:30", "2024-01-31", ".nan", "1e3", "123456789012345678901234"]
)
def test_a_number_is_what_stands_in_the_file(tmp_path, written):
    path = write(tmp_path, f"shard-size: {written}\nsources: [photos, {written}]\nvocabulary: {written}")
    expected = {"shard_size": written, "sources": ["photos", written], "vocabularies": [written]}
    assert read_job_file(path, KNOWN, FLAGS) == expected


def test_off_is_a_word_though_yaml_takes_it_for_false(tmp_path):
    assert read_job_file(write(tmp_path, "model: off"), KNOWN, FLAGS) == {"model": "off"}
    with pytest.raises(InputError, match="model: found `false`"):
        read_job_file(write(tmp_path, "model: false"), KNOWN, FLAGS)


@pytest.mark.parametrize("line", ["shard-size: 2.7", "shard-size: 1.0", "shard-size: 2024-01-31", "max-failed: .nan"])
def test_click_refuses_a_number_of_the_wrong_kind(tmp_path, line):
    options = [click.Option(["--shard-size"], type=int), click.Option(["--max-failed"], type=float)]
    values = read_job_file(write(tmp_path, line), KNOWN, FLAGS)
    with pytest.raises(click.BadParameter, match="is not a valid"):
        click.Command("label", params=options).make_context("label", [], default_map=values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: a\nshard-sise: 4", r"line 2: unknown option 'shard-sise'; did you mean 'shard_size'"),
        (
            "name: street\nclasses: [car]",
            r"job\.yaml: looks like a vocabulary, for it has `classes`; give it as --vocab",
        ),
        ("- photos", r"found a list, expected `option: value` lines"),
        ("", r"found nothing, expected"),
        ("model: a\nmodel: b", r"job\.yaml, line 2: key 'model' stands twice"),
        ("model: a\n  b: [", r"job\.yaml, line 2: not YAML"),
        ("model: !!python/object/apply:os.system ['true']", r"job\.yaml, line 1: found the tag"),
        ("shard-size: 1\nshard_size: 2", r"'shard_size' stands twice"),
        ("model: a\nshard-size: true", r"job\.yaml, line 2: shard-size: found `true`, expected text \(in quotes\) or"),
        ("max-failed: yes", r"line 1: max-failed: found `yes`, expected text"),
        ("model: [x]", r"line 1: model: found a list, expected text"),
        ("model: {x: 1}", r"line 1: model: found a mapping, expected text"),
        ("source: {x: 1}", r"line 1: source: found a mapping, expected text"),
        ("source: true", r"line 1: source: found `true`, expected text"),
        ("sources:\n- 3\n- null", r"line 3: sources: found nothing, expected text"),
        ("sources: [a, [b]]", r"line 1: sources: found a list, expected text"),
        ("vocabulary:\n- a\n- no", r"line 3: vocabulary: found `no`, expected text"),
        ("allow-random-weights: 1", r"line 1: allow-random-weights: found `1`, expected true or false"),
        ("allow-random-weights: 'true'", r"found 'true', expected true or false"),
        ("allow-random-weights: [true]", r"found a list, expected true or false"),
    ],
)
def test_a_bad_job_file_is_one_line_that_names_it(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as error:
        read_job_file(write(tmp_path, text), KNOWN, FLAGS)
    assert "job.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00"), lambda _: None])
def test_an_unreadable_job_file_is_one_line_that_names_it(tmp_path, make):
    make(tmp_path / "job.yaml")
    with pytest.raises(InputError, match=r"job\.yaml: cannot be read"):
        read_job_file(str(tmp_path / "job.yaml"), KNOWN, FLAGS)


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
    assert make_request(options).max_failed == 0.01
    with pytest.raises(InputError, match=said):
        make_request({**options, **wrong})


def test_a_run_is_strict_about_a_plan_or_not_at_all():
    asked = {"sources": ["photos"], "vocabularies": ["v"], "model": "m", "output": "o"}
    with pytest.raises(
        InputError, match=r"^--strict: found no plan to hold the run to; give as --job what `escnet plan"
    ):
        make_request({**asked, "strict": True})
