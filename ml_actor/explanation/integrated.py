"""What each input adds to the log-odds of up against down in a small net: integrated gradients."""

from __future__ import annotations

from typing import Final

import numpy as np

from framework.window import Float64Array
from ml_actor.labels import DOWN, UP
from ml_actor.neural import NeuralModel
from ml_actor.scaling import standardised

STEPS: Final = 256


def net_contributions(model: NeuralModel, row: Float64Array, horizon: int = 0) -> Float64Array:
    """Return (F,) that add up to the log-odds of up against down of one row (1, F).

    Gradients are integrated on the straight line from the mean of the training rows, where the log-odds are 0 because the net treats
    both directions alike (Sundararajan, Taly & Yan 2017). What 256 steps leave over is spread in proportion.
    """
    inputs = standardised(row, model.offset, model.scale)[0]
    path = (np.arange(STEPS) + 0.5)[:, None] / STEPS * inputs
    turned = _gradients(model, path[:, model.order] * model.sign, horizon) * model.sign
    slopes = 0.5 * _gradients(model, path, horizon)
    slopes[:, model.order] -= 0.5 * turned
    added = inputs * slopes.mean(axis=0)
    scores = model.scores(row)[0, horizon]
    left = (scores[UP] - scores[DOWN]) - added.sum()
    return np.asarray(added + left * np.abs(added) / max(float(np.abs(added).sum()), 1e-12))


def _gradients(model: NeuralModel, inputs: Float64Array, horizon: int) -> Float64Array:
    """Return the gradient of up minus down at each point (n, F), the mean over the nets."""
    total = np.zeros(inputs.shape)
    nets = len(model.bias_1)
    for net in range(nets):
        is_on_1 = inputs @ model.weights_1[net] + model.bias_1[net]
        first = np.maximum(is_on_1, 0)
        is_on_2 = first @ model.weights_2[net] + model.bias_2[net]
        out = model.weights_3[net][:, 3 * horizon + UP] - model.weights_3[net][:, 3 * horizon + DOWN]
        second = (is_on_2 > 0) * out
        total += ((second @ model.weights_2[net].T) * (is_on_1 > 0)) @ model.weights_1[net].T
    return total / nets
