"""Filters in mirrored pairs: an image and its mirror image get the same answer.

A convolution that is equivariant to mirroring (Cohen and Welling, Group Equivariant Convolutional
Networks, 2016): each filter's mirror image is a filter of the same layer. The network's structure
and cost are those of any other. Its first weights are paired, and each step is made as symmetric as
they are, so they stay so. Half of a step's gradient is what the mirrored images would have given:
one pass over the images counts for both.

Only an odd number of pixels before a pool of two is not symmetric, as the last one is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Mirror = Callable[[tf.Tensor], tf.Tensor]


def mirrors(model: keras.Model) -> list[tuple[keras.Variable, Mirror]]:
    """Each variable that has to do with filters, and what makes it that of the mirrored network.

    For networks of convolutions, norms and a last dense layer, the first convolution's filters
    given, those of all others in pairs: 2k and 2k + 1.
    """
    found: list[tuple[keras.Variable, Mirror]] = []
    pairs: dict[str, NDArray[np.int64]] = {}  # where each channel's mirror image is
    for layer in model.layers:
        before = next((pairs[origin] for origin in _origins(layer)), np.arange(3))
        pairs[layer.name] = before
        if isinstance(layer, keras.layers.Conv2D):
            after = np.arange(layer.filters) ^ 1
            if not layer.kernel.trainable:
                after = partners(layer.kernel.numpy())
            found.append((layer.kernel, _mirrored(before, after)))
            found += [(layer.bias, _exchanged(after))] if layer.use_bias else []
            pairs[layer.name] = after
        elif isinstance(layer, keras.layers.BatchNormalization):
            found += [(variable, _exchanged(before)) for variable in layer.variables]
        elif isinstance(layer, keras.layers.Dense):
            found.append((layer.kernel, _exchanged(before)))
    return found


def partners(filters: NDArray[np.float32]) -> NDArray[np.int64]:
    """Of filters [k, k, C, F], where each one's mirror image is among them: [F]."""
    flat, mirrored = filters.reshape(-1, filters.shape[-1]), filters[:, ::-1]
    distances = np.square(flat[..., None] - mirrored.reshape(flat.shape)[:, None]).sum(axis=0)
    return np.asarray(distances.argmin(axis=1))


def pair(model: keras.Model) -> None:
    """Make every second filter the mirror image of the one before it."""
    for variable, mirror in mirrors(model):
        value = variable.numpy()
        if variable.trainable and value.ndim == 4:
            second = np.arange(value.shape[-1]) % 2 == 1
            variable.assign(np.where(second, mirror(value), value))
        elif variable.trainable:  # zeros, or what belongs to each of a pair
            variable.assign(symmetric(value, mirror))


def with_mirror_images(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moments of patches (`whitening.patch_moments`), as if each image were there mirrored, too.

    Every whitening filter's mirror image is a filter, then.
    """
    side = math.isqrt(len(moments) // 3)
    mirror = np.arange(len(moments)).reshape(3, side, side)[..., ::-1].reshape(-1)
    symmetrical = (moments + moments[mirror][:, mirror]) / 2
    # Even and odd directions of one variance, as grey images have them, stay apart.
    return symmetrical + 1e-6 * np.eye(len(mirror))[mirror]


def keep_pairs(
    mirrored: Sequence[tuple[keras.Variable, Mirror]], gradients: dict[int, tf.Tensor]
) -> None:
    """Make a step symmetric: the gradients, by their variables' ids, and what norms have seen.

    The first layer's filters are frozen, and left alone.
    """
    for variable, mirror in mirrored:
        if id(variable) in gradients:
            gradients[id(variable)] = symmetric(gradients[id(variable)], mirror)
        elif len(variable.shape) == 1:
            variable.assign(symmetric(variable, mirror))


def symmetric(value: Any, mirror: Mirror) -> tf.Tensor:
    """The mean of a value and the mirrored network's."""
    value = tf.convert_to_tensor(value)
    return (value + mirror(value)) / 2


def _mirrored(before: NDArray[np.int64], after: NDArray[np.int64]) -> Mirror:
    return lambda kernel: tf.gather(
        tf.gather(tf.reverse(kernel, [1]), before, axis=2), after, axis=3
    )


def _exchanged(partner: NDArray[np.int64]) -> Mirror:
    return lambda value: tf.gather(value, partner, axis=0)


def _origins(layer: keras.Layer) -> list[str]:
    """Names of the layers that a layer takes its input from."""
    inputs = layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]
    operations = [tensor._keras_history.operation for tensor in inputs]  # noqa: SLF001
    return [operation.name for operation in operations if operation.name != layer.name]
