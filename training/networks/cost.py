"""What a served network costs: parameters, and operations of one image."""

from __future__ import annotations

import math

import keras


def parameters(model: keras.Model) -> int:
    """Numbers that the network holds."""
    return int(model.count_params())


def flops(model: keras.Model) -> int:
    """Operations on one image: two for each product of convolutions and dense layers.

    What is left out (norms, rectifiers, pools) is a percent or two.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += 2 * math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * math.prod(layer.kernel.shape)
    return total
