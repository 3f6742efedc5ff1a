import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from escnet.catseg.network import UNLIKELY, CatSeg, likeliest
from escnet.catseg.spatial import seam_mask
from escnet.catseg.views import merge_views, prepare, view_batch
from escnet.checkpoint import load_checkpoint, save_checkpoint
from escnet.config import CatSegConfig
from escnet.scoring import score
from escnet.segmenter import Segmenter
from escnet.training import LossWeights, TrainingBatch, TrainingModel, Words, parameter_groups
from schemas.errors import ModelError
from schemas.vocabulary import Vocabulary
from tests.escnet.catseg.official import picture, tiny_config

SMALL = {"image_size": 128, "window_size": 4, "window_px": 128, "canvas_px": 192, "max_classes": 6}


def small_network(**changes) -> CatSeg:
    """An 8 x 8 grid in shifted windows of 4 x 4; the padding class is not zero, as it is when new."""
    torch.manual_seed(0)
    network = CatSeg(tiny_config(**(SMALL | changes))).eval()
    for layer in network.layers:
        nn.init.normal_(layer.classes.padding)
        nn.init.normal_(layer.classes.padding_guidance)
    return network


@pytest.fixture(scope="module")
def network() -> CatSeg:
    return small_network()


@pytest.fixture(scope="module")
def image(network):
    with torch.no_grad():
        return network.encode_image(torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)))


def embeddings(n_classes: int) -> torch.Tensor:
    return torch.randn(n_classes, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("n_classes", [1, 4, 6, 11])  # below, at and above max_classes
@pytest.mark.parametrize("chunk", [1, 3])
@torch.no_grad()
def test_chunks_of_classes_give_what_the_whole_gives(network, image, n_classes, chunk):
    text = network.prepare_text(embeddings(n_classes))
    whole, parts = network.logits(image, text), list(network.logits_in_parts(image, text, chunk))
    assert [part.shape[1] for part in parts] == [min(chunk, n_classes - i) for i in range(0, n_classes, chunk)]
    assert whole.shape == (2, n_classes, 32, 32)
    assert whole.std() > 0.01
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=2e-6)


@torch.no_grad()
def test_of_a_long_vocabulary_each_view_keeps_the_likeliest(network, image):
    text = network.prepare_text(embeddings(11))
    correlation = network.correlate(image, text)
    kept = likeliest(correlation, 6)
    assert kept.tolist() == correlation.amax(dim=(2, 3)).argsort(descending=True)[:, :6].sort().values.tolist()
    logits = network.logits(image, text)
    for view in range(2):
        is_kept = torch.zeros(11, dtype=torch.bool).index_fill(0, kept[view], True)
        assert (logits[view, ~is_kept] == UNLIKELY).all()
        alone = network.logits(image, text, classes=kept)[view]
        torch.testing.assert_close(logits[view, is_kept], alone, rtol=0, atol=2e-6)


@torch.no_grad()
def test_logits_of_some_classes_are_those_of_a_vocabulary_of_them(network, image):
    text, chosen = network.prepare_text(embeddings(9)), torch.tensor([[1, 4, 7], [0, 4, 8]])
    found = network.logits(image, text, classes=chosen)
    for view in range(2):
        alone = network.logits(image, network.prepare_text(embeddings(9)[chosen[view]]))
        torch.testing.assert_close(found[view], alone[view], rtol=0, atol=2e-6)


@torch.no_grad()
def test_classes_influence_each_other_and_the_padding_stands_in_for_those_missing(image):
    full = small_network()
    four = full.logits(image, full.prepare_text(embeddings(9)[:4]))
    five = full.logits(image, full.prepare_text(embeddings(9)[:5]))
    assert (four - five[:, :4]).abs().max() > 1e-4
    unpadded = small_network(max_classes=4)
    unpadded.load_state_dict(full.state_dict())
    assert (four - unpadded.logits(image, unpadded.prepare_text(embeddings(9)[:4]))).abs().max() > 1e-4


