import numpy as np
import pytest

from training.batches import (
    batches,
    epoch_order,
    label_weights,
    mirrored_images,
    plan,
)
from training.config import TrainConfig
from training.datasets import Split


def test_each_epoch_takes_every_image_in_an_order_of_its_own() -> None:
    orders = [epoch_order(0, epoch, 50).tolist() for epoch in range(3)]

    assert all(sorted(order) == list(range(50)) != order for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert epoch_order(0, 2, 50).tolist() == orders[2]
    assert epoch_order(1, 2, 50).tolist() != orders[2]


def test_alternating_images_are_mirrored_in_every_second_epoch() -> None:
    config = TrainConfig(alternate=True)
    epochs = [mirrored_images(config, epoch, 1000) for epoch in range(4)]

    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert 400 < epochs[0].sum() < 600
    other = TrainConfig(alternate=True, seed=1)
    assert not np.array_equal(epochs[0], mirrored_images(other, 0, 1000))


def test_by_chance_about_half_are_mirrored_in_each_epoch() -> None:
    epochs = [mirrored_images(TrainConfig(), epoch, 1000) for epoch in range(3)]

    assert all(400 < mirrored.sum() < 600 for mirrored in epochs)
    assert 400 < (epochs[0] ^ epochs[1]).sum() < 600
    assert not mirrored_images(TrainConfig(flip=False), 0, 1000).any()


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_rare_labels_weigh_more_and_the_average_stays(balance: float) -> None:
    targets = np.array([0] * 16 + [1] * 4 + [2])

    weights = label_weights(targets, 3, balance)

    assert weights[targets].mean() == pytest.approx(1, rel=1e-5)
    assert weights[1] / weights[0] == pytest.approx(4**balance, rel=1e-5)
    assert weights[2] / weights[0] == pytest.approx(16**balance, rel=1e-5)


def test_easy_images_are_passed_over_and_the_others_stand_for_them() -> None:
    weights = np.linspace(0.5, 1.5, 1000, dtype=np.float32)
    easy = np.arange(1000) < 600
    config = TrainConfig(skip_easy=0.75, batch_size=64)

    epochs = [plan(config, epoch, weights, easy) for epoch in range(200)]

    taken = [np.concatenate(planned.parts) for planned in epochs]
    assert all(len({*order.tolist()}) == len(order) for order in taken)
    assert all(np.isin(np.flatnonzero(~easy), order).all() for order in taken)
    assert 540 < np.mean([*map(len, taken)]) < 560  # 400 and a quarter of 600
    counted = np.zeros(1000)
    for planned, order in zip(epochs, taken, strict=True):
        assert max(map(len, planned.parts)) <= 64
        assert len(planned.parts) == -(-len(order) // 64)
        assert planned.weights[order].mean() == pytest.approx(1, rel=1e-5)
        counted[order] += planned.weights[order]
    shares = counted / weights
    assert shares[easy].mean() == pytest.approx(shares[~easy].mean(), rel=0.02)


def test_an_epoch_of_all_images_leaves_their_weights() -> None:
    weights = np.linspace(0.5, 1.5, 10, dtype=np.float32)

    planned = plan(TrainConfig(skip_easy=0.5, batch_size=4), 3, weights, np.zeros(10, bool))

    assert sorted(np.concatenate(planned.parts).tolist()) == list(range(10))
    np.testing.assert_array_equal(planned.weights, weights)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_batches_are_an_epoch_in_equal_parts(steps: int) -> None:
    numbers = np.arange(10)
    split = Split(np.broadcast_to(numbers[:, None, None, None], (10, 4, 4, 3)), numbers)
    config = TrainConfig(seed=3, batch_size=-(-10 // steps))
    weights = np.linspace(0.5, 1.5, 10, dtype=np.float32)
    planned = plan(config, 1, weights, np.zeros(10, bool))

    found = [*batches(config, split, 1, planned)]

    assert len(found) == steps
    assert {len(batch.targets) for batch in found} <= {10 // steps, 10 // steps + 1}
    targets = np.concatenate([batch.targets for batch in found])
    np.testing.assert_array_equal(targets, epoch_order(3, 1, 10))
    mirrored = mirrored_images(config, 1, 10)
    for batch in found:
        assert batch.images[:, 0, 0, 0].tolist() == batch.targets.tolist()
        np.testing.assert_array_equal(batch.mirrored, mirrored[batch.targets])
        np.testing.assert_array_equal(batch.weights, weights[batch.targets])
