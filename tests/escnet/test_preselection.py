import numpy as np
import pytest
import torch

from escnet.preselection import MIN_SHARE, select_classes
from escnet.segmenter import Segmenter
from escnet.views import view_batch
from schemas.errors import ModelError
from schemas.vocabulary import Vocabulary
from tests.escnet.tiny import tiny_network

SCALE = torch.tensor(3.0)  # a logarithm
WORDS = tuple(f"word {k}" for k in range(30))


def select(correlation, limit=32):
    return [places.tolist() for places in select_classes(correlation, SCALE, limit)]


def maps(*heights):
    """(1, 1, K, 6, 6): class 0 is everywhere, each other one in a quarter."""
    correlation = torch.full((1, 1, len(heights), 6, 6), -1.0)
    for k, height in enumerate(heights):
        y, x = divmod(k % 4, 2)
        correlation[0, 0, k, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3] = height
    correlation[0, 0, 0] = heights[0]
    return correlation


def test_a_class_that_is_likely_in_one_place_stays_and_one_that_never_is_goes():
    assert select(maps(1.0, -1.0, 0.9, -1.0, -1.0)) == [[0, 2]]


def test_the_limit_holds_where_all_are_near_and_the_likeliest_stay():
    heights = torch.tensor([0.01, 0.04, 0.02, 0.03])
    assert select(heights.view(1, 1, 4, 1, 1).expand(-1, -1, -1, 6, 6), limit=3) == [[1, 2, 3]]


def test_of_equals_the_first_stay():
    assert select(torch.zeros(1, 1, 50, 6, 6), limit=4) == [[0, 1, 2, 3]]


def test_the_margin_is_a_share_of_the_likeliest():
    """Classes 1 and 2 share every patch with class 0, and have a little more or less than the share that is asked."""
    correlation = torch.zeros(1, 1, 4, 6, 6)
    for k, share in enumerate((1.0, MIN_SHARE * 1.01, MIN_SHARE * 0.99, 0.5)):
        correlation[0, 0, k] = np.log(share) / SCALE.exp()
    assert select(correlation) == [[0, 1, 3]]


def test_a_winner_and_a_runner_up_always_stay():
    assert select(maps(1.0, -1.0, -1.0, -0.9)) == [[0, 3]]
    assert select(maps(1.0)) == [[0]]


def test_a_single_patch_does_not_bring_a_class_in_as_an_area_does():
    correlation = torch.zeros(1, 1, 3, 6, 6)
    correlation[0, 0, 1, 0, 0] = 0.3
    correlation[0, 0, 2, 3:6, 3:6] = 0.2
    correlation[0, 0, 0, :, :] = 0.15
    assert select(correlation, limit=2) == [[0, 2]]


def test_pictures_are_judged_by_themselves_and_by_all_their_views():
    first, second = maps(1.0, -1.0, 0.9, -1.0, -1.0), maps(1.0, 0.95, -1.0, -1.0, -1.0)
    assert select(torch.cat([first, second])) == [*select(first), *select(second)]
    assert select(torch.cat([first, second], dim=1)) == [[0, 1, 2]]


@pytest.fixture(scope="module")
def network():
    network = tiny_network()
    network.clip.logit_scale.data.fill_(np.log(100))  # of random weights, but classes differ
    return network


def vocabulary(words=WORDS):
    return Vocabulary(name="words", classes=[{"id": WORDS.index(word), "name": word} for word in words])


@pytest.fixture(scope="module")
def compiled(network):
    return Segmenter(network).compile(vocabulary())


def picture(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def content(segmentation):
    arrays = (segmentation.winner, segmentation.runner_up, segmentation.confidence, segmentation.margin)
    return [array.tobytes() for array in arrays] + [segmentation.entropy_mean]


@torch.no_grad()
@pytest.mark.parametrize("views", ["single", "sliding"])
def test_classes_that_stay_have_the_logits_they_have_without(network, compiled, views):
    without, having = (Segmenter(network, views=views, preselect=limit) for limit in ("off", 5))
    group = [without.prepare(picture(seed=seed)) for seed in range(2)]
    (_, every), (kept, some) = without._canvases(group, compiled), having._canvases(group, compiled)
    assert all(2 <= len(places) <= 5 for places in kept)
    for places, canvas, whole in zip(kept, some, every, strict=True):
        torch.testing.assert_close(canvas[: len(places)], whole[places], rtol=0, atol=1e-5)


@pytest.mark.parametrize("limit", [2, 5, 30])
def test_pixels_are_won_by_classes_that_stay_alone(network, compiled, limit):
    segmenter = Segmenter(network, views="single", preselect=limit)
    shown = segmenter.prepare(picture())
    correlation = network.correlate(
        network.encode_image(view_batch([shown], network.config, segmenter.device)), compiled.text
    )
    (places,) = select_classes(correlation.unsqueeze(0), network.clip.logit_scale, limit)
    codes = set(compiled.codes[places.numpy()].tolist())
    (found,) = segmenter.segment([shown], compiled)
    assert set(np.unique(found.winner)) | set(np.unique(found.runner_up)) <= codes
    assert found.entropy_mean <= np.log(len(codes))


def test_order_of_the_vocabulary_and_company_in_a_batch_change_no_byte(network):
    segmenter = Segmenter(network, views="single", preselect=4)
    there, back = (segmenter.compile(vocabulary(words)) for words in (WORDS, WORDS[::-1]))
    group = [segmenter.prepare(picture(seed=seed)) for seed in range(3)]
    together = [content(each) for each in segmenter.segment(group, there)]
    assert together == [content(each) for each in segmenter.segment(group, back)]
    assert together == [content(*segmenter.segment([each], there)) for each in group]


def test_classes_that_depend_on_each_other_cannot_be_left_out():
    with pytest.raises(ModelError, match=r"preselect 5: .*depend on each other.*off"):
        Segmenter(tiny_network(fusion="mean"), preselect=5)
