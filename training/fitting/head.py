"""The last layer of a pretrained network, for features that are left as they are.

A multinomial logistic regression with decayed weights: it takes seconds, is an answer already, and
is where fine-tuning starts from.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.data.dataset import Split
from training.data.pixels import Images
from training.networks.efficientnet import LOGITS_NAME
from training.networks.inference import inference_batch
from training.progress import bar

DECAY = 0.01  # of the squared weights, for features of deviation 1
STEPS, RATE = 200, 0.01
FLOOR = 1e-3  # of a feature's deviation


def fit_head(model: keras.Model, split: Split) -> None:
    """Give the network the last layer that suits its features of these images."""
    layer = model.get_layer(LOGITS_NAME)
    features = features_of(model, split.images)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + FLOOR
    weights, bias = _regression((features - mean) / deviation, split.targets, layer.units)
    kernel = weights / deviation[:, None]
    layer.set_weights([kernel, bias - mean @ kernel])


def features_of(model: keras.Model, images: Images) -> NDArray[np.float32]:
    """What the last layer sees of images, float32 [N, features]."""
    until = tf.function(keras.Model(model.input, model.get_layer(LOGITS_NAME).input))
    size = inference_batch(images.shape[1:3])
    found = []
    with bar(total=len(images), desc="features", unit="image", leave=False) as progress:
        for i in range(0, len(images), size):
            part = images[i : i + size]
            found.append(until(part.astype(np.float32), training=False).numpy())
            progress.update(len(part))
    return np.concatenate(found)


def _regression(
    features: NDArray[np.float32], targets: NDArray[np.int64], labels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [features, labels] and biases [labels] of the least mean cross-entropy with decay."""
    x, wanted = tf.constant(features), tf.one_hot(targets, labels)
    weights, bias = tf.Variable(tf.zeros((x.shape[1], labels))), tf.Variable(tf.zeros(labels))
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build([weights, bias])

    def step() -> None:
        with tf.GradientTape() as tape:
            each = tf.nn.softmax_cross_entropy_with_logits(wanted, x @ weights + bias)
            loss = tf.reduce_mean(each) + DECAY * tf.reduce_sum(tf.square(weights))
        optimizer.apply(tape.gradient(loss, [weights, bias]), [weights, bias])

    compiled = tf.function(step)
    for _ in range(STEPS):
        compiled()
    return weights.numpy(), bias.numpy()
