"""Checkpoints from object storage: one fetch a node, by whichever process comes first, and never a wrong file."""

import subprocess
import sys

import pytest

from escnet.checkpoint import save_checkpoint
from escnet.checkpoint_header import read_header
from escnet.models import build_random, bundled_weights, load_model
from pipeline.model_cache import cache_folder, find_model, model_on_this_node
from pipeline.storage import StorageOptions
from schemas.errors import InputError, ModelError

OPTIONS = StorageOptions()
NANO = bundled_weights("escnet-nano")
FINGERPRINT = read_header(NANO).fingerprint
FIND = "import sys; from pipeline.model_cache import find_model, StorageOptions as S; find_model(sys.argv[1], S())"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def weights(s3):
    return s3.put("models/mine.safetensors", NANO.read_bytes())


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The bytes of another checkpoint of the same size."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    save_checkpoint(build_random(read_header(NANO).config), path, {})
    return path.read_bytes()


def cached(cache) -> list[str]:
    return sorted(path.parent.name for path in cache.glob("*/*.safetensors"))


def test_processes_that_want_it_at_once_share_one_fetch(weights, s3, cache):
    start = [sys.executable, "-c", FIND, weights]
    both = [subprocess.Popen(start, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=500)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count(f"{weights}: fetching 8 MB") == 1

    model = find_model(weights, OPTIONS)
    assert (model.name, model.fingerprint, model.is_random) == (weights, FINGERPRINT, False)
    s3.client.delete_object(Bucket=s3.name, Key="models/mine.safetensors")
    with model_on_this_node(model, OPTIONS) as here:
        assert len(list(load_model(here).parameters())) > 0
    assert cached(cache) == [FINGERPRINT]


def test_a_node_that_fetches_later_gets_the_model_of_the_job_or_none(weights, s3, tmp_path, monkeypatch, other):
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "a node"))
    model = find_model(weights, OPTIONS)
    s3.put("models/mine.safetensors", other)
    monkeypatch.setenv("ESCNET_CACHE", str(tmp_path / "another node"))
    with (
        pytest.raises(ModelError, match=f"^{weights}: the file was replaced: .* expected {FINGERPRINT}"),
        model_on_this_node(model, OPTIONS),
    ):
        pass
    assert cached(cache_folder()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "the content does not match its fingerprint"),
        (lambda data: data[:-1], "cut short"),
        (lambda _: b"no weights", "no ESC-Net checkpoint"),
        (lambda _: b"", "no ESC-Net checkpoint"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_and_not_kept(s3, cache, change, said):
    uri = s3.put("bad.safetensors", change(NANO.read_bytes()))
    with pytest.raises(ModelError, match=said):
        find_model(uri, OPTIONS)
    assert cached(cache) == []
    assert not list(cache.glob("*/fetched"))


def test_a_missing_object_is_said(s3):
    with pytest.raises(ModelError, match=f"{s3.uri('gone.safetensors')}: not found"):
        find_model(s3.uri("gone.safetensors"), OPTIONS)


def test_the_cache_keeps_to_its_limit_and_spares_what_is_in_use(weights, s3, cache, other, monkeypatch):
    monkeypatch.setenv("ESCNET_CACHE_GB", "0.01")
    second = s3.put("second.safetensors", other)
    model = find_model(weights, OPTIONS)
    with model_on_this_node(model, OPTIONS):
        found = find_model(second, OPTIONS)
        assert cached(cache) == sorted([FINGERPRINT, found.fingerprint])
    find_model(weights, OPTIONS)
    (cache / found.fingerprint / "model.safetensors").unlink()
    find_model(second, OPTIONS)
    assert cached(cache) == [found.fingerprint]

    monkeypatch.setenv("ESCNET_CACHE_GB", "much")
    (cache / found.fingerprint / "model.safetensors").unlink()
    with pytest.raises(InputError, match="ESCNET_CACHE_GB: found 'much', expected a number of gigabytes"):
        find_model(second, OPTIONS)
