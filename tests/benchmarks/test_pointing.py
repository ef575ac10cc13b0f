"""Mosaics, and where a map points."""

import numpy as np
import pytest

from tests.benchmarks.pointing import tiles


def test_each_image_is_a_tile_once_and_a_map_on_it_has_all_of_it() -> None:
    images = [
        [np.full((8, 6, 3), 40 * label + i, np.uint8) for i in range(4)] for label in range(5)
    ]

    found = tiles(images)

    assert len(found) == 20
    assert {int(one.mosaic[one.place].max()) for one in found} == {
        int(image.max()) for some in images for image in some
    }
    for one in found:
        assert one.mosaic.shape == (8, 6, 3)
        assert int(one.mosaic[one.place].max()) // 40 == one.label
        on_tile = np.full((8, 6), -1.0)
        on_tile[one.place] = 2
        assert one.share(on_tile) == 1
        assert one.share(np.ones((8, 6))) == pytest.approx(0.25)
