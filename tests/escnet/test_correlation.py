import torch

from escnet.correlation import correlate


def test_every_value_is_the_cosine_of_its_patch_and_its_class():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 6, 5, generator=generator) * 7
    classes = torch.randn(4, 5, generator=generator) * 0.1
    found = correlate(patches, classes, (2, 3))
    assert found.shape == (2, 4, 2, 3)
    for b in range(2):
        for k in range(4):
            for y in range(2):
                for x in range(3):
                    patch, word = patches[b, y * 3 + x], classes[k]
                    torch.testing.assert_close(found[b, k, y, x], patch @ word / (patch.norm() * word.norm()))


def test_a_patch_that_is_the_word_has_correlation_one():
    words = torch.eye(3)
    found = correlate(5 * words.unsqueeze(0), words, (1, 3))
    torch.testing.assert_close(found, torch.eye(3).view(1, 3, 1, 3))
