import numpy as np
import pytest
import torch
from torch.nn import functional as F

from escnet import text
from escnet.clip import build_tokenizer
from escnet.text import compile_vocabulary, unknown_words
from schemas.errors import VocabularyError
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_config, tiny_network


def vocabulary(*classes, **others):
    return Vocabulary(name="words", classes=classes, **others)


def embeddings(network, *texts):
    """(n, C) of unit norm, without any of our code above the network."""
    with torch.no_grad():
        return F.normalize(network.encode_tokens(build_tokenizer(network.config)(list(texts))), dim=-1)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def assert_near(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_class_is_its_name_in_the_template(network):
    compiled = compile_vocabulary(network, vocabulary("zebra", "cat", templates=("a drawing of {}",)))
    assert compiled.codes.tolist() == [1, 0]  # canonical order is that of the prompts
    assert compiled.codes.dtype == np.int32
    assert_near(compiled.text.embeddings, embeddings(network, "a drawing of cat", "a drawing of zebra"))


def test_synonyms_and_templates_are_averaged_after_and_before_normalisation(network):
    words = vocabulary({"id": 7, "name": "sofa", "prompts": ["sofa", "couch"]}, templates=("{}", "the {}"))
    four = embeddings(network, "sofa", "couch", "the sofa", "the couch")
    compiled = compile_vocabulary(network, words)
    assert compiled.codes.tolist() == [7]
    assert_near(compiled.text.embeddings, F.normalize(four.mean(0, keepdim=True), dim=-1))


def test_distractors_compete_under_negative_codes(network):
    words = vocabulary("cat", distractors=["sky", "ground"], templates=("{}",))
    compiled = compile_vocabulary(network, words)
    assert dict(zip(compiled.codes.tolist(), ["cat", "ground", "sky"], strict=True)) == {
        0: "cat",
        -1: "ground",
        -2: "sky",
    }
    assert_near(compiled.text.embeddings, embeddings(network, "cat", "ground", "sky"))


def test_order_of_classes_prompts_and_templates_changes_no_byte(network):
    cat, dog = {"id": 3, "name": "cat", "prompts": ["cat", "kitten"]}, {"id": 1, "name": "dog"}
    there = compile_vocabulary(network, vocabulary(cat, dog, templates=("{}", "a {}")))
    cat = cat | {"prompts": ["kitten", "cat"]}
    back = compile_vocabulary(network, vocabulary(dog, cat, templates=("a {}", "{}")))
    assert there.codes.tolist() == back.codes.tolist() == [3, 1]
    assert there.text.embeddings.numpy().tobytes() == back.text.embeddings.numpy().tobytes()


def test_a_class_does_not_depend_on_what_else_is_in_the_vocabulary(network):
    many = compile_vocabulary(network, vocabulary(*(f"word {k}" for k in range(40)), "cat"))
    few = compile_vocabulary(network, vocabulary("dog", "cat"))
    assert_near(many.text.embeddings[many.codes == 40], few.text.embeddings[few.codes == 1])


def test_each_distinct_text_is_encoded_once_in_batches_of_one_size(network, monkeypatch):
    shapes = []
    encode = network.encode_tokens
    monkeypatch.setattr(
        network, "encode_tokens", lambda tokens: (shapes.append(tuple(tokens.shape)), encode(tokens))[1]
    )
    shared = [{"name": f"class {k}", "prompts": [f"word {k}", "thing"], "id": k} for k in range(20)]
    compile_vocabulary(network, vocabulary(*shared))  # 20 words and one thing
    assert shapes == [(text._BATCH_SIZE, 77)] * 2


def test_a_prompt_longer_than_the_context_is_refused_by_name(network):
    with pytest.raises(VocabularyError, match=r"vocabulary words: 'red red .*has 78 tokens, expected at most 77"):
        compile_vocabulary(network, vocabulary("cat", " ".join(["red"] * 76), templates=("{}",)))


def test_a_prompt_that_just_fits_is_taken(network):
    compiled = compile_vocabulary(network, vocabulary(" ".join(["red"] * 75), templates=("{}",)))
    assert compiled.codes.tolist() == [0]


def tokens_of(*words):
    """Ids of words, each of which is one token, and of start and end."""
    tokenizer = build_tokenizer(tiny_config())
    ids = [token for word in words for token in tokenizer.encode(word)]
    assert len(ids) == len(words)
    return (*ids, 49406, 49407)


def test_words_without_a_row_of_their_own_are_named_once_in_the_order_of_the_entries():
    config = tiny_config(trained_tokens=tokens_of("a", "photo", "of", "red", "cat"))
    words = vocabulary(
        "zebra", "red cat", "Red Dog", distractors=["dog house"], templates=("A photo of a {}.", "{} of a photo")
    )
    assert [entry.prompts for entry in words.entries] == [("Red Dog",), ("dog house",), ("red cat",), ("zebra",)]
    assert unknown_words(config, words) == ["dog", ".", "house", "zebra"]
    assert unknown_words(config, vocabulary("cat", "red cat", templates=("a photo of a {}",))) == []


def test_a_word_of_several_tokens_is_unknown_if_one_of_them_is():
    tokenizer = build_tokenizer(tiny_config())
    first, *others = tokenizer.encode("quokka")
    assert others
    words = vocabulary("quokka", templates=("{}",))
    assert unknown_words(tiny_config(trained_tokens=(first, 49406, 49407)), words) == ["quokka"]
    assert unknown_words(tiny_config(trained_tokens=(first, *others, 49406, 49407)), words) == []


def test_a_prompt_is_read_where_its_template_puts_it():
    """An ending in the template makes another word of the prompt."""
    config = tiny_config(trained_tokens=tokens_of("cat", "s"))
    assert unknown_words(config, vocabulary("cat", templates=("{}s",))) == ["cats"]


def test_a_network_with_the_whole_token_table_knows_every_word():
    assert unknown_words(tiny_config(), vocabulary("quokka", "ünïcode")) == []
