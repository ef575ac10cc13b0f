"""How a change of an operator's output goes back to its inputs: one rule for each operator.

Reverse-mode differentiation of an ONNX graph, with respect to the pixels alone: weights are never
asked for. A rule gets a `Step`, that is, an operator with all that went in and came out, and the
gradient of some number with respect to its output; it gives the gradients with respect to its first
inputs. Arrays are float32 and laid out as ONNX has them, [N, C, H, W] around convolutions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Gradients = Sequence[Array]


class NoRule(Exception):
    """An operator that cannot be differentiated here; the text names it."""


@dataclass(frozen=True)
class Step:
    """One operator at work: its attributes, its inputs (None where left out), its output."""

    operator: str
    attributes: dict[str, Any]
    inputs: tuple[Array | None, ...]
    output: Array

    @property
    def x(self) -> Array:
        """The first input."""
        return self.input(0)

    def input(self, place: int) -> Array:
        """The input at this place, which must be there."""
        value = self.inputs[place]
        if value is None:
            raise NoRule(f"{self.operator} without its input {place}")
        return value

    def optional(self, place: int, default: Any) -> Any:
        """The input at this place, or the default where it is left out."""
        value = self.inputs[place] if place < len(self.inputs) else None
        return default if value is None else value


Rule = Callable[[Step, Array], Gradients]
Derivative = Callable[[Step], Any]


def backward(step: Step, arriving: Array) -> Gradients:
    """Gradients with respect to the first inputs, from that with respect to the output.

    Raises:
        NoRule: there is no rule for this operator, or not for how it is used.
    """
    rule = RULES.get(step.operator)
    if rule is None:
        raise NoRule(step.operator)
    return rule(step, arriving)


# One value in, one value out: the derivative at each place.


def _quantized_range(step: Step) -> Array:
    """1 where the value was only rounded, 0 where it was cut off."""
    limits = np.iinfo(step.output.dtype)
    return np.asarray((step.output > limits.min) & (step.output < limits.max))


def _clip(step: Step) -> Array:
    low, high = step.optional(1, -np.inf), step.optional(2, np.inf)
    return np.asarray((step.x > low) & (step.x < high))


def _hard_sigmoid(step: Step) -> Any:
    slope = step.attributes.get("alpha", 0.2)
    return slope * ((step.output > 0) & (step.output < 1))


def _hard_swish(step: Step) -> Any:
    x = step.x
    return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5))


ELEMENTWISE: dict[str, Derivative] = {
    "Abs": lambda s: np.sign(s.x),
    "Cast": lambda _: 1.0,
    "Clip": _clip,
    "DequantizeLinear": lambda _: 1.0,  # with QuantizeLinear: passed straight through
    "Dropout": lambda _: 1.0,  # without effect outside of training
    "Elu": lambda s: np.where(s.x > 0, 1.0, s.output + s.attributes.get("alpha", 1.0)),
    "Erf": lambda s: 2 / math.sqrt(math.pi) * np.exp(-(s.x**2)),
    "Exp": lambda s: s.output,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": lambda _: 1.0,
    "LeakyRelu": lambda s: np.where(s.x > 0, 1.0, s.attributes.get("alpha", 0.01)),
    "Log": lambda s: 1 / s.x,
    "Neg": lambda _: -1.0,
    "QuantizeLinear": _quantized_range,
    "Reciprocal": lambda s: -(s.output**2),
    "Relu": lambda s: s.x > 0,
    "Sigmoid": lambda s: s.output * (1 - s.output),
    "Softplus": lambda s: 1 / (1 + np.exp(-s.x)),
    "Sqrt": lambda s: 0.5 / s.output,
    "Tanh": lambda s: 1 - s.output**2,
}


def _elementwise(step: Step, arriving: Array) -> Gradients:
    return ((arriving * ELEMENTWISE[step.operator](step)).astype(np.float32),)


# Two values in, one out: the derivatives with respect to both.

PAIRWISE: dict[str, Callable[[Array, Array, Array], tuple[Any, Any]]] = {
    "Add": lambda _a, _b, _y: (1.0, 1.0),
    "Sub": lambda _a, _b, _y: (1.0, -1.0),
    "Mul": lambda a, b, _y: (b, a),
    "Div": lambda _a, b, y: (1 / b, -y / b),
    "Max": lambda a, b, _y: (a >= b, a < b),
    "Min": lambda a, b, _y: (a <= b, a > b),
    # The exponent is a constant in every network that is served.
    "Pow": lambda a, b, _y: (b * np.power(a, b - 1), 0.0),
}


def _pairwise(step: Step, arriving: Array) -> Gradients:
    if len(step.inputs) != 2:
        raise NoRule(f"{step.operator} of {len(step.inputs)} inputs")
    a, b = step.input(0), step.input(1)
    slopes = PAIRWISE[step.operator](a, b, step.output)
    return [
        _unbroadcast(arriving * slope, value.shape)
        for slope, value in zip(slopes, (a, b), strict=True)
    ]


def _unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sums over what was repeated to fit the other input."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return np.asarray(gradient.sum(axis=repeated, keepdims=True), np.float32)


# Matrices.


def _matmul(step: Step, arriving: Array) -> Gradients:
    a, b = step.input(0), step.input(1)
    if min(a.ndim, b.ndim) < 2:
        raise NoRule("MatMul of a vector")
    left, right = arriving @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ arriving
    return _unbroadcast(left, a.shape), _unbroadcast(right, b.shape)


def _gemm(step: Step, arriving: Array) -> Gradients:
    weights = step.input(1) if step.attributes.get("transB", 0) else step.input(1).T
    gradient = step.attributes.get("alpha", 1.0) * (arriving @ weights)
    return (gradient.T if step.attributes.get("transA", 0) else gradient,)


def _batch_normalization(step: Step, arriving: Array) -> Gradients:
    scale = step.input(1) / np.sqrt(step.input(4) + step.attributes.get("epsilon", 1e-5))
    return (arriving * scale.reshape(1, -1, *[1] * (arriving.ndim - 2)),)


def _softmax(step: Step, arriving: Array) -> Gradients:
    axis, y = step.attributes.get("axis", -1), step.output
    return (y * (arriving - (arriving * y).sum(axis=axis, keepdims=True)),)


# Windows: convolution and pooling.


@dataclass(frozen=True)
class _Windows:
    """Where each place of the windows lies in the padded picture."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]  # of the output

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that all windows together reach."""
        return tuple(  # type: ignore[return-value]
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(self.size, self.strides, self.kernel, self.dilations, strict=True)
        )

    def places(self) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Row and column in the window, and the slice of what lies there in every window."""
        for i, j in itertools.product(range(self.kernel[0]), range(self.kernel[1])):
            corner = (i * self.dilations[0], j * self.dilations[1])
            rows, columns = (
                slice(start, start + (n - 1) * s + 1, s)
                for start, n, s in zip(corner, self.size, self.strides, strict=True)
            )
            yield i, j, (..., rows, columns)

    def pad(self, x: Array, filling: float) -> Array:
        """The picture with its borders, [N, C, *padded]; what no window reaches is cut off."""
        height, width = self.padded
        bottom = max(0, height - self.top - x.shape[2])
        right = max(0, width - self.left - x.shape[3])
        edges = ((0, 0), (0, 0), (self.top, bottom), (self.left, right))
        return np.pad(x, edges, constant_values=filling)[:, :, :height, :width]

    def unpad(self, gradient: Array, shape: tuple[int, ...]) -> Array:
        """The part of a padded gradient that belongs to the picture of this shape."""
        whole = np.zeros(shape, np.float32)
        part = gradient[:, :, self.top :, self.left :][:, :, : shape[2], : shape[3]]
        whole[:, :, : part.shape[2], : part.shape[3]] = part
        return whole


