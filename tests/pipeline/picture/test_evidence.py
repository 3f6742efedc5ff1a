"""What is decided again from evidence is what a fresh run would decide."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.picture.decide import decide
from pipeline.picture.encode import encode_mask
from pipeline.picture.evidence import decode_evidence, encode_evidence
from schemas.errors import OutputError
from schemas.vocabulary import Vocabulary

FIELDS = ("winner", "runner_up", "confidence", "margin")
FRACTIONS = st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])


def picture(words: Vocabulary, height: int, width: int, seed: int = 0) -> SimpleNamespace:
    """Noise: nothing is alike in two places."""
    random = np.random.default_rng(seed)
    codes = np.array([entry.code for entry in words.entries], np.int32)
    cells = (-(-height // 4), -(-width // 4))
    confidence = random.integers(0, 256, cells, np.uint8)
    return SimpleNamespace(
        winner=random.choice(codes, (height, width)),
        runner_up=random.choice(codes, cells),
        confidence=confidence,
        margin=random.integers(0, confidence.astype(int) + 1).astype(np.uint8),
    )


def smooth_picture(words: Vocabulary, height: int, width: int) -> SimpleNamespace:
    """Like a model's: a few large regions, sure inside, unsure along their borders. Sides divide by 4."""
    random = np.random.default_rng(3)
    codes = np.array([entry.code for entry in words.entries], np.int32)
    y, x = np.mgrid[0:height, 0:width]
    centres = random.uniform(0, 1, (len(codes), 2)) * (height, width)
    distances = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    nearest = np.sort(distances, axis=0)[:2, 2::4, 2::4]
    margin = 1 - np.exp((nearest[0] - nearest[1]) / 15) + random.normal(0, 0.01, nearest.shape[1:])
    confidence = (1 + margin) / 2 - 0.03 + random.normal(0, 0.01, margin.shape)
    order = np.argsort(distances, axis=0)
    return SimpleNamespace(
        winner=codes[order[0]],
        runner_up=codes[order[1][2::4, 2::4]],
        confidence=np.rint(255 * confidence.clip(0, 1)).astype(np.uint8),
        margin=np.rint(255 * np.minimum(margin, confidence).clip(0, 1)).astype(np.uint8),
    )


def words_of(n_classes: int, threshold: float = 0.5, step: int = 1) -> Vocabulary:
    classes = [{"id": k * step, "name": f"class {k}", "min_confidence": threshold} for k in range(n_classes)]
    distractors = ({"prompts": ["sky"], "becomes": 0}, {"prompts": ["haze", "fog"]})
    return Vocabulary(name="test", classes=classes, distractors=distractors)


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[Vocabulary, Vocabulary]:
    """Two vocabularies that differ in thresholds, in what distractors become, and in what classes are rolled up to."""
    ids = draw(st.lists(st.sampled_from([0, 1, 2, 50, 254, 255, 4000]), min_size=1, max_size=4, unique=True))
    n_distractors = draw(st.integers(0, 3))

    def one() -> Vocabulary:
        classes = [
            {"id": k, "name": f"class {k}", "min_confidence": draw(FRACTIONS), "min_margin": draw(FRACTIONS)}
            for k in ids
        ]
        for k, each in enumerate(classes[1:]):
            each["parent"] = draw(st.sampled_from([None, *(other["name"] for other in classes[: k + 1])]))
        becomes = st.one_of(st.none(), st.sampled_from(ids))
        distractors = [{"prompts": [f"distractor {k}"], "becomes": draw(becomes)} for k in range(n_distractors)]
        level = draw(st.sampled_from(["leaf", "parent", "top"]))
        return Vocabulary(name="test", classes=classes, distractors=distractors, level=level)

    return one(), one()


@given(both=vocabularies(), height=st.integers(1, 13), width=st.integers(1, 13), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_deciding_again_equals_deciding_afresh(both: tuple[Vocabulary, Vocabulary], height: int, width: int, seed: int):
    old, new = both
    fresh = picture(old, height, width, seed)
    mask = decide(fresh, old).mask
    restored = decode_evidence(encode_evidence(fresh, mask, old), mask, old)
    for field in FIELDS:
        found, expected = getattr(restored, field), getattr(fresh, field)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=field)
    again, afresh = decide(restored, new), decide(fresh, new)
    np.testing.assert_array_equal(again.mask, afresh.mask)
    assert (again.classes, again.confidence_mean, again.margin_mean, again.ignored_fraction) == (
        afresh.classes, afresh.confidence_mean, afresh.margin_mean, afresh.ignored_fraction,
    )  # fmt: skip


@pytest.mark.parametrize("n_classes", [1, 254, 255, 300, 700])
def test_vocabularies_of_any_length_come_back(n_classes: int):
    words = words_of(n_classes, step=60)
    fresh = picture(words, 50, 51)
    mask = decide(fresh, words).mask
    restored = decode_evidence(encode_evidence(fresh, mask, words), mask, words)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(restored, field), getattr(fresh, field), err_msg=field)


def test_evidence_and_mask_of_a_photograph_are_small():
    words = words_of(12)
    fresh = smooth_picture(words, 480, 640)
    mask = decide(fresh, words).mask
    assert len(encode_evidence(fresh, mask, words)) + len(encode_mask(mask)) <= 40_000


def test_winners_that_the_mask_shows_take_no_room():
    all_kept, all_ignored = words_of(12, threshold=0.0), words_of(12, threshold=1.0)
    fresh = smooth_picture(words_of(12), 480, 640)
    fresh.winner[fresh.winner <= 0] = 1  # no distractor, and no class that one may have become
    sizes = [len(encode_evidence(fresh, decide(fresh, words).mask, words)) for words in (all_kept, all_ignored)]
    assert sizes[0] < sizes[1] - 1000


def test_equal_pictures_give_equal_bytes():
    words = words_of(12)
    first, second = smooth_picture(words, 96, 88), smooth_picture(words, 96, 88)
    mask = decide(first, words).mask
    assert encode_evidence(first, mask, words) == encode_evidence(second, mask, words)


def test_damaged_evidence_is_refused():
    words = words_of(3)
    fresh = picture(words, 20, 30)
    mask = decide(fresh, words).mask
    data = encode_evidence(fresh, mask, words)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(OutputError, match="checksum"):
            decode_evidence(bytes(damaged), mask, words)
    for end in (0, 3, 20, len(data) - 1):
        with pytest.raises(OutputError, match=f"found {end} bytes"):
            decode_evidence(data[:end], mask, words)


def test_evidence_of_another_mask_vocabulary_or_version_is_refused():
    words = words_of(3)
    fresh = picture(words, 20, 30)
    mask = decide(fresh, words).mask
    data = encode_evidence(fresh, mask, words)
    more_ignored = np.where(mask == 1, np.uint8(255), mask)
    for other_mask, other_words in ((mask[:-1], words), (mask.T, words), (mask, words_of(4)), (more_ignored, words)):
        with pytest.raises(OutputError, match="mask and vocabulary"):
            decode_evidence(data, other_mask, other_words)
    body = bytearray(data[4:])
    body[4] += 1
    with pytest.raises(OutputError, match="version 2, expected b'ESCE' version 1"):
        decode_evidence(zlib.crc32(body).to_bytes(4, "little") + bytes(body), mask, words)