def test_shifted_windows_do_not_mix_opposite_edges():
    mask = seam_mask(side=8, window=4, shift=2)
    assert mask.shape == (4, 16, 16)
    assert mask[0].all()
    right = mask[1].view(4, 4, 4, 4)  # of the window over the right seam: rows, columns, rows, columns
    assert right[0, 0, 3, 1]
    assert not right[0, 1, 0, 2]
    assert (mask[3].sum(dim=-1) == 4).all()  # the corner falls into four


@torch.no_grad()
def test_views_are_averaged_as_probabilities():
    config = tiny_config(**SMALL)
    logits = torch.full((5, 1, 32, 32), 2.0)
    logits[4] = -1.0
    merged = merge_views(logits, config)
    assert merged.shape == (1, 192, 192)
    expected = (torch.tensor(2.0).sigmoid() + torch.tensor(-1.0).sigmoid()) / 2
    torch.testing.assert_close(merged, expected.expand(1, 192, 192))
    torch.testing.assert_close(merge_views(logits[4:], config), torch.tensor(-1.0).sigmoid().expand(1, 32, 32))


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 900), (700, 20), (192, 192)])
def test_views_of_pictures_of_any_size(size_hw):
    config, shown = tiny_config(**SMALL), picture(size_hw)
    for kind, n_views in (("single", 1), ("sliding", 5)):
        pixels = view_batch([prepare(shown, config, kind)] * 2, config, kind, torch.device("cpu"))
        assert pixels.shape == (2 * n_views, 3, 128, 128)
        assert torch.isfinite(pixels).all()


def test_probabilities_are_judged_as_they_are():
    """A canvas as large as the picture, so that nothing is interpolated."""
    canvas = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(3))
    found = score(canvas, np.arange(5, dtype=np.int32), (8, 8), tiny_config(**SMALL))
    best = canvas.topk(2, dim=0).values
    assert np.array_equal(found.winner, canvas.argmax(0).numpy())
    means = torch.nn.functional.avg_pool2d(torch.stack([best[0], best[0] - best[1]]), 4) * 255
    np.testing.assert_allclose([found.confidence, found.margin], means.round().numpy(), atol=1)
    share = canvas / canvas.sum(0)
    assert found.entropy_mean == pytest.approx(-(share * share.log()).sum(0).mean().item(), rel=1e-4)


def test_a_class_that_every_view_left_out_never_wins():
    canvas = torch.zeros(3, 8, 8)
    canvas[1] = 1e-6
    found = score(canvas, np.arange(3, dtype=np.int32), (8, 8), tiny_config(**SMALL))
    assert (found.winner == 1).all()


@pytest.mark.parametrize("views", ["single", "sliding"])
def test_the_order_of_a_vocabulary_and_a_second_run_change_no_byte(network, views):
    names = ["sky", "grass", "a red car", "dog", "road", "wall", "sea"]
    segmenter = Segmenter(network, views=views)
    found = []
    for order in (names, names[::-1], names):
        classes = [{"id": names.index(name), "name": name} for name in order]
        found.append(segmenter(picture((50, 70)), segmenter.compile(Vocabulary(name="v", classes=classes))))
    for other in found[1:]:
        assert np.array_equal(other.winner, found[0].winner)
        assert np.array_equal(other.confidence, found[0].confidence)
        assert other.entropy_mean == found[0].entropy_mean
    assert len(np.unique(found[0].winner)) > 1


def test_a_checkpoint_brings_the_same_network_back(network, tmp_path):
    info = save_checkpoint(network, tmp_path / "cat.safetensors", {})
    loaded = load_checkpoint(tmp_path / "cat.safetensors", expected_fingerprint=info.fingerprint)
    assert isinstance(loaded.config, CatSegConfig)
    assert loaded.config == network.config
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(loaded(pixels, embeddings(3)), network(pixels, embeddings(3)))


