"""Networks of `keras.applications`, with the ImageNet weights that Keras downloads (`--backbone`).

The functions are found by looking at what Keras has. Each comes with its module's
`preprocess_input`, which becomes a part of the graph.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Callable

import keras

from training.architectures import KERAS
from training.config import TrainConfig, size_text
from training.errors import ConfigError, WeightsError
from training.networks.dimensions import PLAIN_PIXELS
from training.networks.efficientnet import LOGITS_NAME
from training.networks.layers import TrainedLayers

PREFIX = f"{KERAS}:"
WEIGHTS: str | None = "imagenet"  # None in tests, which have no network: random ones
STEPS = 18  # between the first layer's rate and the last one's, as in efficientnet-lite0


def applications() -> dict[str, Callable[..., keras.Model]]:
    """The functions of `keras.applications` that make a network with or without its last layers."""
    return {
        name: found
        for name, found in vars(keras.applications).items()
        if inspect.isfunction(found) and "include_top" in inspect.signature(found).parameters
    }


def require_name(backbone: str) -> str:
    """Keras' own name of a `keras:NAME`. Raises ConfigError for one that Keras does not have."""
    known = [PREFIX + name for name in applications()]
    if backbone not in known:
        raise ConfigError(f"--backbone: {backbone!r} is not one of: {', '.join(known)}")
    return backbone.removeprefix(PREFIX)


def require(config: TrainConfig) -> None:
    """Raise ConfigError or WeightsError where `initial_network` would, as `build` says."""
    build(config, labels=2, weights=None)  # of the size alone, as Keras has one error for all
    if WEIGHTS is not None:
        build(config, labels=2, weights=WEIGHTS)


def build(config: TrainConfig, labels: int, weights: str | None) -> keras.Model:
    """The network of `config.backbone`: float32 pixels [N, H, W, 3] in 0 to 255 → logits.

    Batch norms keep their figures, scales and offsets. The last product is taken of the features'
    means over the image.

    Raises:
        ConfigError: Keras has no such network, or it is not for images of this size.
        WeightsError: the weights cannot be had.
    """
    name = require_name(config.backbone or "")
    network = exportable(_features(name, config.image_size, weights))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    layers = TrainedLayers(PLAIN_PIXELS, config.recipe.dropout)
    logits = layers.dense(layers.dropout(network.output), LOGITS_NAME, labels)
    return keras.Model(network.inputs[0], logits, name=name)


def _features(name: str, size: tuple[int, int], weights: str | None) -> keras.Model:
    """Keras' network: pixels as `build` takes them → float32 [N, features]; raises as `build`."""
    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    function = applications()[name]
    preprocess = sys.modules[function.__module__].preprocess_input
    try:
        # Keras prints of a download, and warns of sizes that the weights were not learned with.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(
                include_top=False,
                weights=weights,
                input_tensor=preprocess(pixels),
                input_shape=(*size, 3),
                pooling="avg",
            )
    except Exception as error:  # the downloader raises a bare Exception when it fails
        if weights is not None:
            raise WeightsError(
                f"--backbone: Keras cannot download the weights of {name}, for which the machine "
                "has to be online; --architecture efficientnet-lite0 has weights that come with "
                f"the package ({error})"
            ) from error
        if not isinstance(error, ValueError):
            raise
        reason = str(error).split(";")[0]
        raise ConfigError(f"--image-size: {size_text(size)} is not for {name}: {reason}") from error


def exportable(network: keras.Model) -> keras.Model:
    """The same function without what tf2onnx or onnxruntime do not know, as ConvNeXt has it."""
    if all(_known(layer) is layer for layer in network.layers):
        return network
    return keras.models.clone_model(network, clone_function=_known)


def _known(layer: keras.Layer) -> keras.Layer:
    """The layer, or one with its weights that does the same in operations that can be exported."""
    if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:  # one for each channel
        same = keras.layers.DepthwiseConv2D(
            layer.kernel_size, layer.strides, layer.padding, name=layer.name
        )
        same.build(layer.input.shape)
        kernel, bias = layer.get_weights()
        same.set_weights([kernel.transpose(0, 1, 3, 2), bias])
        return same
    return layer


def depths(model: keras.Model) -> dict[str, int]:
    """How far each variable that learns is from the answer, by its path: 0 for the last layer's.

    The layers in front of it share STEPS, so that the first ones of a deep network still learn.
    """
    *inner, last = [layer for layer in model.layers if layer.trainable_variables]
    found = {variable.path: 0 for variable in last.trainable_variables}
    for place, layer in enumerate(inner):
        depth = STEPS - place * STEPS // len(inner)
        found |= {variable.path: depth for variable in layer.trainable_variables}
    return found


def about(backbone: str) -> str:
    """What the card says of the weights."""
    return (
        f"{backbone.removeprefix(PREFIX)} of keras.applications {keras.__version__}, learned on "
        "ImageNet-1k; Keras is Apache-2.0, its converted weights keep the licence of those who "
        "trained them"
    )
