"""How well maps of importance name the pixels that an answer depends on: a table of methods.

    python -m tests.benchmarks.explanations --data PATH [--methods NAME …] [--images N]

Deletion and insertion (Petsiuk, Das, Saenko, RISE, 2018): pixels are taken in the map's order, the
most important first, in 32 steps. Deletion replaces them by grey: the probability of the answer
should fall soon, a small area under its curve is good. Insertion puts them into a blurred image: a
large area is good. The label explained is the model's answer. Pointing: the share of a mosaic's map
that is on the right image (see `pointing.py`), where the answer to the mosaic is the label of one
of its four. The images are the first of each label's folder (of `test/`, where there is one).
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inference import explanation
from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.settings import DEFAULT_MODEL
from tests.benchmarks.pointing import tiles
from training.data.decoding import LIMITS
from training.data.folders import list_images, parts

STEPS = 32
BLUR = 5.0  # standard deviation in pixels of the image that insertion starts from
GREY = 128

Image = NDArray[np.uint8]
Map = NDArray[np.floating[Any]]


class Counting:
    """Probabilities of images, and how many images were asked."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.images = 0

    def __call__(self, images: Image) -> NDArray[np.float32]:
        self.images += len(images)
        batches = range(0, len(images), explanation.BATCH)
        answers = [self._classifier.predict(images[i : i + explanation.BATCH]) for i in batches]
        return np.concatenate(answers)


# predict, image, label, number of passes
Method = Callable[[Counting, Image, int, int], Map]


def service(predict: Counting, image: Image, label: int, passes: int) -> Map:
    """What `service/inference/explanation.py` does."""
    return explanation.importance(predict, image, label, passes=passes)


def rise(predict: Counting, image: Image, label: int, passes: int) -> Map:
    """RISE: the mean of the masks, weighted by the label's probability."""
    masks = explanation.random_masks(np.random.default_rng(0), passes, image.shape[:2])
    answers = predict(explanation.covered(image, masks))[:, label]
    return np.asarray(np.tensordot(answers, masks, axes=1) / masks.sum(axis=0))


def occlusion(predict: Counting, image: Image, label: int, passes: int) -> Map:
    """A square of a quarter of the image at as many places as the passes allow."""
    return _occlusion(predict, image, label, {4: int((passes - 1) ** 0.5)})


def occlusion_of_three_sizes(predict: Counting, image: Image, label: int, passes: int) -> Map:
    """Squares of an eighth, a quarter and three eighths of the image."""
    places = int(((passes - 1) / 3) ** 0.5)
    return _occlusion(predict, image, label, {8: places, 4: places, 8 / 3: places})


def random(_predict: Counting, image: Image, label: int, _passes: int) -> Map:
    """Chance: what a method must be better than."""
    return np.random.default_rng(int(image.sum()) + label).random(image.shape[:2])


def centre(_predict: Counting, image: Image, _label: int, _passes: int) -> Map:
    """The middle of every image: photographs have their subject there."""
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in image.shape[:2])
    distances = np.hypot(rows[:, None], columns)
    return np.asarray(distances.max() - distances)


# By the names of the command line, with those of the table.
METHODS: dict[str, tuple[str, Method]] = {
    "service": ("RISE masks, regression (the service's)", service),
    "rise": ("RISE", rise),
    "occlusion": ("occlusion", occlusion),
    "occlusion-3": ("occlusion of three sizes", occlusion_of_three_sizes),
    "centre": ("the image's centre", centre),
    "random": ("random", random),
}


def _occlusion(predict: Counting, image: Image, label: int, sizes: dict[float, int]) -> Map:
    """Mean fall of the log-odds by the squares over a pixel; sizes: {side's divisor: places}."""
    height, width = image.shape[:2]
    masks = []
    for divisor, places in sizes.items():
        side = max(1, round(min(height, width) / divisor))
        for top in np.linspace(0, height - side, places).round().astype(int):
            for left in np.linspace(0, width - side, places).round().astype(int):
                mask = np.ones((height, width), np.float32)
                mask[top : top + side, left : left + side] = 0
                masks.append(mask)
    shown = np.stack([np.ones((height, width), np.float32), *masks])
    whole, *others = explanation.log_odds(predict(explanation.covered(image, shown)), label)
    hidden = 1 - np.stack(masks)
    falls = (whole - np.array(others)) / hidden.sum(axis=(1, 2))
    return np.asarray(np.tensordot(falls, hidden, axes=1))


