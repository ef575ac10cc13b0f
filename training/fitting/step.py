"""One step of training: augment, ask, compare, move every weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.architectures import branches_of
from training.augmentation import augment, resized
from training.batches import Batch
from training.config import TrainConfig
from training.run import Run
from training.symmetry import keep_pairs, mirrors
from training.teaching import Teachers


def loss_of(config: TrainConfig, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Each image's loss, [N], for targets [N, labels] that sum to 1."""
    labels = targets.shape[1]
    smooth = targets * (1 - config.label_smoothing) + config.label_smoothing / labels
    if config.loss == "squared-error":
        return tf.reduce_sum(tf.square(tf.nn.softmax(logits) - smooth), axis=1)
    return tf.nn.softmax_cross_entropy_with_logits(smooth, logits)


def training_step(run: Run, teachers: Teachers) -> Callable[..., Any]:
    """A step: (batch, seed, rates, size) → (losses [n], number of right answers).

    What comes before the teachers and what comes after them is compiled.
    """
    change, learn = _change(run), _learn(run)

    def step(
        batch: Batch, seed: NDArray[np.int32], rates: NDArray[np.float32], size: tuple[int, int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, wanted = change(batch.images, batch.targets, batch.mirrored, seed)
        if teachers.each:
            wanted = teachers.taught(images.numpy(), wanted.numpy())
        answer: tuple[tf.Tensor, tf.Tensor] = learn(size)(
            images, batch.targets, wanted, batch.weights, rates
        )
        return answer

    return step


def _change(run: Run) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Compiled: (images, labels, mirrored, seed) → float32 images as they are seen, targets."""
    config, labels = run.config, len(run.dataset.labels)
    signature = [
        tf.TensorSpec((None, *config.image_size, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None,), tf.bool),
        tf.TensorSpec((2,), tf.int32),
    ]

    def change(
        images: tf.Tensor, targets: tf.Tensor, mirrored: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(images, tf.one_hot(targets, labels), mirrored, seed, config)

    compiled: Callable[..., tuple[tf.Tensor, tf.Tensor]] = tf.function(
        change, input_signature=signature
    )
    return compiled


def _learn(run: Run) -> Callable[[tuple[int, int]], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
    """For a size, compiled: (images, labels, targets, weights, rates) → losses, right answers."""
    config, model, labels = run.config, run.model, len(run.dataset.labels)
    branches = branches_of(model)
    trained = [v for group in run.groups for v in group.variables]
    mirrored = mirrors(model) if config.symmetric else []
    signature = [
        tf.TensorSpec((None, *config.image_size, 3), tf.float32),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None, labels), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((len(run.groups),), tf.float32),
    ]

    def learn(size: tuple[int, int], batch: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, targets, wanted, weights, rates = batch
        if size != config.image_size:
            images = resized(images, size)
        with tf.GradientTape() as tape, multiplying_in(config.precision, model):
            answers = branches(images, training=True)
            each = [loss_of(config, wanted, logits) for logits in answers]
            loss = tf.reduce_mean(tf.add_n(each) * weights)  # a branch learns as it would alone
        gradients = dict(zip(map(id, trained), tape.gradient(loss, trained), strict=True))
        keep_pairs(mirrored, gradients)
        _move(run, gradients, rates)
        losses = tf.add_n(each) / len(each)
        right = tf.equal(tf.argmax(tf.add_n(answers), axis=1), targets)
        return losses, tf.reduce_sum(tf.cast(right, tf.float32))

    @cache
    def compiled(size: tuple[int, int]) -> Any:
        return tf.function(lambda *batch: learn(size, batch), input_signature=signature)

    return compiled


@contextmanager
def multiplying_in(precision: str, model: keras.Model) -> Iterator[None]:
    """Have the network's convolutions take and give numbers of this precision, while it is lent.

    All but the first, as bfloat16 cannot tell the 256 values of a pixel apart. Weights and what
    stands between the convolutions stay float32 (Micikevicius et al., Mixed Precision Training,
    2017; bfloat16 has float32's range, so no loss has to be scaled).

    Args:
        precision: one of `config.PRECISIONS`; float32 changes nothing.
        model: built in float32, which it is again afterwards.
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    before = [layer.dtype_policy for layer in convolutions]
    if precision != "float32":
        for layer in convolutions:
            layer.dtype_policy = f"mixed_{precision}"
    yield
    for layer, policy in zip(convolutions, before, strict=True):
        layer.dtype_policy = policy


def _move(run: Run, gradients: dict[int, tf.Tensor], rates: tf.Tensor) -> None:
    """One step of every optimiser, and of the average."""
    for i, group in enumerate(run.groups):
        group.optimizer.learning_rate.assign(rates[i])
        group.optimizer.apply([gradients[id(v)] for v in group.variables], group.variables)
    if run.averages:
        # The first weights, which know nothing, are soon forgotten.
        steps = tf.cast(run.groups[0].optimizer.iterations, tf.float32)
        decay = tf.minimum(run.config.average, (1 + steps) / (10 + steps))
        for average, weight in zip(run.averages, run.weights, strict=True):
            average.assign(average * decay + tf.convert_to_tensor(weight) * (1 - decay))
