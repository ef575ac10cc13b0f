"""Images that are partly another one."""

import numpy as np

from training.data.mixing import mixed


def batch(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Images of one value each, 0 to count - 1, and targets that say which."""
    values = np.arange(count, dtype=np.float32)
    return np.broadcast_to(values[:, None, None, None], (count, 2, 2, 3)), np.eye(
        count, dtype=np.float32
    )


def test_targets_say_what_an_image_is_made_of() -> None:
    images, targets = batch()

    found, said = mixed(images, targets, np.array([0, 1], np.int32), 0.4)

    np.testing.assert_allclose(found[:, 0, 0, 0], said @ np.arange(64), rtol=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-6)
    assert (said.argmax(axis=1) == np.arange(64)).mean() > 0.95  # ties apart
    assert 0.6 < said.max(axis=1).mean() < 0.95


def test_the_same_seed_mixes_the_same_and_another_does_not() -> None:
    images, targets = batch()

    first, again, other = (
        mixed(images, targets, np.array([0, step], np.int32), 0.4)[1] for step in (1, 1, 2)
    )

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
