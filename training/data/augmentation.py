"""What may happen to a training image: it stays an image of the same thing.

Compiled, as the first part of a training step (see `fitting.step`). Every draw is a function of a
seed that the loop makes from the run's seed and the step's number, so that a resumed run draws what
an uninterrupted one would. All functions take and give float32 images [N, H, W, 3] in 0 to 255,
unless they say otherwise.
"""

from __future__ import annotations

import tensorflow as tf

from training.config import TrainConfig

PIXEL_MAX = 255.0
GREY = (0.299, 0.587, 0.114)


def augment(
    images: tf.Tensor, mirrored: tf.Tensor, seed: tf.Tensor, config: TrainConfig
) -> tf.Tensor:
    """Everything that the configuration asks for, in the order of the options.

    Args:
        images: uint8 [N, H, W, 3].
        mirrored: bool [N], which images are flipped left to right.
        seed: int32 [2]; the same seed gives the same result.
        config: which changes, and how strong.

    Returns:
        float32 images of the same shape.
    """
    moving, zooming, colouring, cutting = tf.unstack(
        tf.random.experimental.stateless_split(seed, 4)
    )
    images = move(images, mirrored, moving, shift=config.shift)
    images = tf.cast(images, tf.float32)
    if config.zoom:
        images = zoom(images, zooming, config.zoom)
    if config.colour:
        images = colour(images, colouring, config.colour)
    if config.cutout:
        images = cut_out(images, cutting, config.cutout)
    return images


def move(images: tf.Tensor, mirrored: tf.Tensor, seed: tf.Tensor, *, shift: int = 0) -> tf.Tensor:
    """Mirror the chosen images left to right and move each by up to `shift` pixels either way.

    What comes in at an edge is the image's mirrored border. Both are a choice of which row and
    which column goes where, so the pixels of an image are only rearranged.

    Args:
        images: [N, H, W, 3], any type, which the result has too.
        mirrored: bool [N].
        seed: int32 [2].
        shift: below H and W.
    """
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform([2, count], seed)
    moves = tf.cast(tf.floor(draws * (2 * shift + 1)), tf.int32) - shift
    rows = _reflected(tf.range(height)[None, :] + moves[0, :, None], height)
    columns = _reflected(tf.range(width)[None, :] + moves[1, :, None], width)
    columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflected(index: tf.Tensor, length: int) -> tf.Tensor:
    """Indices beyond an edge, reflected back without repeating the edge: -1 → 1."""
    index = tf.abs(index)
    return tf.minimum(index, 2 * (length - 1) - index)


def zoom(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Show a part of each image, 1 - `strength` to 1 of its sides and anywhere in it, in full size.

    Height and width are drawn apart, so the ratio changes by up to as much.
    """
    count = tf.shape(images)[0]
    draws = tf.random.stateless_uniform([4, count], seed)
    sides = 1.0 - strength * draws[:2]
    top, left = (1.0 - sides[0]) * draws[2], (1.0 - sides[1]) * draws[3]
    boxes = tf.stack([top, left, top + sides[0], left + sides[1]], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(count), images.shape[1:3])


def colour(images: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Change brightness, contrast and saturation of each image by a factor of 1 ± `strength`."""
    draws = tf.random.stateless_uniform([3, tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    brightness, contrast, saturation = tf.unstack(1.0 + strength * draws)
    images *= brightness
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (images - mean) * contrast
    grey = tf.reduce_sum(images * tf.constant(GREY), axis=3, keepdims=True)
    return tf.clip_by_value(grey + (images - grey) * saturation, 0.0, PIXEL_MAX)


def cut_out(images: tf.Tensor, seed: tf.Tensor, side: int) -> tf.Tensor:
    """Paint a square of `side` pixels, anywhere in each image, in the batch's mean colour."""
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform([2, count, 1], seed)
    rows, columns = (
        _within(n, tf.floor(draws[i] * (n - side + 1)), side) for i, n in enumerate((height, width))
    )
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None]
    return tf.where(hidden, tf.reduce_mean(images, axis=(0, 1, 2)), images)


def _within(length: int, start: tf.Tensor, side: int) -> tf.Tensor:
    places = tf.range(length, dtype=tf.float32)[None, :]
    return (places >= start) & (places < start + side)
