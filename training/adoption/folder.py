"""Images of known labels, to try a foreign model on before it is served."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import ResizeRule
from training.data.decoding import ReadFile, decoded
from training.data.folders import Listing, list_images, parts
from training.data.pixels import spread
from training.errors import ConfigError, DataError

SAMPLE = 100


@dataclass(frozen=True)
class Sample:
    """`images`: uint8 [N, H, W, 3]. `targets`: int64 [N], places in the model's labels."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]


class Folder:
    """A folder of images per label; its test images, where it has such apart."""

    def __init__(self, path: Path) -> None:
        """Raise DataError where it is none."""
        self.path = path
        self.listing: Listing = list_images(parts(path).get("test", path), quiet=True)

    @property
    def labels(self) -> tuple[str, ...]:
        """The folders' names, sorted: so Keras' and PyTorch's loaders number them."""
        return self.listing.labels

    def sample(self, names: Sequence[str], size: tuple[int, int], resize: ResizeRule) -> Sample:
        """Some of the images, evenly spread.

        Raises:
            ConfigError: a folder is called like no label of the model's, `names`.
            DataError: none of them can be read.
        """
        strange = [label for label in self.labels if label not in names]
        if strange:
            raise ConfigError(f"--data: the model has no label {strange[0]!r}")
        chosen = spread(len(self.listing.paths), SAMPLE)
        paths = [self.listing.paths[i] for i in chosen]
        places = np.array([names.index(label) for label in self.labels], np.int64)
        with closing(decoded(paths, size, resize, "some images")) as results:
            found = [
                (result.image.pixels, target)
                for result, target in zip(results, self.listing.targets[chosen], strict=True)
                if isinstance(result, ReadFile)
            ]
        if not found:
            raise DataError(f"none of {len(paths)} images of {self.path} can be read")
        images, targets = zip(*found, strict=True)
        return Sample(np.stack(images), places[np.array(targets)])
