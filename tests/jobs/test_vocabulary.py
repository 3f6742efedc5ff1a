"""`escnet vocabulary`: what is printed, and how it ends."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.main import cli
from pipeline.vocabularies import load_vocabulary
from schemas.errors import OutputError, VocabularyError
from schemas.vocabulary_files import parse_vocabulary
from tests.pipeline.labelled_output import Answer, write_output


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


def exit_code(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["vocabulary", *arguments], catch_exceptions=False, standalone_mode=False)
    return result.return_value or 0, result.output


@pytest.mark.parametrize(
    ("text", "code"),
    [("- {id: 0, name: road}\n", 0), ("- {id: 0, name: crane}\n", 0), ("- {id: 0, name: a_b}\n", 1), ("- no\n", 2)],
)
def test_lint_ends_with_the_code_of_the_worst_finding(tmp_path, text, code):
    (tmp_path / "words.yaml").write_text(text)
    assert exit_code("lint", str(tmp_path / "words.yaml"))[0] == code


def test_lint_says_where_and_what_to_do(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text("- {id: 0, name: road}\n- {id: 1, name: traffic_light}\n")
    assert exit_code("lint", str(path))[1] == (
        f"{path}, line 2: warning: class 1 'traffic_light': 'traffic_light' is no word of a language, and text "
        "encoders learnt from language; write it as people do, 'traffic light', at least as the prompt\n"
        f"{path}: 1 finding\n"
    )
    (finding,) = json.loads(exit_code("lint", str(path), "--json", "-")[1])["findings"]
    assert (finding["severity"], finding["line"]) == ("warning", 2)


def test_lint_says_all_that_keeps_a_file_from_being_used(tmp_path):
    path = tmp_path / "words.yaml"
    path.write_text(
        "classes:\n- {nmae: a}\n- {name: b, min_confidence: 1.3}\n- {name: no}\n"
        "distractors: [{prompt: c, becomes: b}]\n"
    )
    known = "id, name, prompts, min_confidence, min_margin, parent, color, heldout"
    assert exit_code("lint", str(path)) == (
        2,
        f"{path}, line 2: error: class 1: unknown key 'nmae'; did you mean 'name'?; known are {known}\n"
        f"{path}, line 3: error: class 2, min_confidence: found `1.3`; expected a number from 0 to 1, such as 0.35\n"
        f"{path}, line 4: error: class 3, name: found `no`; expected text; if it is meant as text, write it in quotes: "
        f'"no"\n{path}: 3 findings\n',
    )
    path.write_text("classes: [a\n")
    assert exit_code("lint", str(path))[1].startswith(f"{path}, line 2: error: not YAML: ")


NEW_WORDS = WORDS.replace("0.25", "0.5").replace("becomes: car", "becomes: ignore")


def test_diff_says_what_changes_and_what_of_an_output_it_touches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street.yaml").write_text(WORDS)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "street.yaml").write_text(NEW_WORDS)
    cars, none = Answer(np.full((4, 4), 3, np.int32)), Answer(np.full((4, 4), -1, np.int32))
    write_output("out", {"street": {"a.jpg": cars, "b.jpg": cars, "c.jpg": none}}, [parse_vocabulary(WORDS, "street")])
    assert run("diff", "street.yaml", "new/street.yaml", "--output", "out") == (
        "thresholds   3 'car': confidence >= 0.25, margin >= 0 -> confidence >= 0.5, margin >= 0\n"
        "distractors  'toy car' becomes ignore, was class 3\n"
        "\n"
        "The same words compete for pixels: labels can be decided again without the model, `escnet relabel`.\n"
        "out: 2 shards, 3 pictures labelled with street; all of them are decided again; "
        "1 of them holds pixels of a class that changes.\n"
    )
    assert json.loads(run("diff", "street.yaml", "new/street.yaml", "--json", "-"))["needs_model"] is False
    assert run("diff", "street.yaml", "street.yaml").startswith("The two are the same")
    (tmp_path / "more.yaml").write_text(WORDS.replace("distractors:", "- {id: 40, name: kite}\ndistractors:"))
    assert run("diff", "street.yaml", "more.yaml", "--output", "out").endswith(
        "; all of them are labelled again, since other words can win pixels anywhere; "
        "0 of them hold pixels of a class that changes.\n"
    )
    (tmp_path / "new" / "street.yaml").write_text(WORDS.replace("name: car", "name: car, heldout: true"))
    assert run("diff", "street.yaml", "new/street.yaml", "--output", "out").endswith("with street; all of them stay.\n")


def test_import_writes_a_file_with_every_id(tmp_path):
    (tmp_path / "labels.csv").write_text("name,prompts\ncar,car;taxi\nroad,\n")
    output = str(tmp_path / "words.yaml")
    said = run("import", str(tmp_path / "labels.csv"), "--output", output)
    assert said == f"Wrote {output}: 2 classes from {tmp_path / 'labels.csv'} (csv)\n"
    found = load_vocabulary(output)
    assert [(each.id, each.name, each.prompts) for each in found.classes] == [
        (0, "car", ("car", "taxi")), (1, "road", ("road",)),
    ]  # fmt: skip
    with pytest.raises(OutputError, match="already there"):
        run("import", str(tmp_path / "labels.csv"), "--output", output)
    run("import", str(tmp_path / "labels.csv"), "--output", output, "--overwrite")