def _windows(step: Step, kernel: Sequence[int]) -> _Windows:
    if step.x.ndim != 4:
        raise NoRule(f"{step.operator} of {step.x.ndim - 2} dimensions")
    get = step.attributes.get
    strides, dilations = tuple(get("strides", (1, 1))), tuple(get("dilations", (1, 1)))
    size = step.output.shape[2:]
    how = get("auto_pad", b"NOTSET")
    top, left = get("pads", (0, 0, 0, 0))[:2]
    if how in (b"SAME_UPPER", b"SAME_LOWER"):
        bare = _Windows(tuple(kernel), strides, dilations, 0, 0, size)  # type: ignore[arg-type]
        missing = [max(0, a - b) for a, b in zip(bare.padded, step.x.shape[2:], strict=True)]
        top, left = ((m + (how == b"SAME_LOWER")) // 2 for m in missing)
    return _Windows(tuple(kernel), strides, dilations, top, left, size)  # type: ignore[arg-type]


def _conv(step: Step, arriving: Array) -> Gradients:
    """Each weight sends its share of the gradient back to the pixel that it was multiplied with."""
    weights, groups = step.input(1), step.attributes.get("group", 1)
    windows = _windows(step, weights.shape[2:])
    count, channels = step.x.shape[:2]
    height, width = windows.size
    split = arriving.reshape(count, groups, -1, height * width)
    kernels = weights.reshape(groups, -1, *weights.shape[1:])
    gradient = np.zeros((count, channels, *windows.padded), np.float32)
    for i, j, place in windows.places():
        share = kernels[..., i, j].swapaxes(1, 2) @ split
        gradient[place] += share.reshape(count, channels, height, width)
    return (windows.unpad(gradient, step.x.shape),)


def _max_pool(step: Step, arriving: Array) -> Gradients:
    """All of the gradient goes to the largest value of the window, the first among equals."""
    windows = _windows(step, step.attributes["kernel_shape"])
    padded = windows.pad(step.x, -np.inf)
    gradient = np.zeros(padded.shape, np.float32)
    free = np.ones(step.output.shape, bool)
    for _, _, place in windows.places():
        largest = free & (padded[place] == step.output)
        free &= ~largest
        gradient[place] += arriving * largest
    return (windows.unpad(gradient, step.x.shape),)


def _average_pool(step: Step, arriving: Array) -> Gradients:
    windows = _windows(step, step.attributes["kernel_shape"])
    counted = np.ones((1, 1, *step.x.shape[2:]), np.float32)
    counted = windows.pad(counted, float(step.attributes.get("count_include_pad", 0)))
    share = arriving / sum(counted[place] for _, _, place in windows.places())
    gradient = np.zeros((*step.x.shape[:2], *windows.padded), np.float32)
    for _, _, place in windows.places():
        gradient[place] += share
    return (windows.unpad(gradient, step.x.shape),)


# Sums, means and largest values over whole axes.


def _axes(step: Step) -> tuple[int, ...]:
    given = step.attributes.get("axes", step.optional(1, ()))
    return tuple(int(axis) % step.x.ndim for axis in given) or tuple(range(step.x.ndim))


def _kept(step: Step, value: Array, axes: tuple[int, ...]) -> Array:
    """The output, or its gradient, with the axes that were dropped in place as 1."""
    return value.reshape([1 if i in axes else n for i, n in enumerate(step.x.shape)])


def _reduce_sum(step: Step, arriving: Array) -> Gradients:
    return (np.broadcast_to(_kept(step, arriving, _axes(step)), step.x.shape),)


def _reduce_mean(step: Step, arriving: Array) -> Gradients:
    (whole,) = _reduce_sum(step, arriving)
    return (whole / math.prod(step.x.shape[axis] for axis in _axes(step)),)


def _reduce_max(step: Step, arriving: Array) -> Gradients:
    return (_largest(step, arriving, _axes(step)),)


def _largest(step: Step, arriving: Array, axes: tuple[int, ...]) -> Array:
    """The gradient at the largest values, shared among equals."""
    at = step.x == _kept(step, step.output, axes)
    return np.asarray(_kept(step, arriving, axes) * at / at.sum(axis=axes, keepdims=True))


def _global_average(step: Step, arriving: Array) -> Gradients:
    return (np.broadcast_to(arriving / math.prod(step.x.shape[2:]), step.x.shape),)


def _global_max(step: Step, arriving: Array) -> Gradients:
    return (_largest(step, arriving, tuple(range(2, step.x.ndim))),)


# The same values, elsewhere.


def _reshape(step: Step, arriving: Array) -> Gradients:
    return (arriving.reshape(step.x.shape),)


def _transpose(step: Step, arriving: Array) -> Gradients:
    order = step.attributes.get("perm", range(arriving.ndim)[::-1])
    return (arriving.transpose(np.argsort(order)),)


def _concat(step: Step, arriving: Array) -> Gradients:
    axis = step.attributes["axis"]
    lengths = [step.input(i).shape[axis] for i in range(len(step.inputs))]
    return np.split(arriving, np.cumsum(lengths)[:-1], axis=axis)


def _pad(step: Step, arriving: Array) -> Gradients:
    if step.attributes.get("mode", b"constant") != b"constant" or len(step.inputs) > 3:
        raise NoRule("Pad with mirrored borders or axes")
    before = [int(n) for n in step.input(1)][: step.x.ndim]
    if min(int(n) for n in step.input(1)) < 0:
        raise NoRule("Pad that cuts off")
    return (arriving[tuple(slice(b, b + n) for b, n in zip(before, step.x.shape, strict=True))],)


def _slice(step: Step, arriving: Array) -> Gradients:
    starts, ends = (step.input(place).tolist() for place in (1, 2))
    axes = step.optional(3, np.arange(len(starts))).tolist()
    steps = step.optional(4, np.ones(len(starts), int)).tolist()
    places = [slice(None)] * step.x.ndim
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(start, None if end < -step.x.shape[axis] else end, stride)
    gradient = np.zeros(step.x.shape, np.float32)
    gradient[tuple(places)] = arriving
    return (gradient,)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(PAIRWISE, _pairwise),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_normalization,
    "Softmax": _softmax,
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "ReduceSum": _reduce_sum,
    "ReduceMean": _reduce_mean,
    "ReduceMax": _reduce_max,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
}
