"""`escnet vocabulary`: what is printed, and how it ends."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from jobs.main import cli
from schemas.errors import VocabularyError
from schemas.vocabulary_files import parse_vocabulary


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["vocabulary", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_says_how_many_classes_and_prompts_each_bundled_vocabulary_has():
    lines = [line.split(maxsplit=3) for line in run("list").splitlines()]
    assert [line[:3] for line in lines] == [
        ["NAME", "CLASSES", "PROMPTS"],
        ["ade20k-150", "150", "150"],
        ["ade20k-847", "847", "1281"],
        ["coco-stuff-171", "171", "171"],
        ["pascal-context-459", "459", "459"],
        ["pascal-context-59", "59", "59"],
        ["pascal-voc-20", "20", "20"],
        ["pascal-voc-20b", "21", "59"],
    ]
    assert lines[6][3] == "PASCAL VOC: 20 object classes, without background"


WORDS = """\
classes:
- {id: 7, name: vehicle, prompts: []}
- {id: 3, name: car, prompts: [car, taxi], min_confidence: 0.25, parent: vehicle}
distractors:
- {prompt: toy car, becomes: car}
- bonnet
"""


def test_show_prints_classes_by_id_with_thresholds_and_what_distractors_become(tmp_path):
    (tmp_path / "street.yaml").write_text(WORDS)
    assert run("show", str(tmp_path / "street.yaml")) == (
        "street: 2 classes, 2 distractors, ignore is 255\n"
        "templates: A photo of a {} in the scene\n"
        "ID  NAME     CONFIDENCE  MARGIN  PROMPTS\n"
        "3   car      >= 0.25     -       car, taxi\n"
        "7   vehicle  -           -       none of its own\n"
        "\n"
        "DISTRACTOR  BECOMES\n"
        "toy car     3 car\n"
        "bonnet      ignore\n"
    )


def test_show_as_yaml_is_a_file_of_the_same_vocabulary(tmp_path):
    (tmp_path / "street.yaml").write_text(WORDS)
    shown = run("show", str(tmp_path / "street.yaml"), "--format", "yaml")
    assert parse_vocabulary(shown, "shown.yaml") == parse_vocabulary(WORDS, "street.yaml")


def test_an_unknown_name_is_an_error_of_the_user():
    with pytest.raises(VocabularyError, match="did you mean 'pascal-voc-20'"):
        run("show", "pascal-voc20")


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text("classes:\n- no\n")
    result = subprocess.run(
        [sys.executable, "-c", "from jobs.main import main; main()", "vocabulary", "show", str(path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == (
        f"Error: {path}, line 2: class 1: found `no`; expected a name or a mapping; "
        'if it is meant as text, write it in quotes: "no"\n'
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from jobs.main import cli;"
        "CliRunner().invoke(cli, ['vocabulary', 'show', '--help']);"
        "print(sorted({'torch', 'ray', 'pyarrow', 'fsspec', 'pydantic', 'yaml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
