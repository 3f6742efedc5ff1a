"""Vocabulary files: each form is read, each mistake is one line that names the file and the line."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from schemas.errors import EXIT_USAGE, VocabularyError
from schemas.vocabulary import Vocabulary
from schemas.vocabulary_files import parse_vocabulary, vocabulary_yaml


def ids_and_names(text: str, file_name: str) -> list[tuple[int, str]]:
    return [(c.id, c.name) for c in parse_vocabulary(text, file_name).classes]


@pytest.mark.parametrize(
    ("file_name", "text", "expected"),
    [
        ("a.txt", "wall\n\n# comment\n  floor  # of wood\r\nC#\n", [(0, "wall"), (1, "floor"), (2, "C#")]),
        ("a.txt", "\ufeffwall\nroad, street", [(0, "wall"), (1, "road, street")]),
        ("a.txt", "no\n911\ntrue", [(0, "no"), (1, "911"), (2, "true")]),
        ("a.txt", "3: wall\n1\tfloor: wood\n", [(3, "wall"), (1, "floor: wood")]),
        ("a.names", '["wall", "floor"]', [(0, "wall"), (1, "floor")]),
        ("words", "name: x\nclasses:\n- wall\n- floor\n", [(0, "wall"), (1, "floor")]),
        ("a.yaml", "- wall\n- {name: floor, prompts: [x]}\n", [(0, "wall"), (1, "floor")]),
        ("a.YML", "classes: [{id: 5, name: 'no'}]", [(5, "no")]),
        ("a.json", '["wall, brick", "floor"]', [(0, "wall, brick"), (1, "floor")]),
        ("a.json", '[{"id": 4, "name": "wall", "color": [1, 2, 3]}]', [(4, "wall")]),
        ("a.json", '{"classes": ["\\ud83d\\ude00"]}', [(0, "😀")]),
        ("a.json", '{"images": [], "categories": [{"id": 90, "name": "a", "supercategory": "b"}]}', [(90, "a")]),
        ("a.json", '[{"id": 300, "name": "a", "supercategory": "b", "isthing": 1}]', [(300, "a")]),
    ],
)
def test_forms_that_are_read(file_name, text, expected):
    assert ids_and_names(text, file_name) == expected


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("lists/street.yaml", "street"),
        ("s3://bucket/a b/My classes (2).TXT", "My classes -2"),
        ("C:\\words\\v1.2.json", "v1.2"),
        ("...", "vocabulary"),
        ("straße.names", "straße.names"),
    ],
)
def test_a_file_without_a_name_is_named_after_itself(file_name, name):
    assert parse_vocabulary('["a"]' if file_name.endswith("json") else "classes: [a]", file_name).name == name


# file name, text, line (None: unknown), words of the message
MISTAKES = [
    ("a.yaml", "", None, "is empty"),
    ("a.yaml", "# nothing\n", None, "holds nothing"),
    ("a.txt", "# nothing\n", None, "holds only comments"),
    ("a.txt", "PK\0\0", None, "is no text file"),
    ("a.yaml", "wall\nfloor\n", None, "wants the suffix .txt"),
    ("a.yaml", "name: x\n", None, "classes: missing"),
    ("a.yaml", "classes:\n", 1, "found nothing; expected a list with at least one class"),
    ("a.yaml", "name: a\nclasses: []\n", 2, "found an empty list"),
    ("a.yaml", "classes: {0: wall}\n", 1, "found a mapping"),
    ("a.yaml", "0: wall\n1: floor\n", 1, "unknown key `0`; known are name"),
    ("a.yaml", "clases: [a]\n", 1, "unknown key 'clases'; did you mean 'classes'?"),
    ("a.yaml", "classes:\n- name: a\n  promts: [b]\n", 3, "class 1: unknown key 'promts'; did you mean 'prompts'?"),
    ("a.yaml", "classes: [a]\ndistractors:\n- prompt: b\n  become: a\n", 4, "did you mean 'becomes'?"),
    ("a.yaml", "classes:\n- wall\n- no\n", 3, "class 2: found `no`; expected a name or a mapping; if it is meant"),
    (
        "a.yaml",
        "classes:\n- name: on\n",
        2,
        'found `on`; expected text; if it is meant as text, write it in quotes: "on"',
    ),
    ("a.yaml", "classes:\n- name: a\n  prompts: [b, 12:30]\n", 3, "prompts, item 2: found `12:30`"),
    ("a.yaml", "classes: [2024-01-02]", 1, "found `2024-01-02`"),
    ("a.yaml", "classes: [2024-13-45]", None, "broken number or date"),
    ("a.yaml", "classes:\n- {id: 0, name: a}\n- {id: 0, name: b}\n", 3, "id 0 is given to both 'a' and 'b'"),
    ("a.yaml", "classes:\n- a\n- a\n", 3, "'a' is the name of both id 0 and id 1"),
    ("a.yaml", "classes:\n- {id: 0, name: a}\n- name: b\n", 3, "id: missing; other classes have one"),
    ("a.yaml", "classes:\n- {id: '3', name: a}\n", 2, "found '3'; expected a whole number"),
    ("a.yaml", "classes:\n- {id: true, name: a}\n", 2, "found `true`; expected a whole number"),
    ("a.yaml", "classes:\n- {id: 1.0, name: a}\n", 2, "found `1.0`; expected a whole number"),
    ("a.yaml", "classes:\n- {id: -1, name: a}\n", 2, "from 0 to 65534"),
    ("a.yaml", "classes:\n- {id: 65535, name: a}\n", 2, "from 0 to 65534"),
    ("a.yaml", "ignore_id: 255\nclasses:\n- {id: 255, name: a}\n", 1, "leave it out, and it becomes 65535"),
    ("a.yaml", "classes: [a]\nignore_id: 7\n", 2, "expected 255 or 65535"),
    ("a.yaml", "classes:\n- name: a\n  min_confidence: 1.5\n", 3, "found `1.5`; expected a number from 0 to 1"),
    ("a.yaml", "classes:\n- name: a\n  min_confidence: yes\n", 3, "found `yes`; expected a number from 0 to 1"),
    ("a.yaml", "classes:\n- name: a\n  min_margin: .nan\n", 3, "found `.nan`"),
    ("a.yaml", "classes:\n- name: a\n  min_margin: -0.1\n", 3, "found `-0.1`"),
    ("a.yaml", "classes:\n- name: a\n  color: #ff0000\n", 3, 'found nothing; expected "#rrggbb" in quotes'),
    ("a.yaml", "classes:\n- name: a\n  color: [1, 2, 256]\n", 3, "color, item 3: found `256`"),
    ("a.yaml", "classes:\n- name: a\n  color: red\n", 3, "found 'red'"),
    ("a.yaml", "classes:\n- name: a\n  heldout: 1\n", 3, "expected true or false"),
    ("a.yaml", "classes:\n- a\n- '  '\n", 3, "found blank text"),
    ("a.yaml", "classes:\n- name: a\n  prompts: [b, '']\n", 3, "prompts, item 2: found blank text"),
    ("a.yaml", "classes:\n- name: a\n  prompts:\n", 3, "found nothing; expected text, or a list of texts"),
    ("a.yaml", "classes:\n- b\n- name: a\n  prompts: []\n", 4, "has no prompts"),
    ("a.yaml", "templates: [a photo]\nclasses: [a]", 1, "exactly one {}"),
    ("a.yaml", "classes: [a]\ntemplates: []\n", 2, "found an empty list"),
    ("a.yaml", "classes: [a]\nlevel: root\n", 2, "level: found 'root'; expected leaf, parent or top"),
    ("a.yaml", "classes:\n- name: a\n  parent: b\n", 3, "no class is named 'b'"),
    ("a.yaml", "classes: [tree]\ndistractors:\n- prompt: x\n  becomes: tre\n", 4, "did you mean 'tree'?"),
    ("a.yaml", "classes: [tree]\ndistractors:\n- x\n- {becomes: 0}\n", 4, "distractor 2, prompts: missing"),
    ("a.yaml", "classes: [a]\ndistractors:\n- x\n- 3\n", 4, "distractor 2: found `3`; expected a text or a mapping"),
    ("a.yaml", "classes: [a]\ndistractors: x\n", 2, "distractors: found 'x'; expected a list"),
    ("a.yaml", "name: a/b\nclasses: [a]\n", 1, "the name is also a file name"),
    ("a.yaml", "classes: [a]\nname: 3\n", 2, 'write it in quotes: "3"'),
    ("a.yaml", "classes: [a]\ndescription:\n", 2, "description: found nothing"),
    ("a.yaml", "classes: [a]\nclasses: [b]\n", 2, "key 'classes' stands twice"),
    ("a.yaml", "classes:\n- name: a\n  name: b\n", 3, "key 'name' stands twice"),
    ("a.yaml", "x: &x [1]\nclasses: *x\n", 1, "aliases are not read"),
    ("a.yaml", "x: 1\nclasses: *x\n", 2, "aliases are not read"),
    ("a.yaml", "x: 1\nclasses: !!set {a, b}\n", 2, "tags are not read"),
    ("a.yaml", "classes: !!python/object/apply:os.getcwd []\n", 1, "tags are not read"),
    ("a.yaml", "? [1, 2]\n: x\n", 1, "used as a key"),
    ("a.yaml", "classes:\n\t- a\n", 2, "not YAML"),
    ("a.yaml", "classes: [a, b\n", 2, "not YAML"),
    ("a.yaml", "a: 1\n---\nb: 2\n", 2, "not YAML"),
    ("a.yaml", "classes:\n- a\x07\n", 2, "U+0007"),
    ("a.yaml", "[" * 100_000, 1, "nested more than 32 levels deep"),
    ("a.yaml", f"classes: [0x{'9' * 5000}]", 1, "a huge number"),
    ("a.json", "[" * 100_000, None, "nested too deeply"),
    ("a.json", f"[{'9' * 5000}]", None, "a number too long"),
    ("a.json", '{\n"classes": [1,]}', 2, "not JSON"),
    ("a.json", '{"classes": ["a"],\n"classes": ["b"]}', None, "key 'classes' stands twice"),
    ("a.json", '{"classes":\n[\n\t{"id": 1}]}', 3, "class 1, name: missing"),
    ("a.json", '["a",\n null]', 2, "class 2: found nothing"),
    ("a.json", '["a",\n "\\ud800"]', 2, "control character"),
    ("a.json", "[NaN]", None, "found NaN"),
    ("a.json", '[{"name": "a", "min_margin": 1e999}]', 1, "expected a number from 0 to 1"),
    ("a.json", "3", None, "holds only `3`"),
    ("a.json", '{"categories": 3}', 1, "found `3`; expected a list"),
    ("a.json", '{"categories": []}', 1, "found an empty list"),
    ("a.json", '{"categories": [\n{"id": 1, "name": "a"},\n{"id": 1, "name": "b"}]}', 3, "id 1 is given to both"),
    ("a.txt", "wall\n\nfloor\nwall\n", 4, "'wall' is the name of both"),
    ("a.txt", "1: a\n\nb\n", 3, "has no id, but other lines do"),
    ("a.txt", "70000: a\n", 1, "from 0 to 65534"),
    ("a.txt", "a\nb\x07\n", 2, "control character"),
]


@pytest.mark.parametrize(("file_name", "text", "line", "says"), MISTAKES)
def test_a_mistake_is_one_line_naming_file_and_line(file_name, text, line, says):
    with pytest.raises(VocabularyError) as caught:
        parse_vocabulary(text, file_name)
    message = str(caught.value)
    assert message.startswith(f"{file_name}, line {line}: " if line else f"{file_name}: ")
    assert says in message
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.exit_code == EXIT_USAGE


PIECES = st.sampled_from([
    "classes:", "distractors:", "categories:", "- ", "  ", "\n", "{", "}", "[", "]", ",", '"', "'", "name: ", "id: ",
    "prompts: ", "becomes: ", "parent: ", "color: ", "templates: ", "min_margin: ", "no", "1", "1e999", "~", "0x",
    "!!", "&a", "*a", "<<: ", "? ", "a", "#", "\t", "\x85", "\u2028", "\ufeff", "\ud800", "...", "---", "=", "|", "%",
    "9" * 500,
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "id", "classes", "prompts", "prompt", "becomes", "distractors", "color", "parent",
                         "templates", "ignore_id", "min_margin", "categories", "heldout", "zzz"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    text=st.text() | st.lists(PIECES, max_size=25).map("".join) | VALUES.map(json.dumps),
    suffix=st.sampled_from([".yaml", ".json", ".txt", ""]),
)
@example(text="classes: [{? a}]", suffix=".yaml")
@example(text="- 0x_", suffix=".yaml")
@example(text='[{"name": "a", "min_margin": 1' + "0" * 400 + "}]", suffix=".json")
def test_any_text_is_a_vocabulary_or_a_vocabulary_error(text, suffix):
    try:
        found = parse_vocabulary(text, f"any{suffix}")
    except VocabularyError:
        return
    assert parse_vocabulary(vocabulary_yaml(found), "again.yaml") == found


@st.composite
def vocabularies(draw):
    words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
    names = draw(st.lists(words, min_size=1, max_size=6, unique_by=lambda word: word.casefold()))
    ids = draw(st.lists(st.integers(0, 65534), min_size=len(names), max_size=len(names), unique=True))
    fractions = st.floats(0, 1)
    classes = [
        {"id": i, "name": name, "min_confidence": draw(fractions), "min_margin": draw(fractions),
         "parent": draw(st.sampled_from([None, *names[k + 1 :]])), "heldout": draw(st.booleans()),
         "prompts": [name, f"{k} {draw(words)}"], "color": draw(st.tuples(*[st.integers(0, 255)] * 3))}
        for k, (i, name) in enumerate(zip(ids, names, strict=True))
    ]  # fmt: skip
    distractors = [
        {"prompts": [f"distractor {k} {draw(words)}"], "becomes": draw(st.sampled_from([None, *ids]))} for k in range(2)
    ]
    return {"name": "any", "description": f"any {draw(words)}", "classes": classes, "distractors": distractors}


@settings(max_examples=50)
@given(vocabularies())
def test_yaml_round_trip(data):
    try:
        found = Vocabulary.model_validate(data)
    except ValueError:
        reject()  # names that only differ before they are tidied
    assert parse_vocabulary(vocabulary_yaml(found), "x.yaml") == found


def test_yaml_has_one_class_a_line_and_no_defaults():
    found = parse_vocabulary("classes: [a, {name: b, prompts: []}]\ndistractors: [{prompt: c, becomes: b}]", "v.yaml")
    assert vocabulary_yaml(found) == (
        "name: v\n"
        "templates: ['A photo of a {} in the scene']\n"
        "ignore_id: 255\n"
        "classes:\n"
        "- {id: 0, name: a, prompts: [a], color: '#800000'}\n"
        "- {id: 1, name: b, prompts: [], color: '#008000'}\n"
        "distractors:\n"
        "- {prompts: [c], becomes: 1}\n"
    )


def test_the_example_of_the_documentation_is_read_as_it_says():
    page = (Path(__file__).parents[2] / "docs" / "vocabularies.md").read_text(encoding="utf-8")
    example_yaml, *_ = re.findall("```yaml\n(.*?)```", page, flags=re.DOTALL)
    found = parse_vocabulary(example_yaml, "street.yaml")
    assert set(yaml.safe_load(example_yaml)) == set(Vocabulary.model_fields)
    assert [(c.id, c.name, c.prompts) for c in found.classes] == [
        (0, "road", ("road",)), (1, "car", ("car", "taxi", "police car")), (7, "vehicle", ()),
    ]  # fmt: skip
    assert [(d.prompts, d.becomes) for d in found.distractors] == [
        (("reflection in a window",), None), (("toy car",), None), (("asphalt", "tarmac"), 0),
    ]  # fmt: skip
