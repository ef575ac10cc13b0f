"""The layers of our networks, as they are trained and as they are served.

A network's structure is written once (see `basic` and `staged`) and built twice: of
`TrainedLayers` it is a network that learns; of `ServedLayers` the same function with the trained
weights, without batch norms and scales, which have gone into the filters beside them. Both classes
have the same methods. A `name` is that of a layer, or what the names of a unit's layers end in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.architectures import patch
from training.networks import branches, whitening
from training.networks.dimensions import PixelStatistics

# A batch norm's running figures follow the last few batches, as the weights move fast.
NORM_MOMENTUM, NORM_EPSILON = 0.6, 1e-5
# Logits of a network that ends in a maximum over unit-variance features are about this much too
# large to start from.
LOGIT_SCALE = 1 / 9

Tensor: TypeAlias = keras.KerasTensor


class TrainedLayers:
    """Layers that learn."""

    def __init__(self, statistics: PixelStatistics, dropout: float) -> None:
        self._statistics = statistics
        self._dropout = dropout

    def pixels(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The input, float32 [N, H, W, 3] in 0 to 255, and the same with mean 0 and deviation 1."""
        pixels = _input(size)
        scale = 1.0 / self._statistics.deviation
        offset = -self._statistics.mean * scale
        normalise = layers.Rescaling(scale.tolist(), offset=offset.tolist(), name="normalise")
        return pixels, normalise(pixels)

    def whitened(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Patches in the frozen basis of `whitening`, with a bias that learns; rectified."""
        filters, initial = whitening.filters_in(size), "orthogonal"
        if self._statistics.whitening is not None:
            initial = keras.initializers.Constant(self._statistics.whitening)
        whiten = _whitening_layer(filters, size, initial)
        x = whiten(x)
        whiten._kernel.trainable = False  # noqa: SLF001 - Keras freezes whole layers only
        return x

    def convolution(self, x: Tensor, name: str, filters: int, *, is_first: bool) -> Tensor:  # noqa: ARG002 - ServedLayers needs it
        """3x3 without padding, rectified."""
        return _plain_convolution(name, filters)(x)

    def unit(
        self, x: Tensor, name: str, filters: int, *, pool: bool = False, add: Tensor | None = None
    ) -> Tensor:
        """3x3 convolution, maximum over 2x2 where `pool`, norm, addition of `add`, rectifier."""
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=partly_identity,
            name=f"conv{name}",
        )(x)
        if pool:
            x = layers.MaxPooling2D(2, name=f"pool{name}")(x)
        x = layers.BatchNormalization(
            momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, scale=False, name=f"norm{name}"
        )(x)
        if add is not None:
            x = layers.Add(name=f"add{name}")([x, add])
        return layers.ReLU(name=f"relu{name}")(x)

    def filters(  # noqa: PLR0913 - all but four by keyword
        self,
        x: Tensor,
        name: str,
        filters: int,
        side: int,
        *,
        stride: int = 1,
        rectify: bool = True,
        is_first: bool = False,  # noqa: ARG002 - as above
    ) -> Tensor:
        """A convolution of the same height and width (by `stride`), rectified at 6."""
        x = _convolution(name, filters, side, stride)(x)
        return _rectified(x, name) if rectify else x

    def depthwise(self, x: Tensor, name: str, side: int, stride: int) -> Tensor:
        """The same of each channel by itself."""
        return _rectified(_depthwise(name, side, stride)(x), name)

    def flat(self, x: Tensor) -> Tensor:
        """[N, H, W, C] → [N, H * W * C]."""
        return layers.Flatten(name="flatten")(x)

    def dense(self, x: Tensor, name: str, units: int, activation: str | None = None) -> Tensor:
        """A product with all inputs."""
        initial = "he_normal" if activation else "glorot_uniform"
        return layers.Dense(units, activation=activation, kernel_initializer=initial, name=name)(x)

    def dropout(self, x: Tensor) -> Tensor:
        """A part of the inputs left out, while the network learns."""
        return layers.Dropout(self._dropout, name="dropout")(x)

    def answer(self, ends: Sequence[Tensor], labels: int) -> Tensor:
        """Logits [N, labels]: the mean of those that each branch makes of what it ends in."""
        answers = []
        for end, suffix in zip(ends, branches.suffixes(len(ends)), strict=True):
            x = layers.Dense(labels, use_bias=False, name=f"logits{suffix}")(end)
            answers.append(layers.Rescaling(LOGIT_SCALE, name=f"scale{suffix}")(x))
        return branches.mean_of(answers)


class ServedLayers:
    """The same layers with a trained network's weights, for answers alone."""

    def __init__(self, trained: keras.Model) -> None:
        self._trained = trained

    def pixels(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The input, and the same less the mean in whole numbers, which 8-bit integers can hold.

        The first layer does the rest of the normalisation (see `_behind_pixels`).
        """
        mean, _ = self._normalisation()
        pixels = _input(size)
        whole = np.round(mean).astype(np.float32)
        return pixels, layers.Lambda(lambda x: x - whole, name="centre")(pixels)

    def whitened(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Patches in the trained network's basis."""
        kernel, bias = self._weights("whiten")
        layer = _whitening_layer(kernel.shape[-1], size, "zeros")
        return _with_weights(layer, x, *self._behind_pixels(kernel, bias))

    def convolution(self, x: Tensor, name: str, filters: int, *, is_first: bool) -> Tensor:
        """3x3 without padding, rectified."""
        kernel, bias = self._weights(name)
        if is_first:
            kernel, bias = self._behind_pixels(kernel, bias)
        return _with_weights(_plain_convolution(name, filters), x, kernel, bias)

    def unit(
        self, x: Tensor, name: str, filters: int, *, pool: bool = False, add: Tensor | None = None
    ) -> Tensor:
        """Convolution with the norm in its filters and bias, addition, rectifier, pool.

        The trained unit pools before its norm. A maximum lets a positive factor and an offset
        through, and the rectifier; behind it, it lets onnxruntime make one operation of convolution
        and rectifier.
        """
        (kernel,) = self._weights(f"conv{name}")
        offset, mean, variance = self._weights(f"norm{name}")
        factor = 1 / np.sqrt(variance + NORM_EPSILON)
        conv = layers.Conv2D(filters, 3, padding="same", name=f"conv{name}")
        x = _with_weights(conv, x, kernel * factor, offset - mean * factor)
        if add is not None:
            x = layers.Add(name=f"add{name}")([x, add])
        x = layers.ReLU(name=f"relu{name}")(x)
        return layers.MaxPooling2D(2, name=f"pool{name}")(x) if pool else x

    def filters(  # noqa: PLR0913 - all but four by keyword
        self,
        x: Tensor,
        name: str,
        filters: int,
        side: int,
        *,
        stride: int = 1,
        rectify: bool = True,
        is_first: bool = False,
    ) -> Tensor:
        """A convolution of the same height and width (by `stride`), rectified at 6."""
        kernel, bias = self._weights(name)
        if is_first:
            kernel, bias = self._behind_pixels(kernel, bias)
        x = _with_weights(_convolution(name, filters, side, stride), x, kernel, bias)
        return _rectified(x, name) if rectify else x

    def depthwise(self, x: Tensor, name: str, side: int, stride: int) -> Tensor:
        """The same of each channel by itself."""
        x = _with_weights(_depthwise(name, side, stride), x, *self._weights(name))
        return _rectified(x, name)

    def flat(self, x: Tensor) -> Tensor:
        """[N, H, W, C] → [N, H * W * C]; Flatten would work that out while the graph runs."""
        return keras.ops.reshape(x, (-1, math.prod(x.shape[1:])))

    def dense(self, x: Tensor, name: str, units: int, activation: str | None = None) -> Tensor:
        """A product with all inputs."""
        layer = layers.Dense(units, activation=activation, name=name)
        return _with_weights(layer, x, *self._weights(name))

    def dropout(self, x: Tensor) -> Tensor:
        """Nothing is left out."""
        return x

    def answer(self, ends: Sequence[Tensor], labels: int) -> Tensor:
        """The mean of all branches' logits, as one product."""
        names = [f"logits{suffix}" for suffix in branches.suffixes(len(ends))]
        kernels = np.concatenate([self._weights(name)[0] for name in names])
        mean = np.float32(LOGIT_SCALE / len(ends))
        layer = layers.Dense(labels, use_bias=False, name="logits")
        return _with_weights(layer, branches.side_by_side(ends), kernels * mean)

    def _weights(self, name: str) -> list[NDArray[np.float32]]:
        return self._trained.get_layer(name).get_weights()  # type: ignore[no-any-return]

    def _normalisation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and 1 / deviation, float32 [3] each, of the channels in training."""
        layer = self._trained.get_layer("normalise")
        scale, offset = np.array(layer.scale, np.float32), np.array(layer.offset, np.float32)
        return -offset / scale, scale

    def _behind_pixels(
        self, kernel: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The first layer's weights, with what `pixels` leaves of the normalisation."""
        mean, scale = self._normalisation()
        kernel = kernel * scale[:, None]
        rest = (np.round(mean) - mean)[:, None]
        return kernel, bias + (kernel * rest).sum(axis=(0, 1, 2))


Layers: TypeAlias = TrainedLayers | ServedLayers


def _input(size: tuple[int, int]) -> Tensor:
    return keras.Input((*size, 3), dtype="float32", name="pixels")


def _whitening_layer(filters: int, size: tuple[int, int], initial: Any) -> keras.Layer:
    side, stride = patch(size)
    return layers.Conv2D(
        filters, side, stride, kernel_initializer=initial, activation="relu", name="whiten"
    )


def _plain_convolution(name: str, filters: int) -> keras.Layer:
    return layers.Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal", name=name)


def _convolution(name: str, filters: int, side: int, stride: int) -> keras.Layer:
    return layers.Conv2D(filters, side, stride, padding="same", name=name)


def _depthwise(name: str, side: int, stride: int) -> keras.Layer:
    return layers.DepthwiseConv2D(side, stride, padding="same", name=name)


def _rectified(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _with_weights(layer: keras.Layer, x: Tensor, *weights: NDArray[np.float32]) -> Tensor:
    """What the layer makes of x, once it has these weights."""
    answer = layer(x)
    layer.set_weights(weights)
    return answer


def partly_identity(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Filters that hand on their input's channels, as far as there are any; the rest is random.

    Dirac initialisation, as in the record recipe: the deeper layers see the image from the start.
    """
    side, _, channels, filters = shape
    values = keras.ops.convert_to_numpy(keras.initializers.HeNormal()(shape, dtype)).copy()
    same = min(channels, filters)
    values[..., :same] = 0
    values[side // 2, side // 2, range(same), range(same)] = 1
    return keras.ops.convert_to_tensor(values, dtype)