def areas(predict: Counting, image: Image, label: int, found: Map) -> tuple[float, float]:
    """Areas under the deletion curve and under the insertion curve, each 0..1."""
    order = np.argsort(-found, axis=None, kind="stable")
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    ends = np.linspace(0, order.size, STEPS + 1)[:, None, None]
    done = (rank.reshape(found.shape) < ends)[..., None]
    deleted = np.where(done, np.uint8(GREY), image)
    inserted = np.where(done, image, blurred(image))
    curves = [predict(images)[:, label] for images in (deleted, inserted)]
    deletion, insertion = (float(np.trapezoid(curve) / STEPS) for curve in curves)
    return deletion, insertion


def blurred(image: Image) -> Image:
    """The image under a Gaussian of BLUR, its edges repeated."""
    reach = int(3 * BLUR)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / BLUR) ** 2)
    pixels = np.pad(image.astype(float), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(pixels, len(weights), axis=axis)
        pixels = windows @ (weights / weights.sum())
    return np.asarray(np.rint(pixels), np.uint8)


def first_images(data: Path, count: int, classifier: Classifier) -> list[list[Image]]:
    """As many images of each label as make up the count, as the model takes them."""
    listing = list_images(parts(data).get("test", data))
    each = max(1, count // len(listing.labels))
    if listing.labels != classifier.card.labels:
        raise SystemExit(f"the folder's labels are {listing.labels}, which are not the model's")
    size, resize = classifier.input_size, classifier.card.input.resize

    def pixels(path: Path) -> Image:
        return decode_image(path.read_bytes(), size, resize, LIMITS).pixels

    return [
        [pixels(listing.paths[i]) for i in np.flatnonzero(listing.targets == label)[:each]]
        for label in range(len(listing.labels))
    ]


@dataclass(frozen=True)
class Measured:
    """A method's areas and its shares on tiles, for each image, its most passes, its CPU time."""

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    pointing: NDArray[np.float64]
    passes: int
    seconds: float

    @property
    def difference(self) -> NDArray[np.float64]:
        """Insertion less deletion, of each image."""
        return self.insertion - self.deletion


def measure(method: Method, images: list[list[Image]], predict: Counting, passes: int) -> Measured:
    """What a method is worth on these images, and on mosaics of them."""
    found, most, seconds = [], 0, 0.0
    for image in chain(*images):
        label = int(predict(image[None])[0].argmax())
        before, begun = predict.images, time.process_time()
        importance = method(predict, image, label, passes)
        seconds += time.process_time() - begun
        most = max(most, predict.images - before)
        found.append(areas(predict, image, label, importance))
    deletion, insertion = np.array(found).T
    shares = [
        tile.share(method(predict, tile.mosaic, tile.label, passes))
        for tile in tiles(images)
        if predict(tile.mosaic[None])[0].argmax() == tile.label
    ]
    return Measured(deletion, insertion, np.array(shares), most, seconds)


def table_row(name: str, found: Measured, reference: Measured) -> str:
    """A row of the table; the reference's images are the same, so differences are paired."""
    against = found.difference - reference.difference
    error = against.std() / len(against) ** 0.5
    return (
        f"| {name} | {found.passes} | {found.deletion.mean():.3f} | {found.insertion.mean():.3f} "
        f"| {found.difference.mean():.3f} | {against.mean():+.3f} ± {error:.3f} "
        f"| {found.pointing.mean():.3f} ± {found.pointing.std() / len(found.pointing) ** 0.5:.3f} "
        f"| {found.seconds / reference.seconds:.2f} |\n"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.explanations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="image folder")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--passes", type=int, default=explanation.PASSES)
    chosen = parser.parse_args()
    classifier = Classifier.load(chosen.model)
    predict = Counting(classifier)
    images = first_images(chosen.data, chosen.images, classifier)
    sys.stdout.write(
        f"{sum(map(len, images))} images, mean areas under the curves; ± is one standard error\n\n"
        "| method | passes | deletion ↓ | insertion ↑ | insertion - deletion ↑ "
        "| against the first | pointing ↑ | CPU time, ratio |\n|---|---|---|---|---|---|---|---|\n"
    )
    reference = None
    for name, method in map(METHODS.__getitem__, chosen.methods):
        found = measure(method, images, predict, chosen.passes)
        reference = reference or found
        sys.stdout.write(table_row(name, found, reference))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
