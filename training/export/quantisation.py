"""A model file in 8-bit integers, and whether it is worth having.

Static quantisation as onnxruntime knows it (QDQ: each operation between a pair of Quantize and
Dequantize), weights per channel, activations by the ranges that training images show.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from service.inference.classifier import Classifier
from service.inference.contract import INPUT_NAME
from training.data.pixels import Images, spread
from training.progress import only_errors

CALIBRATION_IMAGES, CALIBRATION_BATCH = 500, 50
QUANTISED = ["Conv", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "Add", "MatMul", "Gemm"]
# Of least and largest values over batches, the moving average: single images do not set the range.
RANGES = {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.1}
LARGEST_LOSS = 0.003  # of accuracy
LEAST_AGREEMENT = 0.99
LEAST_SPEEDUP = 1.1
TIMED = 300  # images, one by one


@dataclass(frozen=True)
class Comparison:
    """A quantised file beside the float one, on the same images.

    `split`: which. `images`: how many. Accuracies, and the part of images with the same label, are
    in 0..1; milliseconds are medians of single images on one thread, measured by turns.
    """

    split: str
    images: int
    accuracy: float
    float_accuracy: float
    agreement: float
    milliseconds: float
    float_milliseconds: float

    @property
    def loss(self) -> float:
        """Accuracy given up, 0..1."""
        return self.float_accuracy - self.accuracy

    @property
    def speedup(self) -> float:
        """How many times as fast."""
        return self.float_milliseconds / self.milliseconds

    def __str__(self) -> str:
        return (
            f"on {self.images} {self.split} images accuracy {self.accuracy:.4f} instead of "
            f"{self.float_accuracy:.4f}, {self.agreement:.2%} of labels the same, "
            f"{self.milliseconds:.2f} ms an image instead of {self.float_milliseconds:.2f}"
        )


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands images to the calibration, batch by batch."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            [images[i : i + CALIBRATION_BATCH] for i in range(0, len(images), CALIBRATION_BATCH)]
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch, None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def quantised(model: onnx.ModelProto, images: Images) -> onnx.ModelProto:
    """The model in 8-bit integers; ranges come from evenly spread `images`, training images.

    The first convolution and the last product, which makes the logits, stay in floats: they are
    next to no work, and what they lose would be lost to all that follows, or to nothing else.
    """
    sample = images[spread(len(images), CALIBRATION_IMAGES)]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        before.write_bytes(model.SerializeToString())
        with only_errors():  # it recommends a pass that has nothing to do here
            quantize_static(
                str(before),
                str(after),
                _Images(sample),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTISED,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=in_floats(model),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=RANGES,
            )
        return onnx.load(after)


def in_floats(model: onnx.ModelProto) -> list[str]:
    """Names of the operations that are not quantised."""
    nodes = [*model.graph.node]
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Conv")
    behind = nodes[first + 1 : first + 2]
    rectifier = [node.name for node in behind if node.op_type in ("Relu", "Clip")]
    products = [node.name for node in nodes if node.op_type in ("MatMul", "Gemm")]
    return [nodes[first].name, *rectifier, *products[-1:]]


def compare(
    split: str,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    float_probabilities: NDArray[np.float32],
    milliseconds: tuple[float, float],
) -> Comparison:
    """Put the two files' answers, [N, labels] each, and times side by side: quantised, float."""
    answers, float_answers = probabilities.argmax(axis=1), float_probabilities.argmax(axis=1)
    return Comparison(
        split,
        len(targets),
        float((answers == targets).mean()),
        float((float_answers == targets).mean()),
        float((answers == float_answers).mean()),
        *milliseconds,
    )


def why_not(found: Comparison) -> str:
    """What speaks against the quantised file; empty where nothing does.

    Where there are few images, a single one is no reason.
    """
    one = 1.5 / found.images
    reasons = []
    if not found.loss <= max(LARGEST_LOSS, one):
        reasons.append(f"it loses more than {100 * LARGEST_LOSS:g} points")
    if not found.agreement >= min(LEAST_AGREEMENT, 1 - one):
        reasons.append(f"fewer than {LEAST_AGREEMENT:.0%} of labels agree")
    if not found.speedup >= LEAST_SPEEDUP:
        reasons.append(f"it is not {LEAST_SPEEDUP:g} times as fast")
    return " and ".join(reasons)


def milliseconds(*classifiers: Classifier) -> tuple[float, ...]:
    """The median time of one image for each, asked by turns so that all see the same machine."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, *classifiers[0].input_size, 3), np.uint8)
    times = np.empty((TIMED, len(classifiers)))
    for i in range(TIMED):
        for j, classifier in enumerate(classifiers):
            started = time.perf_counter()
            classifier.predict(image)
            times[i, j] = time.perf_counter() - started
    return tuple((1000 * np.median(times, axis=0)).tolist())