def test_a_training_step_changes_new_parts_and_queries_and_values_of_clip():
    network = small_network().train()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    rates = {"learning_rate": 1e-2, "clip_sam_learning_rate": 1e-3, "weight_decay": 1e-4}
    optimiser = torch.optim.AdamW(parameter_groups(network, "paper", **rates))
    tokens = torch.randint(1, 40000, (4, 77))
    tokens[:, -1] = 49407
    words = Words(torch.randint(0, 4, (2, 128, 128)), tokens, torch.arange(4))
    batch, model = TrainingBatch(torch.randn(2, 3, 128, 128), (words,)), TrainingModel(network)
    losses = []
    for _ in range(8):
        loss = model(batch, LossWeights(classes_per_picture=4))["segmentation"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    is_clip = {name for name in before if name.startswith("clip.")}
    in_proj = {name for name in is_clip if name.endswith("attn.in_proj_weight")}
    assert changed & is_clip <= in_proj
    # the last image block passes values only, and the other towers' last layers are as trainable
    assert len(changed & in_proj) == len(in_proj)
    for name in changed & in_proj:
        width = before[name].shape[1]
        assert torch.equal(network.get_parameter(name)[width : 2 * width], before[name][width : 2 * width])
    assert changed - is_clip == set(before) - is_clip


@torch.no_grad()
def test_what_it_computes_can_be_counted(network, image):
    def flops(n_classes: int) -> int:
        text = network.prepare_text(embeddings(n_classes))
        with FlopCounterMode(display=False) as counter:
            network.logits(image, text)
        return counter.get_total_flops()

    few, more = flops(2), flops(4)
    assert 1.8 < more / few < 2.0


def test_in_training_neighbours_share_a_class_attention():
    network = small_network()
    pixels, text = torch.randn(1, 3, 128, 128), embeddings(3)
    with torch.no_grad():
        plain = network(pixels, text)
        pooled = network.train()(pixels, text)
        one = small_network(training_pooling=1).train()(pixels, text)
    assert (plain - pooled).abs().max() > 1e-4
    torch.testing.assert_close(plain, one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_size": 5}, "window_size 5 does not divide the grid of 8 x 8 patches"),
        ({"training_pooling": 3}, "training_pooling 3 does not divide 8, the side of the grid"),
        ({"correlation_kernel": 4}, "correlation_kernel 4: expected an odd number"),
        ({"canvas_px": 300}, "canvas_px 300: expected 128 to 256, so that two windows of 128 cover it"),
        ({"guidance_dims": (16, 4)}, "guidance_dims (16, 4): 16 leaves nothing of 16 channels"),
        ({"loss": "cross_entropy"}, "loss: Input should be 'binary_cross_entropy', found cross_entropy"),
        ({"max_classes": 1}, "max_classes: Input should be greater than or equal to 2, found 1"),
    ],
)
def test_a_setting_that_cannot_run_is_refused_in_one_line(changes, message):
    with pytest.raises(ModelError) as caught:
        tiny_config(**(SMALL | changes))
    assert str(caught.value) == message


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1), ("bfloat16", 12)])
@pytest.mark.parametrize("n_classes", [4, 11])  # below and above max_classes
def test_a_gpu_labels_as_a_cpu_does(dtype, most, n_classes):
    words = Vocabulary(name="words", classes=[f"thing {i}" for i in range(n_classes)])
    on_cpu = Segmenter(small_network(), views="sliding")
    on_gpu = Segmenter(small_network(), views="sliding", device="cuda", dtype=dtype)
    shown = [picture((90, 120), seed) for seed in range(2)]
    prepared, compiled = [on_gpu.prepare(each) for each in shown], on_gpu.compile(words)
    found, again = (on_gpu.segment(prepared, compiled) for _ in range(2))
    for each, labels, same in zip(shown, found, again, strict=True):
        expected = on_cpu(each, on_cpu.compile(words))
        assert np.array_equal(labels.winner, same.winner)
        assert np.array_equal(labels.confidence, same.confidence)
        assert np.abs(expected.confidence.astype(int) - labels.confidence).mean() <= most
        if dtype == "float32":
            assert (expected.winner == labels.winner).mean() > 0.99
