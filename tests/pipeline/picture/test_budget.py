import threading

import pytest

from pipeline.picture.budget import PixelBudget


def test_small_pictures_go_together_and_a_large_one_alone():
    budget = PixelBudget(10)
    let_in = []

    def take(n_pixels):
        budget.acquire(n_pixels)
        let_in.append(n_pixels)

    take(4)
    take(6)
    waiting = threading.Thread(target=take, args=(100,))
    waiting.start()
    waiting.join(0.1)
    assert let_in == [4, 6]
    budget.release(4)
    waiting.join(0.1)
    assert let_in == [4, 6]
    budget.release(6)
    waiting.join(60)
    assert let_in == [4, 6, 100]


def test_room_is_given_back_when_a_picture_fails():
    budget = PixelBudget(10)
    with pytest.raises(ValueError, match="broken"), budget.take(10):
        raise ValueError("broken")
    next_one = threading.Thread(target=budget.acquire, args=(10,), daemon=True)
    next_one.start()
    next_one.join(60)
    assert not next_one.is_alive()
