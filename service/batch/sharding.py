"""One of several parts of all images, told by each image's name alone.

So every process works out its part by itself, and an image that is added or removed meanwhile
changes no other's part.
"""

import os
import re
from hashlib import blake2b
from typing import NamedTuple, Self

from service.batch.errors import Refused

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Shard(NamedTuple):
    """Part ``number`` (1 to ``parts``) of ``parts``."""

    number: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that ``3/8`` stands for.

        Raises:
            Refused: it is none.
        """
        found = _SHARD.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise Refused(f"{text} is no shard: write 1/8 to 8/8 for the eight parts of all")
        return cls(int(found[1]), int(found[2]))

    def has(self, name: str) -> bool:
        """Whether the image of this name belongs to it."""
        if self.parts == 1:
            return True
        digest = blake2b(os.fsencode(name), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.parts == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"
