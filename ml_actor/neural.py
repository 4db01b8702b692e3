"""Small neural nets as they serve: plain arrays and one compiled pass, symmetric in bid and ask by construction.

Several nets of one shape (they differ in their seed) see a row and its mirror image; their log-odds are averaged, with up
and down of the mirror image exchanged. Mirroring an input is a change of order and sign, so it costs no features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit

from framework.window import Float32Array, Float64Array, Int64Array
from ml_actor.scaling import standardised


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralModel:
    """`nets` nets with two hidden layers of rectified units and three numbers (down, flat, up) a horizon.

    `offset`, `scale` (F,) standardise; `order`, `sign` (F,) mirror standardised inputs; weights float32 (nets, in, out) and
    biases (nets, out), C-contiguous.
    """

    offset: Float64Array
    scale: Float64Array
    order: Int64Array
    sign: Float32Array
    weights_1: Float32Array
    bias_1: Float32Array
    weights_2: Float32Array
    bias_2: Float32Array
    weights_3: Float32Array
    bias_3: Float32Array

    def scores(self, features: Float64Array) -> Float64Array:
        """Return (n, horizons, 3) log-odds up to a constant per row and horizon; NaN inputs count as their mean."""
        inputs = standardised(features, self.offset, self.scale).astype(np.float32)
        layers = (self.weights_1, self.bias_1, self.weights_2, self.bias_2, self.weights_3, self.bias_3)
        out: Float64Array = _scores(inputs, (self.order, self.sign), layers)
        return out

    def arrays(self) -> dict[str, Any]:
        """Return what `NeuralModel(**arrays)` takes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@njit(cache=True)
def _affine(values: Any, weights: Any, bias: Any, out: Any) -> None:
    # The inner loop runs over the outputs, one addition each: it vectorises without changing the order of any sum.
    for column in range(len(out)):
        out[column] = bias[column]
    for row in range(len(values)):
        value = values[row]
        if value != 0.0:
            for column in range(len(out)):
                out[column] += value * weights[row, column]


@njit(cache=True)
def _rectify(values: Any) -> None:
    for column in range(len(values)):
        values[column] = max(values[column], np.float32(0.0))


@njit(cache=True)
def _net(values: Any, layers: Any, net: int, hidden: Any, out: Any) -> None:
    first, second = hidden
    _affine(values, layers[0][net], layers[1][net], first)
    _rectify(first)
    _affine(first, layers[2][net], layers[3][net], second)
    _rectify(second)
    _affine(second, layers[4][net], layers[5][net], out)


@njit(cache=True)
def _scores(inputs: Any, mirror: Any, layers: Any) -> Any:
    order, sign = mirror
    nets, outputs = layers[5].shape
    mirrored, out = np.empty(inputs.shape[1], np.float32), np.empty(outputs, np.float32)
    hidden = (np.empty(layers[1].shape[1], np.float32), np.empty(layers[3].shape[1], np.float32))
    sums = np.zeros((len(inputs), outputs // 3, 3))
    for row in range(len(inputs)):
        for column in range(len(order)):
            mirrored[column] = inputs[row, order[column]] * sign[column]
        for net in range(nets):
            _net(inputs[row], layers, net, hidden, out)
            for column in range(outputs):
                sums[row, column // 3, column % 3] += out[column]
            _net(mirrored, layers, net, hidden, out)
            for column in range(outputs):
                sums[row, column // 3, 2 - column % 3] += out[column]
        for horizon in range(outputs // 3):
            for label in range(3):
                sums[row, horizon, label] /= 2 * nets
    return sums
