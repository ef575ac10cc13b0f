import numpy as np
import pytest

from training.config import TrainConfig
from training.data.batches import (
    batches,
    epoch_order,
    image_weights,
    mirrored_images,
    steps_of,
)
from training.data.dataset import Split


def test_each_epoch_takes_every_image_in_an_order_of_its_own() -> None:
    orders = [epoch_order(0, epoch, 50).tolist() for epoch in range(3)]

    assert all(sorted(order) == list(range(50)) != order for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert epoch_order(0, 2, 50).tolist() == orders[2]
    assert epoch_order(1, 2, 50).tolist() != orders[2]


def test_alternating_images_are_mirrored_in_every_second_epoch() -> None:
    config = TrainConfig(architecture="small")
    epochs = [mirrored_images(config, epoch, 1000) for epoch in range(4)]

    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert 400 < epochs[0].sum() < 600
    other = TrainConfig(architecture="small", seed=1)
    assert not np.array_equal(epochs[0], mirrored_images(other, 0, 1000))


def test_by_chance_about_half_are_mirrored_in_each_epoch() -> None:
    epochs = [mirrored_images(TrainConfig(), epoch, 1000) for epoch in range(3)]

    assert all(400 < mirrored.sum() < 600 for mirrored in epochs)
    assert 400 < (epochs[0] ^ epochs[1]).sum() < 600
    assert not mirrored_images(TrainConfig(flip=False), 0, 1000).any()


@pytest.mark.parametrize("class_weighting", [0.0, 0.5, 1.0])
def test_rare_labels_weigh_more_and_the_average_stays(class_weighting: float) -> None:
    targets = np.array([0] * 16 + [1] * 4 + [2])

    weights = image_weights(targets, 3, class_weighting)

    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert weights[16] / weights[0] == pytest.approx(4**class_weighting, rel=1e-5)
    assert weights[20] / weights[0] == pytest.approx(16**class_weighting, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_batches_are_an_epoch_in_equal_parts(steps: int) -> None:
    numbers = np.arange(10)
    split = Split(np.broadcast_to(numbers[:, None, None, None], (10, 4, 4, 3)), numbers)
    weights = np.linspace(0.5, 1.5, 10, dtype=np.float32)
    mirrored = mirrored_images(TrainConfig(seed=3), 1, 10)
    order = epoch_order(3, 1, 10)
    assert steps_of(10, -(-10 // steps)) == steps

    found = [*batches(split, np.array_split(order, steps), mirrored, weights)]

    assert len(found) == steps
    assert {len(batch.targets) for batch in found} <= {10 // steps, 10 // steps + 1}
    targets = np.concatenate([batch.targets for batch in found])
    np.testing.assert_array_equal(targets, order)
    for batch in found:
        assert batch.images[:, 0, 0, 0].tolist() == batch.targets.tolist()
        np.testing.assert_array_equal(batch.mirrored, mirrored[batch.targets])
        np.testing.assert_array_equal(batch.weights, weights[batch.targets])
