"""Asking a network that is still Keras', in batches that fit into memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.data.pixels import Images

LARGEST_BATCH = 128


def inference_batch(size: tuple[int, ...]) -> int:
    """How many images of this height and width are asked at once: so many values are in memory."""
    return max(1, min(LARGEST_BATCH, LARGEST_BATCH * 64 * 64 // (size[0] * size[1])))


def predict_logits(model: keras.Model, images: Images) -> NDArray[np.float32]:
    """Logits, float32 [N, labels], of uint8 [N, H, W, 3], without dropout."""
    size, answers = inference_batch(images.shape[1:3]), _compiled(model)
    batches = [
        answers(images[i : i + size].astype(np.float32)).numpy()
        for i in range(0, len(images), size)
    ]
    return np.concatenate(batches)


@lru_cache(maxsize=1)  # a run asks one network again and again, a quarter of the time if compiled
def _compiled(model: keras.Model) -> Any:
    signature = tf.TensorSpec(model.input_shape, tf.float32)
    return tf.function(lambda pixels: model(pixels, training=False), input_signature=[signature])
