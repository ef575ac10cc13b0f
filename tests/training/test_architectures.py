"""Sizes that are refused are those that cannot be built."""

import pytest

from training.architectures import ARCHITECTURES, patch
from training.networks import basic, staged
from training.networks.dimensions import PLAIN_PIXELS, Dimensions
from training.networks.layers import TrainedLayers

TOO_SMALL = r"[Nn]egative|invalid|shape|Computed output size"


def build(name: str, size: tuple[int, int]) -> tuple[int | None, ...]:
    """The output's shape of the smallest network of this architecture."""
    architecture = ARCHITECTURES[name]
    layers = TrainedLayers(PLAIN_PIXELS, 0.0)
    dimensions = Dimensions(size, labels=4, width=0.1)
    builder = staged.build if architecture.is_staged else basic.build
    shape: tuple[int | None, ...] = builder(architecture, dimensions, layers).output_shape
    return shape


@pytest.mark.parametrize("name", ["basic", "small"])  # the staged ones share their builder
def test_the_smallest_side_is_the_smallest(name: str) -> None:
    side = ARCHITECTURES[name].smallest_for((32, 32))

    assert build(name, (side, side)) == (None, 4)
    with pytest.raises(ValueError, match=TOO_SMALL):
        build(name, (side - 1, side - 1))


@pytest.mark.parametrize("longer", [32, 64, 128, 160, 512])
def test_the_smallest_side_is_of_the_size_that_the_network_is_built_for(longer: int) -> None:
    """The longer side decides how large the first layer's patches are."""
    smallest = ARCHITECTURES["small"].smallest_for((9, longer))

    assert build("small", (smallest, longer)) == (None, 4)
    with pytest.raises(ValueError, match=TOO_SMALL):
        build("small", (smallest - 1, longer))


@pytest.mark.parametrize(("side", "expected"), [(32, (2, 1)), (64, (4, 2)), (224, (8, 4))])
def test_patches_grow_with_the_image(side: int, expected: tuple[int, int]) -> None:
    assert patch((side, side)) == expected
