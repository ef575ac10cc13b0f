"""Which output of a graph is one number per label, and what the numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from training.adoption.choices import Choice
from training.errors import AdoptionError, ConfigError

Numbers = Literal["logits", "probabilities"]
Activation = Literal["softmax", "sigmoid"]
SUM_TOLERANCE = 0.02  # of probabilities that were kept in 8 bits
# Operators that leave the numbers as they are.
_PASSING = (
    "Cast",
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "QuantizeLinear",
    "DequantizeLinear",
)
_SIGMOIDS = ("Sigmoid", "HardSigmoid", "QLinearSigmoid")
_SOFTMAXES = ("Softmax", "QLinearSoftmax")


@dataclass(frozen=True)
class Head:
    """The output of the labels. `count`: how many numbers an image has.

    `numbers`: what they are now. `activation`: what makes probabilities of logits, or has done so;
    with a sigmoid each label's stands alone. `why`: what tells.
    """

    name: str
    count: int
    numbers: Numbers
    activation: Activation
    why: str

    @property
    def labels(self) -> int:
        """How many labels it answers: a single number tells two apart."""
        return max(2, self.count)


def choose(
    model: onnx.ModelProto,
    answers: Mapping[str, NDArray[np.float32]],
    *,
    softmax: str,
    labels: Choice[tuple[str, ...]] | None,
    where: str,
) -> Head:
    """The head among the outputs, given their answers [N, ...] to some images.

    Args:
        model: the graph that gave them.
        answers: by the outputs' names.
        softmax: one of `choices.SOFTMAX_CHOICES`.
        labels: if they are known.
        where: the file, for messages.

    Raises:
        AdoptionError: no output has one number per label: no classifier.
        ConfigError: the numbers are not what `softmax` says, or are of another number of labels.
    """
    counts = {name: each[0].size for name, each in answers.items() if _is_row(each)}
    fitting = {name: n for name, n in counts.items() if _fit(labels, n)}
    if not counts:
        shapes = ", ".join(f"{name} {[*each.shape]}" for name, each in answers.items())
        raise AdoptionError(
            f"{where} is no classifier: it gives {shapes or 'no floating-point numbers'}, where a "
            "row of one number per label is wanted; detectors and segmenters are not served"
        )
    _require_no_boxes(answers, counts, where)
    if labels and not fitting:
        found = ", ".join(f"{max(2, n)} ({name})" for name, n in counts.items())
        raise ConfigError(
            f"there are {len(labels.value)} labels ({labels.why}), but the graph tells {found} "
            "apart: give --labels that fit"
        )
    name = max(fitting, key=lambda each: (fitting[each] > 1, -list(fitting).index(each)))
    rows = answers[name].reshape(len(answers[name]), -1)
    return Head(name, fitting[name], *_numbers(model, name, rows, softmax))


def _fit(labels: Choice[tuple[str, ...]] | None, count: int) -> bool:
    return labels is None or len(labels.value) == max(2, count)


def _require_no_boxes(
    answers: Mapping[str, NDArray[np.float32]], counts: Mapping[str, int], where: str
) -> None:
    """Raise AdoptionError for the scores of a detector's boxes, [N, boxes], beside these."""
    boxes = {each.shape[1] for each in answers.values() if each.ndim == 3 and each.shape[2] == 4}
    if boxes & {*counts.values()}:
        raise AdoptionError(f"{where} gives boxes: it is a detector, and those are not served")


def _is_row(answer: NDArray[np.float32]) -> bool:
    """Whether there is one dimension but for the images', or only single things in others."""
    return bool(answer[0].size) and answer[0].size == max(answer.shape[1:], default=1)


def _numbers(
    model: onnx.ModelProto, name: str, rows: NDArray[np.float32], softmax: str
) -> tuple[Numbers, Activation, str]:
    """What the numbers are, what makes probabilities of them, and what tells."""
    end, is_alone = _last_operator(model.graph, name), rows.shape[1] == 1
    is_share = bool((rows >= 0).all() and (rows <= 1).all())
    is_whole = is_share and (end in _SOFTMAXES or _have_sum_1(rows))
    if softmax != "auto":
        is_done = {
            "yes": False,
            "no": is_share if is_alone else is_whole,
            "sigmoid": end in _SIGMOIDS or (is_share and not is_alone),
        }[softmax]
        _require_fitting(softmax, name, is_done=is_done, is_whole=is_whole and not is_alone)
        made_by: Activation = "sigmoid" if softmax == "sigmoid" and not is_alone else "softmax"
        return "probabilities" if is_done else "logits", made_by, f"--softmax {softmax}"
    if end in _SIGMOIDS:
        return "probabilities", "softmax" if is_alone else "sigmoid", f"the graph ends in {end}"
    if is_whole and not is_alone:
        return "probabilities", "softmax", "they are 0 to 1 and their sum is 1"
    if is_share:
        raise ConfigError(
            f"--softmax: the numbers of {name} are 0 to 1, and nothing tells what they are: give "
            "sigmoid for probabilities that stand alone, no for the second label's, yes for logits"
        )
    return "logits", "softmax", "assumed, as they are no probabilities"


def _have_sum_1(rows: NDArray[np.float32]) -> bool:
    return bool(np.allclose(rows.sum(axis=1), 1, atol=SUM_TOLERANCE))


def _require_fitting(softmax: str, name: str, *, is_done: bool, is_whole: bool) -> None:
    """Raise ConfigError where the numbers show that the option is wrong."""
    if softmax == "no" and not is_done:
        raise ConfigError(
            f"--softmax no: the numbers of {name} are no probabilities with a sum of 1; leave it "
            "to auto, or give yes for logits, sigmoid for labels that stand alone"
        )
    if softmax in ("yes", "sigmoid") and is_whole:
        raise ConfigError(
            f"--softmax {softmax}: the numbers of {name} are probabilities with a sum of 1 already"
        )


def _last_operator(graph: onnx.GraphProto, name: str) -> str:
    """What made the output's numbers; "" where that is no operator of the graph's own."""
    makers = {output: node for node in graph.node for output in node.output}
    while name in makers and makers[name].op_type in _PASSING:
        name = makers[name].input[0]
    return makers[name].op_type if name in makers else ""
