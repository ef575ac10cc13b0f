"""What a run is trained and measured on: labels and three splits of decoded images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.pixels import Images
from training.data.record import Row

CHUNK = 500  # images that are digested together


@dataclass(frozen=True)
class Split:
    """Decoded images and what they show.

    `images`: uint8 [N, H, W, 3], RGB. `targets`: int64 [N], indices into the labels.
    """

    images: Images
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """All that a run sees. The test split is for the final figures and for nothing else.

    `record`: the image files, and which split each is in; none where there are no files.
    """

    name: str
    licence: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    record: tuple[Row, ...] = ()

    def counts(self) -> dict[str, int]:
        """Images per split."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }

    def digest(self) -> str:
        """Tells whether a resumed run sees the pixels that it started with."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for split in (self.train, self.validation):
            for i in range(0, len(split), CHUNK):
                digest.update(np.ascontiguousarray(split.images[i : i + CHUNK]).data)
            digest.update(np.ascontiguousarray(split.targets).data)
        return digest.hexdigest()
