"""Vocabulary files of any form and any content: a vocabulary, or one error of one clear line."""

import json
import random

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from schemas.errors import MAX_LINE_CHARACTERS, OutputError, PictureError, VocabularyError, one_line
from schemas.manifest import public_uri
from schemas.vocabulary import Vocabulary, VocabularyClass
from schemas.vocabulary_files import parse_vocabulary, vocabulary_yaml

FEW = settings(max_examples=100)

ANY_TEXT = st.text(st.characters(), max_size=12)
PLAIN_NAMES = st.lists(
    st.text(st.characters(categories=["L", "N", "S", "P"], exclude_characters="#"), min_size=1, max_size=8),
    min_size=1,
    max_size=8,
    unique_by=lambda name: name.casefold(),
)


def assert_one_line(message: str) -> None:
    assert message == one_line(message)


def parsed(text: str, file_name: str) -> Vocabulary | None:
    """The vocabulary, or None if it was refused in one line that does nothing to a terminal."""
    try:
        return parse_vocabulary(text, file_name)
    except VocabularyError as error:
        assert_one_line(str(error))
        return None


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
    | st.sampled_from(["{}", "a {}", "#ff0000", "ignore", "../..", "a\0b", "\x1b[2J", 255, 65535, 10**400])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)


def with_keys_of(model: type) -> st.SearchStrategy:
    return st.dictionaries(st.sampled_from([*model.model_fields, "prompt", "becomes"]) | ANY_TEXT, VALUES, max_size=5)


DOCUMENTS = st.fixed_dictionaries(
    {"classes": st.lists(with_keys_of(VocabularyClass) | VALUES, max_size=4) | VALUES},
    optional=dict.fromkeys(("name", "templates", "ignore_id", "description", "categories", "\ud800"), VALUES)
    | {"distractors": st.lists(with_keys_of(VocabularyClass) | VALUES, max_size=3) | VALUES},
)


@FEW
@given(DOCUMENTS, st.sampled_from([".json", ".yaml", ".txt"]))
@example({"\ud800": 1, "classes": ["a"]}, ".json")
@example({"classes": [{"\ud800": 1}]}, ".json")
@example({"classes": ["a"], "name": "../../../etc/passwd"}, ".json")
@example({"classes": ["a"], "name": "\x1b]0;title\x07"}, ".json")
def test_any_structure_is_a_vocabulary_or_one_line(document, suffix):
    found = parsed(json.dumps(document), f"words{suffix}")
    if found is None:
        return
    assert parse_vocabulary(vocabulary_yaml(found), "again.yaml") == found
    assert Vocabulary.model_validate(found.model_dump()) == found
    assert Vocabulary.model_validate_json(found.model_dump_json()) == found
    assert "/" not in found.name  # it names a file below the output
    assert not found.name.startswith(".")
    assert len(found.name.encode()) <= 200


@FEW
@given(PLAIN_NAMES)
@example(["\N{WOMAN}\N{ZERO WIDTH JOINER}\N{EAR OF RICE}"])
def test_every_form_of_the_same_names_is_the_same_vocabulary(names):
    found = parsed(json.dumps(names), "words.json")
    assume(found is not None)
    as_yaml = json.dumps({"classes": [{"name": name} for name in names]}, ensure_ascii=True)
    as_coco = json.dumps({"images": [], "categories": [{"id": k, "name": name} for k, name in enumerate(names)]})
    as_text = "\n".join(f"{k}: {name}" for k, name in enumerate(names))
    others = [parsed(as_yaml, "words.yaml"), parsed(as_coco, "words.json"), parsed(as_text, "words.txt")]
    assert others == [found] * 3


@FEW
@given(PLAIN_NAMES, st.randoms(use_true_random=False))
def test_the_order_of_classes_changes_no_id_and_no_pixel(names, chance: random.Random):
    text = json.dumps({"classes": [{"id": 7 * k, "name": name} for k, name in enumerate(names)]})
    found = parsed(text, "words.json")
    assume(found is not None)
    shuffled = json.loads(text)
    chance.shuffle(shuffled["classes"])
    other = parsed(json.dumps(shuffled), "words.json")
    assert {each.id: each.name for each in other.classes} == {7 * k: each.name for k, each in enumerate(found.classes)}
    assert (other.entries, other.fingerprint) == (found.entries, found.fingerprint)


@FEW
@given(st.sampled_from(["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "`${x}`", "'; --"]))
def test_names_that_other_programs_would_run_are_only_names(name):
    found = parse_vocabulary(json.dumps([name, "dog"]), "words.json")
    assert [each.name for each in parse_vocabulary(vocabulary_yaml(found), "again.yaml").classes] == [name, "dog"]


@FEW
@given(st.text(st.characters(), max_size=30) | st.text("\x1b\u202ea").map(lambda text: text * 9999))
def test_an_error_is_one_line_that_any_terminal_takes(text):
    for message in (str(OutputError(text)), PictureError("fetch", "storage", text).message):
        assert len(message.splitlines()) <= 1
        assert len(message) <= MAX_LINE_CHARACTERS
        assert not {c for c in message if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2028\u2066"}
        assert message.encode("utf-8").decode() == message == one_line(message)


def test_words_of_every_script_stand_in_an_error_as_they_are():
    text = "日本語, العربية, עברית, नमस्ते, می‌خواهم, 👩‍🌾, ü: not found"
    assert str(OutputError(text)) == text


SECRET = "hunter2"
ADDRESSES = st.sampled_from(
    [
        "https://{s}@host/a.jpg", "https://user:{s}@host/a.jpg", "http://user:{s}@[::1]:99/a@b.jpg",
        "https://host/a.jpg?X-Amz-Signature={s}", "https://host/a.jpg?v=1&sig={s}#x", "HTTPS://host/a?Signature={s}",
        "https://[broken/a.jpg?sig={s}", "s3://key:{s}@bucket/a.jpg", "ftp://user:{s}@host/a.jpg",
    ]
)  # fmt: skip
BEFORE = st.sampled_from(["", " ", "\t", "\n ", "simplecache::", "filecache::simplecache::"])


@FEW
@given(BEFORE, ADDRESSES, st.text(st.characters(exclude_characters="/@"), max_size=5))
def test_no_secret_of_an_address_is_ever_shown(before, address, more):
    shown = public_uri(before + address.format(s=SECRET) + more)
    assert SECRET not in shown
    assert public_uri(shown) == shown
