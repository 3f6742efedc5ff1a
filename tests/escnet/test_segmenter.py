import subprocess
import sys

import numpy as np
import pytest
import torch

from escnet.segmenter import Segmenter
from escnet.views import merge_views, view_batch
from schemas.errors import ModelError, PictureError
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_network

WORDS = ("cat", "dog", "grass", "sky", "house", "road", "tree")
SIZES = [(1, 1), (1, 500), (49, 500), (641, 479)]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def vocabulary(*words, **others):
    return Vocabulary(name="words", classes=[{"id": WORDS.index(word), "name": word} for word in words], **others)


def content(segmentation):
    arrays = (segmentation.winner, segmentation.runner_up, segmentation.confidence, segmentation.margin)
    return [array.tobytes() for array in arrays] + [segmentation.entropy_mean, segmentation.size_hw]


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.mark.parametrize("views", ["single", "sliding"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_of_any_size_is_labelled_at_its_size(network, views, height, width):
    segmenter = Segmenter(network, views=views)
    found = segmenter(picture(height, width), segmenter.compile(vocabulary(*WORDS, distractors=["haze"])))
    cells_hw = (-(-height // 4), -(-width // 4))
    assert found.winner.shape == found.size_hw == (height, width)
    assert found.runner_up.shape == found.confidence.shape == found.margin.shape == cells_hw
    assert set(np.unique(found.winner)) <= {-1, *range(len(WORDS))}
    assert (found.margin <= found.confidence).all()
    assert 0 < found.entropy_mean <= np.log(8)


def test_order_of_classes_in_the_vocabulary_changes_no_byte(network):
    segmenter = Segmenter(network, class_chunk=3)
    there, back = (segmenter.compile(vocabulary(*words)) for words in (WORDS, WORDS[::-1]))
    shown = picture(60, 80)
    assert content(segmenter(shown, there)) == content(segmenter(shown, back))


@pytest.mark.parametrize("views", ["single", "sliding"])
def test_a_batch_gives_the_bytes_of_one_by_one(network, views):
    segmenter = Segmenter(network, views=views)
    compiled = segmenter.compile(vocabulary(*WORDS))
    pictures = [picture(*size_hw, seed) for seed, size_hw in enumerate([(30, 40), (64, 64), (40, 30)])]
    together = segmenter.segment([segmenter.prepare(each) for each in pictures], compiled)
    assert [content(each) for each in together] == [content(segmenter(each, compiled)) for each in pictures]


def test_a_network_fresh_from_training_is_put_into_evaluation_mode():
    assert not Segmenter(tiny_network().train()).network.training


def test_no_pictures_give_no_labels(network):
    segmenter = Segmenter(network)
    assert segmenter.segment([], segmenter.compile(vocabulary("cat"))) == []


@pytest.mark.parametrize(("views", "side"), [("single", 32), ("sliding", 52)])
def test_labels_are_those_of_the_networks_logits(network, views, side):
    """A flat colour, the same in every view, at the size of the canvas, so that nothing is resampled."""
    segmenter = Segmenter(network, views=views)
    compiled = segmenter.compile(vocabulary(*WORDS))
    found = segmenter(np.full((side, side, 3), (200, 90, 30), np.uint8), compiled)
    config = network.config
    colour = (torch.tensor([200, 90, 30]) / 255 - torch.tensor(config.image_mean)) / torch.tensor(config.image_std)
    with torch.no_grad():
        logits = network(colour.view(1, 3, 1, 1).expand(1, 3, 64, 64), compiled.text.embeddings)
    canvas = merge_views(logits.expand(len(segmenter.prepare(picture(4, 4)).pixels), -1, -1, -1))
    expected = compiled.codes[canvas.argmax(0).numpy()]
    assert (found.winner == expected).mean() > 0.99  # views in one batch differ from a lone one by rounding


def test_classes_at_a_time_change_nothing_but_rounding(network):
    shown, words = picture(60, 80), vocabulary(*WORDS)
    results = [s(shown, s.compile(words)) for s in (Segmenter(network, class_chunk=n) for n in (1, 3, 100))]
    for other in results[1:]:
        assert (other.winner == results[0].winner).mean() > 0.999
        assert np.abs(other.confidence.astype(int) - results[0].confidence).max() <= 1


def test_the_chunk_reaches_the_network_and_nothing_builds_a_graph(network, monkeypatch):
    segmenter, chunks, tensors = Segmenter(network, class_chunk=3), [], []
    compiled = segmenter.compile(vocabulary(*WORDS))
    logits_in_parts = network.logits_in_parts

    def spy(image, text, class_chunk, classes):
        chunks.append(class_chunk)
        tensors.extend([image.patches, *image.sam_inputs, *image.guidance])
        for part in logits_in_parts(image, text, class_chunk, classes):
            tensors.append(part)
            yield part

    monkeypatch.setattr(network, "logits_in_parts", spy)
    segmenter(picture(20, 20), compiled)
    assert chunks == [3]
    assert [part.shape[1] for part in tensors[-3:]] == [3, 3, 1]
    assert not any(tensor.requires_grad for tensor in tensors)


@torch.no_grad()
def test_canvases_are_the_merged_views_of_the_whole_logits(network):
    segmenter = Segmenter(network, class_chunk=3)
    compiled = segmenter.compile(vocabulary(*WORDS))
    group = [segmenter.prepare(picture(60, 80, seed)) for seed in range(2)]
    image = network.encode_image(view_batch(group, network.config, segmenter.device))
    whole = network.logits(image, compiled.text, class_chunk=3)
    expected = torch.stack([merge_views(views) for views in whole.split(5)])
    kept, canvases = segmenter._canvases(group, compiled)
    assert [places.tolist() for places in kept] == [list(range(len(WORDS)))] * 2
    assert torch.equal(canvases, expected)


MEASURE_GROWTH = """
import resource
import numpy as np, torch
from escnet.config import preset_config
from escnet.models import build_random
from escnet.segmenter import Segmenter
from schemas.vocabulary import Vocabulary

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
config = preset_config("escnet-nano").model_copy(update={"n_blocks": 1})  # what blocks hold does not add up
segmenter = Segmenter(build_random(config), views="single", class_chunk=8)
words = [{"id": i, "name": f"word {i}"} for i in range(847)]
few, many = (segmenter.compile(Vocabulary(name="words", classes=words[:n])) for n in (64, 847))
picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
segmenter(picture, few)  # what a pass over 8 classes needs, it has now
before = peak_mib()
assert segmenter(picture, many).winner.shape == (240, 320)
print(peak_mib() - before)
"""


def test_memory_grows_by_the_canvas_of_a_larger_vocabulary_and_no_more():
    """The canvas takes 30 MiB; all logits beside it 60 more; all classes at the picture's size 248."""
    command = [sys.executable, "-c", MEASURE_GROWTH]
    growth_mib = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert growth_mib < 55


@pytest.mark.parametrize(("n_entries", "chunk"), [(1, 1), (25, 25), (26, 13), (60, 20), (847, 25)])
def test_classes_are_spread_evenly_over_passes_that_fit_a_cpus_cache(network, n_entries, chunk):
    """Five views of a class have 5 * 16 SAM channels in the tiny network: 25 classes come to 2000 of 2048."""
    assert Segmenter(network)._suitable_chunk(n_entries, n_views=5) == chunk


def test_bfloat16_labels_nearly_the_same(network):
    shown, words = picture(60, 80), vocabulary(*WORDS)
    full, half = (s(shown, s.compile(words)) for s in (Segmenter(network, dtype=d) for d in ("float32", "bfloat16")))
    assert content(full) != content(half)
    assert np.abs(full.confidence.astype(int) - half.confidence).mean() < 10


def test_float16_on_a_cpu_is_refused(network):
    with pytest.raises(ModelError, match=r"float16 on a CPU.*bfloat16"):
        Segmenter(network, dtype="float16")


@pytest.mark.parametrize("device", ["mps", "meta", "gpu0"])
def test_a_device_it_does_not_run_on_is_refused(network, device):
    with pytest.raises(ModelError, match=rf"^device {device}: .*cpu") as caught:
        Segmenter(network, device=device)
    assert "\n" not in str(caught.value)


class Anywhere:
    """A network that says it is on any device."""

    def to(self, _):
        return self

    def eval(self):
        return self


@pytest.mark.parametrize(
    ("device", "dtype", "is_rounded"),
    [("cuda", "float32", False), ("cuda", "bfloat16", True), ("cpu", "float32", True)],
)
def test_float32_on_a_gpu_is_not_rounded_by_its_convolutions(monkeypatch, device, dtype, is_rounded):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Segmenter(Anywhere(), device=device, dtype=dtype)
    assert torch.backends.cudnn.allow_tf32 == is_rounded


def test_broken_weights_fail_the_picture():
    network = tiny_network()
    segmenter = Segmenter(network)
    compiled = segmenter.compile(vocabulary("cat", "dog"))
    with torch.no_grad():
        next(network.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(PictureError, match="not finite"):
        segmenter(picture(20, 20), compiled)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_labels_as_a_cpu_does(dtype):
    words, pictures = vocabulary(*WORDS), [picture(60, 80, seed) for seed in range(3)]
    on_cpu, on_gpu = Segmenter(tiny_network()), Segmenter(tiny_network(), device="cuda", dtype=dtype)
    compiled = on_gpu.compile(words)
    found = on_gpu.segment([on_gpu.prepare(each) for each in pictures], compiled)
    again = on_gpu.segment([on_gpu.prepare(each) for each in pictures], compiled)
    assert [content(each) for each in found] == [content(each) for each in again]
    for shown, labels in zip(pictures, found, strict=True):
        expected = on_cpu(shown, on_cpu.compile(words))
        distance = np.abs(expected.confidence.astype(int) - labels.confidence)
        assert distance.max() <= 1 if dtype == "float32" else distance.mean() < 10


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"preselect": 3}, {"class_chunk": 2}, {"views": "single"}])
def test_what_bounds_the_work_gives_a_gpus_labels_as_a_cpus(options):
    """The bytes of a GPU are those of one place in a batch: each picture is compared with a CPU, and with its like."""
    network, words = tiny_network(), vocabulary(*WORDS)
    shown = [picture(60, 80, seed) for seed in (0, 1, 0)]
    on_cpu, on_gpu = (Segmenter(tiny_network(), **options), Segmenter(network, device="cuda", **options))
    found = on_gpu.segment([on_gpu.prepare(each) for each in shown], on_gpu.compile(words))
    compiled = on_cpu.compile(words)
    for each, labels in zip(shown, found, strict=True):
        expected = on_cpu(each, compiled)
        assert (expected.winner == labels.winner).mean() > 0.99
        assert np.abs(expected.confidence.astype(int) - labels.confidence).max() <= 2
