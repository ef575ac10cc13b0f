"""One step of training: augment, ask, compare, move every weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.augmentation import augment
from training.data.batches import Batch
from training.data.mixing import mixed
from training.fitting.distillation import Teachers
from training.fitting.state import TrainingState
from training.networks.branches import answers_of
from training.networks.mirrored import keep_pairs, mirrors

Step = Callable[[Batch, NDArray[np.int32], NDArray[np.float32]], tuple[NDArray[np.float32], float]]


def loss_of(config: TrainConfig, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Each image's loss, [N], for targets [N, labels] that sum to 1."""
    if config.loss == "squared-error":
        return tf.reduce_sum(tf.square(tf.nn.softmax(logits) - targets), axis=1)
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def training_step(state: TrainingState, teachers: Teachers) -> Step:
    """A step: (batch, seed, rates) → (each image's loss [n], number of right answers).

    `seed`: int32 [2]. `rates`: float32, one for each of the state's groups. What comes before the
    teachers and what comes after them is compiled.
    """
    labels, mixup = len(state.dataset.labels), state.config.recipe.mixup
    change, learn = _change(state), _learn(state)

    def step(
        batch: Batch, seed: NDArray[np.int32], rates: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        images = change(batch.images, batch.mirrored, seed).numpy()
        targets = np.eye(labels, dtype=np.float32)[batch.targets]
        if mixup:
            images, targets = mixed(images, targets, seed, mixup)
        if teachers.each:
            targets = teachers.taught(images, targets)
        losses, correct = learn(images, batch.targets, targets, batch.weights, rates)
        return losses.numpy(), float(correct)

    return step


def _change(state: TrainingState) -> Callable[..., tf.Tensor]:
    """Compiled: (images, mirrored, seed) → float32 images as they are learned from."""
    signature = [
        tf.TensorSpec((None, *state.config.image_size, 3), tf.uint8),
        tf.TensorSpec((None,), tf.bool),
        tf.TensorSpec((2,), tf.int32),
    ]

    def change(images: tf.Tensor, mirrored: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return augment(images, mirrored, seed, state.config)

    compiled: Callable[..., tf.Tensor] = tf.function(change, input_signature=signature)
    return compiled


def _learn(state: TrainingState) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Compiled: (images, labels, targets, weights, rates) → losses [n], right answers."""
    config, model, labels = state.config, state.model, len(state.dataset.labels)
    answers_by_branch = answers_of(model)
    trained = [v for group in state.groups for v in group.variables]
    mirrored = mirrors(model) if config.mirrored_filters else []
    signature = [
        tf.TensorSpec((None, *config.image_size, 3), tf.float32),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None, labels), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((len(state.groups),), tf.float32),
    ]

    def learn(
        images: tf.Tensor,
        shown: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        rates: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape, multiplying_in(config.precision, model):
            answers = answers_by_branch(images, training=True)
            each = [loss_of(config, targets, logits) for logits in answers]
            loss = tf.reduce_mean(tf.add_n(each) * weights)  # a branch learns as it would alone
        gradients = dict(zip(map(id, trained), tape.gradient(loss, trained), strict=True))
        keep_pairs(mirrored, gradients)
        _move(state, gradients, rates)
        right = tf.equal(tf.argmax(tf.add_n(answers), axis=1), shown)
        return tf.add_n(each) / len(each), tf.reduce_sum(tf.cast(right, tf.float32))

    compiled: Callable[..., tuple[tf.Tensor, tf.Tensor]] = tf.function(
        learn, input_signature=signature
    )
    return compiled


def _move(state: TrainingState, gradients: dict[int, tf.Tensor], rates: tf.Tensor) -> None:
    """One step of every optimiser."""
    for i, group in enumerate(state.groups):
        group.optimizer.learning_rate.assign(rates[i])
        group.optimizer.apply([gradients[id(v)] for v in group.variables], group.variables)


@contextmanager
def multiplying_in(precision: str, model: keras.Model) -> Iterator[None]:
    """Have the network's convolutions take and give numbers of this precision inside the block.

    All but the first, as bfloat16 cannot tell the 256 values of a pixel apart. Weights and what
    stands between the convolutions stay float32 (Micikevicius et al., Mixed Precision Training,
    2017; bfloat16 has float32's range, so no loss has to be scaled).

    Args:
        precision: one of `config.PRECISIONS`; float32 changes nothing.
        model: built in float32, which it is again afterwards, also where the block fails.
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    before = [layer.dtype_policy for layer in convolutions]
    if precision != "float32":
        for layer in convolutions:
            layer.dtype_policy = f"mixed_{precision}"
    try:
        yield
    finally:
        for layer, policy in zip(convolutions, before, strict=True):
            layer.dtype_policy = policy
