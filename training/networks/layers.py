"""Named networks: float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, labels].

Every network starts with its own normalisation, so what it takes is what a camera gives. There is
no softmax: the loss works on logits, and the exported graph adds temperature and softmax.

A network is built twice: once to be trained, and once as it is served, where batch norms and
scales have gone into the filters before them (see `served`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

ACTIVATIONS = ("relu", "silu")
WHITENED_AT_ONCE = 100  # images
WHITENED = 24  # directions of the first layer, each in both signs
# A batch norm's running figures follow the last few batches, as the weights move fast.
NORM_MOMENTUM, NORM_EPSILON = 0.6, 1e-5
# Logits of a network that ends in a maximum over unit-variance features are about this much too
# large to start from.
LOGIT_SCALE = 1 / 9


@dataclass(frozen=True)
class Shape:
    """What a network is built for."""

    size: tuple[int, int]  # height, width
    labels: int
    dropout: float
    mean: NDArray[np.float32]  # [3], of the training images' channels, 0 to 255
    deviation: NDArray[np.float32]  # [3], above 0
    width: float = 1.0  # every layer's filters, as a multiple
    depth: int = 0  # convolutions in a stage; 0 is the architecture's own number
    activation: str = "relu"
    branches: int = 1
    # [k, k, 3, 2 * WHITENED or fewer], from `whitening_filters`; random where there is none
    whitening: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Architecture:
    """A network that can be asked for by name."""

    name: str
    summary: str
    smallest_side: int  # where its first layer takes single pixels
    build: Callable[[Shape, bool], keras.Model]  # the flag: as it is served
    any_size: bool = False  # whether the trained network takes images of other sizes as well
    whitens: bool = False  # whether its first layer is made from the data
    activations: tuple[str, ...] = ACTIVATIONS
    layer_side: int = 0  # pixels of a side that a convolution more in each stage takes

    def smallest_for(self, size: tuple[int, int], depth: int) -> int:
        """The smallest side that leaves pixels to a network built for `size` and `depth`.

        `depth` is that of the stages, 0 for its own.
        """
        if not self.whitens:
            return max(self.smallest_side, self.layer_side * depth + 4)
        _, stride = patch(size)
        halved = (self.smallest_side - 1) * (2 if _is_large(size) else 1)
        return stride * (halved + 1)

    def __str__(self) -> str:
        return f"{self.name}: {self.summary}"


def patch(size: tuple[int, int]) -> tuple[int, int]:
    """(side, stride) of the patches that a whitening first layer looks at.

    2x2 for thumbnails; for larger images patches overlap by half, so that what follows has 30 to
    60 places in each direction, whatever the size.
    """
    stride = 1 if max(size) < 48 else 2 if max(size) < 112 else 4
    return 2 * stride, stride


def whitening_filters(
    images: NDArray[np.uint8],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    epsilon: float,
    *,
    symmetric: bool = False,
) -> NDArray[np.float32]:
    """Filters that make the patches of normalised images uncorrelated and of equal variance.

    The directions of largest variance among all patches (their covariance's eigenvectors), each
    divided by the root of its variance + `epsilon` and in both signs, as what follows is a
    rectifier. `epsilon` keeps directions that hold next to nothing but noise from being blown up.

    Args:
        images: uint8 [N, H, W, 3], a few thousand are enough.
        mean: [3], of the channels.
        deviation: [3], of the channels.
        epsilon: in units of a pixel's variance.
        symmetric: as if each image were there mirrored, too; every filter's mirror image is a
            filter, then.

    Returns:
        float32 [k, k, 3, 2 * WHITENED], or 6 k² filters where k is too small for so many.
    """
    side, stride = patch(images.shape[1:3])
    moments, count = np.zeros((3 * side * side,) * 2), 0
    for i in range(0, len(images), WHITENED_AT_ONCE):
        pixels = (images[i : i + WHITENED_AT_ONCE].astype(np.float32) - mean) / deviation
        views = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(1, 2))
        patches = views[:, ::stride, ::stride].reshape(-1, 3 * side * side)  # channel, row, column
        moments += patches.T @ patches
        count += len(patches)
    moments /= count
    if symmetric:
        mirror = np.arange(3 * side * side).reshape(3, side, side)[..., ::-1].reshape(-1)
        moments = (moments + moments[mirror][:, mirror]) / 2
        # Even and odd directions of one variance, as grey images have them, stay apart.
        moments += 1e-6 * np.eye(len(mirror))[mirror]
    values, vectors = np.linalg.eigh(moments)
    leading = np.argsort(values)[::-1][:WHITENED]
    scaled = vectors[:, leading] / np.sqrt(np.maximum(values[leading], 0) + epsilon)
    filters = scaled.reshape(3, side, side, -1).transpose(1, 2, 0, 3)
    return np.concatenate([filters, -filters], axis=-1).astype(np.float32)


def _normalised_input(
    shape: Shape, *, any_size: bool = False, as_served: bool = False
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The pixels, and the pixels with mean 0 and deviation 1 per channel.

    Served, the mean is subtracted in whole numbers, so that 8-bit integers can hold the result, and
    the first convolution does the rest.
    """
    import keras  # names are wanted without TensorFlow

    size = (None, None) if any_size else shape.size
    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    if as_served:
        whole = np.round(shape.mean).astype(np.float32)
        return pixels, keras.layers.Lambda(lambda x: x - whole, name="centre")(pixels)
    scale = 1.0 / shape.deviation
    normalise = keras.layers.Rescaling(
        scale.tolist(), offset=(-shape.mean * scale).tolist(), name="normalise"
    )
    return pixels, normalise(pixels)


def basic(shape: Shape, as_served: bool = False) -> keras.Model:
    """The tutorial's network: CONV-RELU-CONV-RELU-POOL twice, a dense layer of 256, dropout.

    3x3 filters without padding, so that 32x32 becomes 30x30x32 after the first layer; 478 k
    parameters for 32x32 and 10 labels. The dense layer grows with the image's area.
    """
    import keras  # names are wanted without TensorFlow

    layers = keras.layers
    pixels, x = _normalised_input(shape, as_served=as_served)
    for stage, filters in enumerate((32, 64), start=1):
        for place in range(1, 1 + (shape.depth or 2)):
            x = layers.Conv2D(
                _scaled(filters, shape.width),
                3,
                padding="valid",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"conv{stage}_{place}",
            )(x)
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    if as_served:  # as a constant; Flatten works its shape out while the graph runs
        x = keras.ops.reshape(x, (-1, math.prod(x.shape[1:])))
    else:
        x = layers.Flatten(name="flatten")(x)
    dense = _scaled(256, shape.width)
    x = layers.Dense(dense, activation="relu", kernel_initializer="he_normal", name="dense")(x)
    x = layers.Dropout(shape.dropout, name="dropout")(x)
    return keras.Model(pixels, layers.Dense(shape.labels, name="logits")(x), name="basic")


def staged(name: str, widths: tuple[int, ...], depth: int) -> Callable[[Shape, bool], keras.Model]:
    """A builder: whitening → stages of 3x3 convolutions that halve the image → maximum → dense.

    After K. Jordan, 94% on CIFAR-10 in 3.29 Seconds (2024). A stage of three convolutions or more
    adds its input to its output (He et al., 2015). Images of 160 pixels and above get a stage more.
    Branches share the whitening and the first stage, and answer with the mean of their logits; in
    training each has a loss of its own, see `branches_of` (the TreeNets of Lee et al., Why M Heads
    are Better than One, 2015).
    """

    def build(shape: Shape, as_served: bool = False) -> keras.Model:
        import keras  # names are wanted without TensorFlow

        pixels, x = _normalised_input(shape, any_size=not as_served, as_served=as_served)
        stages = [
            _Stage(number, filters, shape.depth or depth, shape, as_served)
            for number, filters in enumerate(_stages(widths, shape), start=1)
        ]
        shared = _stage(_whitened(x, shape), stages[0])
        ends = []
        for branch in _branch_names(shape):
            x = shared
            for stage in stages[1:]:
                x = _stage(x, replace(stage, branch=branch))
            ends.append(keras.layers.GlobalMaxPooling2D(name=f"maximum{branch}")(x))
        logits = _together(ends, shape) if as_served else _apart(ends, shape)
        return keras.Model(pixels, logits, name=name)

    return build


def _branch_names(shape: Shape) -> list[str]:
    """What the names of each branch's layers end in."""
    return ["", *(f"_branch{number}" for number in range(2, shape.branches + 1))]


def _apart(ends: list[keras.KerasTensor], shape: Shape) -> keras.KerasTensor:
    """The mean of what each branch answers."""
    import keras  # names are wanted without TensorFlow

    answers = []
    for end, branch in zip(ends, _branch_names(shape), strict=True):
        x = end
        if shape.dropout:
            x = keras.layers.Dropout(shape.dropout, name=f"dropout{branch}")(x)
        x = keras.layers.Dense(shape.labels, use_bias=False, name=f"logits{branch}")(x)
        answers.append(keras.layers.Rescaling(LOGIT_SCALE, name=f"scale{branch}")(x))
    return keras.layers.Average(name="mean")(answers) if shape.branches > 1 else answers[0]


def _together(ends: list[keras.KerasTensor], shape: Shape) -> keras.KerasTensor:
    """The same as one product, of all branches' ends."""
    import keras  # names are wanted without TensorFlow

    x = keras.layers.Concatenate(name="ends")(ends) if shape.branches > 1 else ends[0]
    return keras.layers.Dense(shape.labels, use_bias=False, name="logits")(x)


def branches_of(model: keras.Model) -> Callable[..., list[keras.KerasTensor]]:
    """The same network, with the logits of each branch: of images, a list of one or more."""
    import keras  # names are wanted without TensorFlow

    last = model.layers[-1]
    answers = last.input if isinstance(last, keras.layers.Average) else [model.output]
    apart = keras.Model(model.input, answers)
    # Of a single answer Keras makes no list.
    return lambda images, training: _listed(apart(images, training=training))


@dataclass(frozen=True)
class _Stage:
    number: int
    filters: int
    depth: int
    shape: Shape
    as_served: bool
    branch: str = ""


def _stages(widths: tuple[int, ...], shape: Shape) -> list[int]:
    """Filters of each stage; one more in front where the image has room for it."""
    filters = (widths[0], *widths) if _is_large(shape.size) else widths
    return [_scaled(width, shape.width) for width in filters]


def _is_large(size: tuple[int, int]) -> bool:
    _, stride = patch(size)
    return min(size) // stride >= 40


def _scaled(filters: int, width: float) -> int:
    """A multiple of 8, at least 8: what vector instructions like."""
    return max(8, 8 * round(filters * width / 8))


def _whitened(x: keras.KerasTensor, shape: Shape) -> keras.KerasTensor:
    """Patches in the frozen basis of `whitening_filters`, with a bias that learns."""
    import keras  # names are wanted without TensorFlow

    side, stride = patch(shape.size)
    initial: Any = "orthogonal"
    filters = 2 * min(WHITENED, 3 * side * side)
    if shape.whitening is not None:
        initial, filters = keras.initializers.Constant(shape.whitening), shape.whitening.shape[-1]
    whiten = keras.layers.Conv2D(
        filters,
        side,
        stride,
        kernel_initializer=initial,
        activation=shape.activation,
        name="whiten",
    )
    x = whiten(x)
    whiten._kernel.trainable = False  # noqa: SLF001 - Keras freezes whole layers only
    return x


def _stage(x: keras.KerasTensor, stage: _Stage) -> keras.KerasTensor:
    import keras  # names are wanted without TensorFlow

    x = _unit(x, stage, 1, pool=True)
    before = x
    for place in range(2, stage.depth + 1):
        last = place == stage.depth
        x = _unit(x, stage, place, add=before if last and stage.depth > 2 else None)
    if stage.depth > 1:
        return x
    return keras.layers.Identity(name=f"stage{stage.number}{stage.branch}")(x)


def _unit(
    x: keras.KerasTensor,
    stage: _Stage,
    place: int,
    *,
    pool: bool = False,
    add: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Convolution, pooling, batch norm without a scale, rectifier.

    Served, the norm is in the filters. The pool stands behind the rectifier then, which gives the
    same (both are monotonic) and lets onnxruntime make one operation of convolution and rectifier.
    """
    import keras  # names are wanted without TensorFlow

    layers, act = keras.layers, stage.shape.activation
    name = f"{stage.number}_{place}{stage.branch}"
    conv = layers.Conv2D(
        stage.filters,
        3,
        padding="same",
        use_bias=stage.as_served,
        kernel_initializer=partly_identity,
        name=f"conv{name}",
    )
    steps = [conv(x)]
    pooling = [layers.MaxPooling2D(2, name=f"pool{name}")] if pool else []
    norm = layers.BatchNormalization(
        momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, scale=False, name=f"norm{name}"
    )
    rectifier = layers.Activation(act, name=f"{act}{name}")
    chain = [*pooling, norm] if not stage.as_served else [] if act == "relu" else pooling
    for layer in chain:
        steps.append(layer(steps[-1]))
    x = steps[-1]
    if add is not None:
        x = layers.Add(name=f"add{name}")([x, add])
    x = rectifier(x)
    late = pooling if stage.as_served and act == "relu" else []
    for layer in late:
        x = layer(x)
    return x


def partly_identity(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Filters that hand on their input's channels, as far as there are any; the rest is random.

    Dirac initialisation, as in the record recipe: the deeper layers see the image from the start.
    """
    import keras  # names are wanted without TensorFlow

    side, _, channels, filters = shape
    values = keras.ops.convert_to_numpy(keras.initializers.HeNormal()(shape, dtype)).copy()
    same = min(channels, filters)
    values[..., :same] = 0
    values[side // 2, side // 2, range(same), range(same)] = 1
    return keras.ops.convert_to_tensor(values, dtype)


def served(model: keras.Model, architecture: Architecture, shape: Shape) -> keras.Model:
    """The same function, as it is exported: no batch norms, no scales, a fixed input size.

    Of `shape` the size and the structure count; all else is taken from the trained network. A
    norm's 1/deviation and offset go into the filters and the bias of the convolution before it;
    between the two there may be a maximum, which a positive factor and an offset pass through.
    """
    trained = {layer.name: layer for layer in model.layers}
    scale, offset = (np.array(x, np.float32) for x in _rescaling(trained["normalise"]))
    mean = -offset / scale
    lean = architecture.build(replace(shape, labels=int(trained["logits"].units), mean=mean), True)
    first = next(layer.name for layer in lean.layers if "kernel_size" in layer.get_config())
    for layer in lean.layers:
        weights = trained[layer.name].get_weights() if layer.name in trained else []
        norm = trained.get(layer.name.replace("conv", "norm"))
        if layer.name.startswith("conv") and norm is not None and norm is not trained[layer.name]:
            offset, mean, variance = norm.get_weights()
            factor = 1 / np.sqrt(variance + NORM_EPSILON)
            weights = [weights[0] * factor, offset - mean * factor]
        elif layer.name == "logits" and "scale" in trained:
            heads = [trained[f"logits{branch}"] for branch in _branch_names(shape)]
            kernels = [head.get_weights()[0] for head in heads]
            weights = [np.concatenate(kernels) * LOGIT_SCALE / shape.branches]
        if layer.name == first:
            kernel, bias = weights
            rest = (np.round(mean) - mean)[:, None]
            kernel = kernel * scale[:, None]
            weights = [kernel, bias + (kernel * rest).sum(axis=(0, 1, 2))]
        if weights and layer.weights:
            layer.set_weights(weights)
    return lean


def _rescaling(layer: Any) -> tuple[Any, Any]:
    return layer.scale, layer.offset


def flops(model: keras.Model, size: tuple[int, int]) -> int:
    """Operations on one image: two for each product of convolutions and dense layers.

    What is left out (norms, rectifiers, pools) is a percent or two.
    """
    import keras  # names are wanted without TensorFlow

    total = 0
    extent = {"pixels": size}
    for layer in model.operations:
        before = [extent[origin] for origin in origins(layer)] or [size]
        height, width = before[0]
        if isinstance(layer, keras.layers.Conv2D):
            height, width = (_after(n, layer) for n in (height, width))
            total += 2 * height * width * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            height, width = height // 2, width // 2
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * math.prod(layer.kernel.shape)
        extent[layer.name] = (height, width)
    return total


def origins(layer: keras.Layer) -> list[str]:
    """Names of the layers that a layer takes its input from."""
    history = [tensor._keras_history for tensor in _listed(layer.input)]  # noqa: SLF001
    return [item.operation.name for item in history if item.operation.name != layer.name]


def _listed(value: Any) -> list[Any]:
    return [*value] if isinstance(value, (list, tuple)) else [value]


def _after(length: int, conv: Any) -> int:
    stride: int = conv.strides[0]
    if conv.padding == "same":
        return -(-length // stride)
    side: int = conv.kernel_size[0]
    return (length - side) // stride + 1


def parameters(model: keras.Model) -> int:
    """Numbers that the served network holds."""
    return int(model.count_params())


_STAGED = (
    ("small", "whitening and three stages of two convolutions", (32, 96, 128), 2),
    ("fast", "the same, wider: after the CIFAR-10 speed record", (64, 256, 256), 2),
    ("deep", "three convolutions in a stage, with residuals", (64, 192, 256), 3),
)

ARCHITECTURES: dict[str, Architecture] = {
    item.name: item
    for item in (
        # 16 is the least that leaves one value after both stages: 16, 14, 12, 6, 4, 2, 1. Of a
        # convolution more in each, the second's takes two pixels, which were four, the first's two.
        Architecture(
            "basic",
            "the tutorial's two-stage network",
            smallest_side=16,
            build=basic,
            activations=("relu",),
            layer_side=6,
        ),
        *(
            # 9 is the least that leaves one: 9, 8 (whitening), 4, 2, 1.
            Architecture(name, summary, 9, staged(name, widths, depth), any_size=True, whitens=True)
            for name, summary, widths, depth in _STAGED
        ),
    )
}
