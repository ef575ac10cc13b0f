"""Shards: each image in exactly one, whatever else there is."""

from collections import Counter

import pytest

from service.batch.errors import Refused
from service.batch.sharding import Shard

NAMES = [f"photos/{number:05}.jpg" for number in range(4000)]


def test_each_image_is_in_one_shard_and_they_are_alike_in_size() -> None:
    shards = [Shard.parse(f"{number}/8") for number in range(1, 9)]
    counts = Counter(shard for name in NAMES for shard in shards if shard.has(name))
    assert counts.total() == len(NAMES)
    assert set(counts) == set(shards)
    assert all(400 < count < 600 for count in counts.values())


def test_the_same_names_on_every_machine_and_in_every_version() -> None:
    """A shard that is run again after an update has the same images."""
    third = [number for number, name in enumerate(NAMES[:40]) if Shard(3, 8).has(name)]
    assert third == [1, 18, 23, 30, 34, 37]


def test_a_name_that_is_no_text() -> None:
    assert sum(Shard(number, 3).has("photos/\udcff.jpg") for number in (1, 2, 3)) == 1


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "1/0", "-1/8", "1/8/2", "a/b", "", "٣/8"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(Refused, match="write 1/8 to 8/8"):
        Shard.parse(text)
