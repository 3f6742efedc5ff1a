"""Vocabularies by name, path and URI; the bundled ones against the benchmarks' own lists."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.vocabularies import bundled_names, load_vocabulary
from schemas.errors import InputError, VocabularyError
from schemas.vocabulary import Vocabulary

REPOSITORY = Path(__file__).parents[2]

# name, number of classes, number of entries, ignore_id, the benchmark's list
BUNDLED = [
    ("ade20k-150", 150, 150, 255, "ade150"),
    ("ade20k-847", 847, 847, 65535, "ade847"),
    ("coco-stuff-171", 171, 171, 255, "coco"),
    ("pascal-context-459", 459, 459, 65535, "pc459"),
    ("pascal-context-59", 59, 59, 255, "pc59"),
    ("pascal-voc-20", 20, 20, 255, "voc20"),
    ("pascal-voc-20b", 21, 59, 255, "voc20b"),
]


def read_list(shared_data: Path, name: str) -> list[str]:
    return [line.strip() for line in json.loads((shared_data / "class_lists" / f"{name}.json").read_text())]


def test_the_bundled_names():
    assert bundled_names() == tuple(row[0] for row in BUNDLED)


@pytest.mark.parametrize(("name", "n_classes", "n_entries", "ignore_id", "_"), BUNDLED)
def test_a_bundled_vocabulary_is_complete(name, n_classes, n_entries, ignore_id, _):
    found = load_vocabulary(name)
    assert (found.name, len(found.classes), len(found.entries)) == (name, n_classes, n_entries)
    assert [each.id for each in found.classes] == list(range(n_classes))
    assert found.ignore_id == ignore_id
    assert found.description
    assert len({each.color for each in found.classes}) == n_classes
    assert all(prompt.strip("-") == prompt for each in found.classes for prompt in each.prompts)


@pytest.mark.parametrize(("name", "list_name"), [(row[0], row[4]) for row in BUNDLED if row[0] != "ade20k-847"])
def test_a_bundled_vocabulary_has_the_names_of_the_benchmark_in_order(name, list_name, shared_data):
    found = load_vocabulary(name)
    others = [each.prompts[0] for each in found.distractors]
    names = [each.name for each in found.classes if each.name != "background"]
    assert names + others == read_list(shared_data, list_name)


def test_ade20k_847_has_the_synonyms_of_the_benchmark_in_order(shared_data):
    written = [[part.strip() for part in line.split(",")] for line in read_list(shared_data, "ade847")]
    classes = load_vocabulary("ade20k-847").classes
    assert [each.prompts for each in classes if each.name != "check-in-desk"] == [
        tuple(parts) for parts in written if parts != ["check-in-desk"]
    ]
    first = [parts[0] for parts in written]
    expected = [p[0] if first.count(p[0]) == 1 else ", ".join(p) for p in written]
    assert [each.name for each in classes] == expected


def test_voc_background_is_what_the_other_39_classes_of_context_become():
    found = load_vocabulary("pascal-voc-20b")
    context = {each.name for each in load_vocabulary("pascal-context-59").classes}
    objects = {each.name for each in load_vocabulary("pascal-voc-20").classes}
    assert found.classes[:20] == load_vocabulary("pascal-voc-20").classes
    assert (found.classes[20].name, found.classes[20].prompts) == ("background", ())
    assert {each.prompts[0] for each in found.distractors} == context - objects
    assert {each.becomes for each in found.distractors} == {20}


@pytest.mark.parametrize("name", [row[0] for row in BUNDLED])
def test_reversing_a_bundled_vocabulary_changes_neither_entries_nor_fingerprint(name):
    found = load_vocabulary(name)
    data = found.model_dump()
    data["classes"], data["distractors"] = data["classes"][::-1], data["distractors"][::-1]
    again = Vocabulary.model_validate(data)
    assert (again.entries, again.fingerprint) == (found.entries, found.fingerprint)


def test_every_bundled_file_is_in_the_wheel(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "vocabularies"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("vocabularies/")}
    assert packed == {"vocabularies/__init__.py", *(f"vocabularies/{name}.yaml" for name in bundled_names())}


def test_a_local_file_may_have_any_name_and_a_bundled_name_goes_before_it(tmp_path, monkeypatch):
    (tmp_path / "my #1 words.yaml").write_text("\ufeffclasses: [ä]\n", encoding="utf-8")
    (tmp_path / "ade20k-150").write_text("wall\n")
    monkeypatch.chdir(tmp_path)
    assert load_vocabulary("my #1 words.yaml").classes[0].name == "ä"
    assert len(load_vocabulary("ade20k-150").classes) == 150
    assert len(load_vocabulary("./ade20k-150").classes) == 1


def test_a_file_in_object_storage(s3):
    found = load_vocabulary(s3.put("words/street #1.txt", b"road\ncar\n"))
    assert (found.name, [each.name for each in found.classes]) == ("street -1", ["road", "car"])
    with pytest.raises(VocabularyError, match=r"nothing\.yaml: not found"):
        load_vocabulary(s3.uri("nothing.yaml"))
    with pytest.raises(VocabularyError, match="no such bucket"):
        load_vocabulary("s3://no-such-bucket/words.yaml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ade20k-15", "ade20k-15: no such file, and no bundled vocabulary of that name; did you mean 'ade20k-150'?"),
        ("nothing.yaml", "bundled are ade20k-150, ade20k-847,"),
        ("deep/nothing.yaml", "not found"),
        ("folder", "is a folder"),
        ("picture.png", "is not UTF-8 text (byte 0x89 at offset 0)"),
        ("empty.txt", "empty.txt: is empty"),
        ("", "found no vocabulary"),
        ("a\0b", "no such file"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(name, says, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VocabularyError) as caught:
        load_vocabulary(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_scheme_is_one_line():
    with pytest.raises(InputError, match="unknown scheme foo://"):
        load_vocabulary("foo://bucket/words.yaml")
