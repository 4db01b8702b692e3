"""Training of the small nets: Adam with decoupled weight decay on numpy, all horizons at once, half of each batch mirrored.

Seeded and single-threaded: the same rows and seed give the same bytes on one machine. A label that is not known (-1)
weighs nothing. Sources: Kingma & Ba 2015 (Adam); Loshchilov & Hutter 2019 (decoupled decay, cosine); Srivastava et al.
2014 (dropout).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float32Array, Float64Array, Int64Array
from ml_actor.features.catalogue import ALL_NAMES, mirrored
from ml_actor.fitting import FitRefused, moments
from ml_actor.neural import NeuralModel
from ml_actor.scaling import standardised

_WARM_UP_STEPS: Final = 50
_PARITY_TOLERANCE: Final = 1e-3
_LAYERS: Final = ("weights_1", "bias_1", "weights_2", "bias_2", "weights_3", "bias_3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a net is trained; the defaults were chosen by fitting one day of rebar futures and scoring another."""

    hidden: tuple[int, int] = (64, 32)
    dropout: float = 0.2
    input_dropout: float = 0.0
    decay: float = 1.0
    learning_rate: float = 2e-3
    epochs: int = 8
    batch_rows: int = 512
    nets: int = 3


def fit_neural(
    features: Float64Array,
    classes: Int64Array,
    mirror: tuple[Int64Array, Float64Array],
    *,
    weights: Float64Array,
    seed: int,
    recipe: Recipe,
    start: NeuralModel | None = None,
) -> NeuralModel:
    """Fit `recipe.nets` nets on features (n, F), classes (n, H) in 0..2 or -1, weights (n,); `mirror` is (order, sign).

    With `start` its nets go on from where they stand, in its standard deviations. Raises `FitRefused` when the served
    form does not give what was trained.
    """
    order, sign = mirror
    offset, scale = (start.offset, start.scale) if start else moments(np.concatenate([features, features[:, order] * sign]))
    inputs = standardised(features, offset, scale).astype(np.float32)
    shown = _Shown(inputs, classes, weights.astype(np.float32), order, sign.astype(np.float32))
    nets = [_fit_net(shown, recipe, start, seed, number) for number in range(recipe.nets)]
    stacked = [np.ascontiguousarray(np.stack(parts)) for parts in zip(*nets, strict=True)]
    model = NeuralModel(
        offset=offset, scale=scale, order=order.astype(np.int64), sign=shown.sign, **dict(zip(_LAYERS, stacked, strict=True))
    )
    _check(model, features[:: max(1, len(features) // 200)], shown, nets)
    return model


def signed_exchange() -> tuple[Int64Array, Float64Array]:
    """Return (order, sign) of all features: mirrored features are `features[:, order] * sign`."""
    exchanged = mirrored(np.arange(1.0, len(ALL_NAMES) + 1)[None, :])[0]
    return np.abs(exchanged).astype(np.int64) - 1, np.sign(exchanged)


@dataclass(frozen=True, slots=True)
class _Shown:
    inputs: Float32Array
    classes: Int64Array
    weights: Float32Array
    order: Int64Array
    sign: Float32Array

    def batch(self, rows: Int64Array) -> tuple[Float32Array, Int64Array, Float32Array]:
        """Return inputs, classes and weights of a batch whose later half is mirrored."""
        half = len(rows) // 2
        plain, turned = self.inputs[rows[:half]], self.inputs[rows[half:]][:, self.order] * self.sign
        labels = self.classes[rows]
        mirrored = np.where(labels[half:] >= 0, 2 - labels[half:], -1)
        return np.concatenate([plain, turned]), np.concatenate([labels[:half], mirrored]), self.weights[rows]


def _fit_net(shown: _Shown, recipe: Recipe, start: NeuralModel | None, seed: int, number: int) -> list[Float32Array]:
    rng = np.random.default_rng((seed, number))
    layers = [getattr(start, name)[number].copy() for name in _LAYERS] if start else _initial(shown, recipe, rng)
    return _train(shown, recipe, layers, rng)


def _train(shown: _Shown, recipe: Recipe, layers: list[Float32Array], rng: np.random.Generator) -> list[Float32Array]:
    means, squares = [np.zeros_like(part) for part in layers], [np.zeros_like(part) for part in layers]
    batches = max(1, len(shown.inputs) // recipe.batch_rows)
    steps = recipe.epochs * batches
    for epoch in range(recipe.epochs):
        shuffled = rng.permutation(len(shown.inputs))
        for number in range(batches):
            step = epoch * batches + number + 1
            rate = recipe.learning_rate * min(1.0, step / _WARM_UP_STEPS) * 0.5 * (1 + np.cos(np.pi * step / steps))
            rows = shuffled[number * recipe.batch_rows : (number + 1) * recipe.batch_rows]
            gradients = _gradients(layers, shown.batch(rows), recipe, rng)
            _step(layers, gradients, (means, squares), step, (float(rate), recipe.decay))
    return layers


def _initial(shown: _Shown, recipe: Recipe, rng: np.random.Generator) -> list[Float32Array]:
    sizes = (shown.inputs.shape[1], *recipe.hidden, 3 * shown.classes.shape[1])
    layers: list[Float32Array] = []
    for number, (inward, outward) in enumerate(itertools.pairwise(sizes)):
        spread = np.sqrt(2 / inward) * (0.1 if number == 2 else 1.0)
        layers += [(rng.normal(size=(inward, outward)) * spread).astype(np.float32), np.zeros(outward, np.float32)]
    layers[-1] = np.concatenate([_prior(column) for column in shown.classes.T]).astype(np.float32)
    return layers


def _prior(classes: Int64Array) -> Float64Array:
    """Return the log of the shares of the classes, up and down alike."""
    counts = np.bincount(classes[classes >= 0], minlength=3) + 1.0
    moved = (counts[0] + counts[2]) / 2
    shares = np.array([moved, counts[1], moved])
    return np.asarray(np.log(shares / shares.sum()))


def _gradients(layers: list[Float32Array], batch: Any, recipe: Recipe, rng: np.random.Generator) -> list[Float32Array]:
    inputs, classes, weights = batch
    dropout = recipe.dropout
    if recipe.input_dropout:
        inputs = inputs * _kept(inputs.shape, recipe.input_dropout, rng)
    first, is_on_1 = _hidden(inputs, layers[0], layers[1], dropout, rng)
    second, is_on_2 = _hidden(first, layers[2], layers[3], dropout, rng)
    error = _output_error(second @ layers[4] + layers[5], classes, weights)
    error_2 = (error @ layers[4].T) * is_on_2
    error_1 = (error_2 @ layers[2].T) * is_on_1
    return [inputs.T @ error_1, error_1.sum(axis=0), first.T @ error_2, error_2.sum(axis=0), second.T @ error, error.sum(axis=0)]


def _hidden(inputs: Float32Array, weights: Float32Array, bias: Float32Array, dropout: float, rng: np.random.Generator) -> Any:
    """Return the activations of a hidden layer after dropout, and what a gradient on them is multiplied with."""
    sums = inputs @ weights + bias
    kept = _kept(sums.shape, dropout, rng) * (sums > 0)
    return sums * kept, kept


def _kept(shape: Any, dropout: float, rng: np.random.Generator) -> Float32Array:
    return np.asarray((rng.random(shape, dtype=np.float32) >= dropout) * np.float32(1 / (1 - dropout)))


def _output_error(scores: Float32Array, classes: Int64Array, weights: Float32Array) -> Float32Array:
    """Return the gradient of the sum over horizons of the mean cross-entropy (softmax minus what happened)."""
    by_horizon = scores.reshape(len(scores), -1, 3)
    shifted = np.exp(by_horizon - by_horizon.max(axis=2, keepdims=True))
    error = shifted / shifted.sum(axis=2, keepdims=True)
    rows, horizons = np.nonzero(classes >= 0)
    error[rows, horizons, classes[rows, horizons]] -= 1
    counted = weights[:, None] * (classes >= 0)
    error *= (counted / np.maximum(counted.sum(axis=0), 1e-6))[:, :, None].astype(np.float32)
    return np.asarray(error.reshape(scores.shape))


def _step(layers: list[Float32Array], gradients: list[Float32Array], moving: Any, step: int, rates: tuple[float, float]) -> None:
    """Take one step of Adam in place, with weight decay on weights and none on biases."""
    rate, decay = rates
    for number, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        mean, square = moving[0][number], moving[1][number]
        mean += np.float32(0.1) * (gradient - mean)
        square += np.float32(0.001) * (gradient * gradient - square)
        update = (mean / np.float32(1 - 0.9**step)) / (np.sqrt(square / np.float32(1 - 0.999**step)) + np.float32(1e-8))
        if layer.ndim == 2:
            update += np.float32(decay) * layer
        layer -= np.float32(rate) * update


def _check(model: NeuralModel, sample: Float64Array, shown: _Shown, nets: Sequence[list[Float32Array]]) -> None:
    inputs = standardised(sample, model.offset, model.scale).astype(np.float32)
    expected = np.zeros((len(sample), shown.classes.shape[1], 3))
    for layers in nets:
        expected += _forward(inputs, layers) + _forward(inputs[:, shown.order] * shown.sign, layers)[:, :, ::-1]
    difference = float(np.abs(model.scores(sample) - expected / (2 * len(nets))).max())
    if not difference <= _PARITY_TOLERANCE:
        raise FitRefused(f"neural: the served form differs from the fitted model by {difference:.3g}")


def _forward(inputs: Float32Array, layers: list[Float32Array]) -> Float64Array:
    first = np.maximum(inputs @ layers[0] + layers[1], 0)
    second = np.maximum(first @ layers[2] + layers[3], 0)
    return np.asarray((second @ layers[4] + layers[5]).reshape(len(inputs), -1, 3), np.float64)
