"""One step of training, compiled: augment, ask, compare, move every weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tensorflow as tf

from training.augmentation import augment, resized
from training.config import TrainConfig
from training.run import Run


def loss_of(config: TrainConfig, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Each image's loss, [N], for targets [N, labels] that sum to 1."""
    labels = targets.shape[1]
    smooth = targets * (1 - config.label_smoothing) + config.label_smoothing / labels
    if config.loss == "squared-error":
        return tf.reduce_sum(tf.square(tf.nn.softmax(logits) - smooth), axis=1)
    return tf.nn.softmax_cross_entropy_with_logits(smooth, logits)


def training_step(run: Run) -> Callable[..., Any]:
    """A compiled step: (batch, seed, rates, size) → (losses [n], number of right answers)."""
    config, model, labels = run.config, run.model, len(run.dataset.labels)
    trained = [v for group in run.groups for v in group.variables]
    signature = [
        tf.TensorSpec((None, *config.image_size, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None, labels), tf.float32),
        tf.TensorSpec((None,), tf.bool),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((2,), tf.int32),
        tf.TensorSpec((len(run.groups),), tf.float32),
    ]

    def compute(size: tuple[int, int], batch: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, targets, wanted, mirrored, weights, seed, rates = batch
        changed, wanted = augment(images, wanted, mirrored, seed, config)
        if size != config.image_size:
            changed = resized(changed, size)
        with tf.GradientTape() as tape:
            logits = model(changed, training=True)
            losses = loss_of(config, wanted, logits)
            loss = tf.reduce_mean(losses * weights)
        gradients = tape.gradient(loss, trained)
        _move(run, dict(zip(map(id, trained), gradients, strict=True)), rates)
        right = tf.equal(tf.argmax(logits, axis=1), targets)
        return losses, tf.reduce_sum(tf.cast(right, tf.float32))

    @cache
    def compiled(size: tuple[int, int]) -> Any:
        return tf.function(lambda *batch: compute(size, batch), input_signature=signature)

    return lambda *batch_and_size: compiled(batch_and_size[-1])(*batch_and_size[:-1])


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
