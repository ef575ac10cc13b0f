"""What the pages say of the inside of networks whose answer is known."""

import numpy as np
import pytest

from tests.images import random_pixels
from tests.training.report.nets import colour_filters
from training.report import activations
from training.report.layers import Layer, Network


def test_responses_are_means_and_peaks_of_the_maps() -> None:
    network = Network(colour_filters())
    sample = random_pixels(5, 8, 8, 3)

    (found,) = activations.responses(network, network.layers[:1], sample)

    answer = network.layers[0].answer
    maps = network.values(sample, [answer])[answer].reshape(5, 3, -1)
    np.testing.assert_allclose(found.mean, maps.mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(found.peak, maps.max(axis=2))
    np.testing.assert_array_equal(found.place, maps.argmax(axis=2))


def test_a_filter_that_sees_red_is_excited_by_the_reddest_parts() -> None:
    network = Network(colour_filters())
    layer = network.layers[0]
    sample = np.full((6, 8, 8, 3), 60, np.uint8)
    for i in range(5):
        sample[i, i : i + 3, 4:7, 0] = 250 - 20 * i
    (found,) = activations.responses(network, [layer], sample)

    patches = activations.strongest_patches(layer, 0, found, sample)

    assert len(patches) == activations.PATCHES
    for i, patch in enumerate(patches):
        np.testing.assert_array_equal(patch, np.full((3, 3, 3), [250 - 20 * i, 60, 60]))


def test_a_filter_that_sees_everything_gets_the_whole_image() -> None:
    layer = Layer("convolution 9", "x", "w", (1, 2, 2), 0, seen=90, step=16)
    found = activations.Responses(np.ones((1, 1)), np.ones((1, 1)), np.array([[3]]))
    sample = random_pixels(1, 20, 30, 3)

    (patch,) = activations.strongest_patches(layer, 0, found, sample)

    np.testing.assert_array_equal(patch, sample[0])


@pytest.mark.parametrize(("place", "start"), [(0, 0), (1, 3), (3, 11), (7, 26)])
def test_parts_lie_where_the_filter_looks(place: int, start: int) -> None:
    """Eight cells over 32 pixels, 6 pixels each: the outer ones would reach over the border."""
    layer = Layer("convolution 2", "x", "w", (1, 8, 8), 0, seen=6, step=4)

    assert activations._seen(layer, place, 8, 32) == slice(start, start + 6)


def test_the_liveliest_filters_differ_most_among_photographs() -> None:
    means = np.array([[1.0, 5, 0, 2], [1.0, 5, 4, 3]])

    assert activations.liveliest(means, 2) == [2, 3]
    assert activations.liveliest(means[:1], 2) == [1, 3]
