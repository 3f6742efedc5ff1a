"""Text embeddings are computed once, whoever needs them, and never wrong."""

import threading
import time

import numpy as np
import pytest
import torch

from escnet.config import preset_config
from escnet.models import build_random
from escnet.segmenter import Segmenter
from escnet.text import embed_vocabulary
from pipeline.actors.text_cache import TextCache
from schemas.vocabulary import Vocabulary

WORDS = Vocabulary(name="w", classes=["sky", "sea"], distractors=["fog"])


@pytest.fixture(scope="module")
def network():
    return build_random(preset_config("escnet-nano")).eval()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def computed(folder) -> list[str]:  # noqa: ARG001
    """Names of the vocabularies that were computed."""
    return []


@pytest.fixture
def cache(computed):
    def compute(network, words):
        computed.append(words.name)
        time.sleep(0.05)  # long enough for others to come
        return embed_vocabulary(network, words)

    return lambda model="m": TextCache(model, compute)


def test_of_many_who_ask_at_one_time_one_computes_and_all_have_the_same_bits(network, cache, computed):
    found = []
    threads = [threading.Thread(target=lambda: found.append(cache().embed(network, WORDS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert computed == ["w"]
    assert all(torch.equal(each, embed_vocabulary(network, WORDS)) for each in found)
    assert len(found) == 6


def test_other_thresholds_ids_and_names_are_the_same_words_and_other_words_or_weights_are_not(network, cache, computed):
    cache().embed(network, WORDS)
    same = [{"id": 7, "name": "sea"}, {"id": 3, "name": "mist", "prompts": ["fog"], "min_margin": 0.5}]
    cache().embed(network, Vocabulary(name="same", classes=same, distractors=["sky"]))
    assert computed == ["w"]
    cache().embed(network, Vocabulary(name="other", classes=["sky", "lake"], distractors=["fog"]))
    cache("n").embed(network, WORDS)
    assert computed == ["w", "other", "w"]


def test_a_damaged_file_is_computed_again(network, cache, computed, folder):
    cache().embed(network, WORDS)
    (path,) = (each for each in folder.rglob("text/*") if not each.suffix)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert torch.equal(cache().embed(network, WORDS), embed_vocabulary(network, WORDS))
    assert computed == ["w", "w"]
    path.write_bytes(data[:10])
    cache().embed(network, WORDS)
    assert len(computed) == 3


def test_without_a_place_for_it_everyone_computes(network, cache, computed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "file" / "models"))
    assert torch.equal(cache().embed(network, WORDS), embed_vocabulary(network, WORDS))
    assert computed == ["w"]


def test_labels_are_those_without_a_cache(network, cache):
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    plain = Segmenter(network, views="single")
    for _ in range(2):
        kept = Segmenter(network, views="single", embed=cache().embed)
        expected, found = (each(picture, each.compile(WORDS)) for each in (plain, kept))
        assert np.array_equal(expected.winner, found.winner)
        assert expected.entropy_mean == found.entropy_mean
