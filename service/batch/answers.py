"""Files' contents in, one answer each out: what `/predict` would say of them, without HTTP."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.batch.items import Content
from service.inference.classifier import ALL, Classifier, Outputs, Prediction, Selection
from service.inference.errors import ImageError, InvalidAnswer
from service.inference.imaging import decode_image
from service.runtime.sizing import MAX_BATCH_SIZE
from service.serving.problems import Problem, problem_of


class Ranked(NamedTuple):
    """An image's predictions; its familiarity and whether it is unfamiliar, None without them."""

    predictions: list[Prediction]
    familiarity: float | None = None
    unfamiliar: bool | None = None


Answer = Ranked | Problem


def answers(
    classifier: Classifier, contents: Iterable[Content], selection: Selection = ALL
) -> list[Answer]:
    """What a model says of images, one answer each, in order.

    They go through the network in batches of at most ``MAX_BATCH_SIZE``. Any thread may call this.

    Args:
        classifier: the model; its number of threads is that of one inference.
        contents: whole files, or why there is none; one is asked for when the one before is
            decoded and let go. What is broken, empty, too large or no image has a problem of its
            own, as over HTTP, and takes nothing from the others.
        selection: which labels are wanted.
    """
    found: list[Answer] = []
    contents = iter(contents)
    while some := _of_batch(classifier, islice(contents, MAX_BATCH_SIZE), selection):
        found += some
    return found


def _of_batch(
    classifier: Classifier, contents: Iterable[Content], selection: Selection
) -> list[Answer]:
    # A loop would hold one content while it asks for the next.
    decoded = list(map(partial(_decoded, classifier), contents))
    images = [one for one in decoded if not isinstance(one, Problem)]
    ranked = iter(_ranked(classifier, images, selection))
    return [one if isinstance(one, Problem) else next(ranked) for one in decoded]


def _decoded(classifier: Classifier, content: Content) -> NDArray[np.uint8] | Problem:
    if isinstance(content, Problem):
        return content
    try:
        size, resize = classifier.input_size, classifier.card.input.resize
        return decode_image(content, size, resize).pixels
    except ImageError as error:
        return problem_of(error)


def _ranked(
    classifier: Classifier, images: Sequence[NDArray[np.uint8]], selection: Selection
) -> list[Answer]:
    """Of images, uint8 [height, width, 3] RGB, of the model's size."""
    if not images:
        return []
    outputs = classifier.run(np.stack(images))
    return [_answer(classifier, outputs, place, selection) for place in range(len(images))]


def _answer(classifier: Classifier, outputs: Outputs, place: int, selection: Selection) -> Answer:
    """Of one of the images that the outputs are of."""
    try:
        predictions = classifier.rank(outputs.probabilities[place], selection)
    except InvalidAnswer as error:
        return problem_of(error)
    if outputs.familiarity is None:
        return Ranked(predictions)
    share = outputs.familiarity[place]
    if not math.isfinite(share):
        return problem_of(InvalidAnswer("the image's familiarity is NaN or infinity"))
    return Ranked(predictions, share, classifier.is_unfamiliar(share))
