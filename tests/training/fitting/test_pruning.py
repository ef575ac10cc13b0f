import numpy as np
import pytest

from training.data.batches import epoch_order
from training.fitting.pruning import easy_images, prune


def test_easy_images_are_left_out_and_the_others_stand_for_them() -> None:
    weights = np.linspace(0.5, 1.5, 1000, dtype=np.float32)
    easy = np.arange(1000) < 600
    counted, taken = np.zeros(1000), []

    for epoch in range(200):
        rng = np.random.default_rng(epoch)
        order, weighed = prune(epoch_order(0, epoch, 1000), weights, easy, 0.75, rng)
        assert len({*order.tolist()}) == len(order)
        assert np.isin(np.flatnonzero(~easy), order).all()
        assert weighed[order].mean() == pytest.approx(1, rel=1e-5)
        counted[order] += weighed[order]
        taken.append(len(order))

    assert 540 < np.mean(taken) < 560  # 400 and a quarter of 600
    shares = counted / weights
    assert shares[easy].mean() == pytest.approx(shares[~easy].mean(), rel=0.02)


def test_without_easy_images_an_epoch_is_left_as_it_is() -> None:
    weights, order = np.linspace(0.5, 1.5, 10, dtype=np.float32), epoch_order(0, 3, 10)

    found = prune(order, weights, np.zeros(10, bool), 0.5, np.random.default_rng(0))

    np.testing.assert_array_equal(found[0], order)
    np.testing.assert_array_equal(found[1], weights)


def test_easy_is_what_lost_less_than_the_mean() -> None:
    losses = np.array([0.1, 0.2, 3.0], np.float32)

    assert easy_images(losses, 0.5).tolist() == [True, True, False]
    assert not easy_images(losses, 0.9).any()  # at the end all are taken
    assert not easy_images(np.zeros(3, np.float32), 0.0).any()  # before the first epoch
