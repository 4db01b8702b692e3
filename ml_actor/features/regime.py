"""Market regimes: a Gaussian hidden Markov model, filtered forward over the window and nothing else.

hmmlearn fits the parameters and is not needed here. Its `predict` and `predict_proba` condition on the end of the
sequence, so every row but the last sees the future; this filter equals the last row of `predict_proba(prefix)`. It starts
from the stationary distribution at the first row of the look-back, for training and for serving alike. States are ordered
from calm to volatile (mean of the first observation); `match_states` numbers those of a refit as those of the model before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array, Rows

OBSERVED_ROWS: Final = 10
OBSERVATIONS: Final = ("log_variance", "log_spread", "log_events")
"""Of the last 10 rows: ln(0.05 + sum of squared mid changes in ticks), ln(mean spread in ticks), ln(1/2 + mean level changes)."""


@njit(cache=True)
def _observe(i: int, ticks: Any, is_sound: Any, flow: Any, out: Any) -> None:
    bid_ticks, ask_ticks = ticks
    variance, spread, events, count = 0.0, 0.0, 0.0, 0
    for k in range(i - OBSERVED_ROWS + 1, i + 1):
        events += np.float64(flow[k, 5]) + np.float64(flow[k, 6])
        if is_sound[k]:
            spread += np.float64(ask_ticks[k, 0] - bid_ticks[k, 0])
            count += 1
        if k > i - OBSERVED_ROWS + 1 and is_sound[k] and is_sound[k - 1]:
            move = 0.5 * np.float64(bid_ticks[k, 0] - bid_ticks[k - 1, 0] + ask_ticks[k, 0] - ask_ticks[k - 1, 0])
            variance += move * move
    if count > 0:
        out[0] = math.log(0.05 + variance)
        out[1] = math.log(spread / count)
        out[2] = math.log(0.5 + events / OBSERVED_ROWS)


@njit(cache=True)
def _observations(arrays: Any) -> Any:
    segment, bid_ticks, bid_sizes, ask_ticks, ask_sizes, flow = arrays
    n = len(segment)
    out, is_sound, start = np.full((n, 3), np.nan), np.empty(n, np.bool_), 0
    for i in range(n):
        is_sound[i] = bid_sizes[i, 0] > 0 and ask_sizes[i, 0] > 0 and ask_ticks[i, 0] > bid_ticks[i, 0]
        if i > 0 and segment[i] != segment[i - 1]:
            start = i
        if i - start + 1 >= OBSERVED_ROWS:
            _observe(i, (bid_ticks, ask_ticks), is_sound, flow, out[i])
    return out


@njit(cache=True)
def _log_emissions(observations: Any, means: Any, variances: Any) -> Any:
    """Return ln N(x | mean, diagonal variance) per row and state; 0 (no evidence) where a row has no observation."""
    n, (states, columns) = len(observations), means.shape
    out, constants = np.zeros((n, states)), np.zeros(states)
    for state in range(states):
        for column in range(columns):
            constants[state] -= 0.5 * math.log(2.0 * math.pi * variances[state, column])
    for i in range(n):
        if math.isnan(observations[i, 0]):
            continue
        for state in range(states):
            total = 0.0
            for column in range(columns):
                gap = observations[i, column] - means[state, column]
                total += gap * gap / variances[state, column]
            out[i, state] = constants[state] - 0.5 * total
    return out


@njit(cache=True)
def _likelihoods(emissions: Any) -> Any:
    """Return per row exp(emission - largest of the row): the largest is 1, so that a step needs no logarithm."""
    out = np.empty(emissions.shape)
    for row in range(len(emissions)):
        highest = -np.inf
        for state in range(emissions.shape[1]):
            highest = max(highest, emissions[row, state])
        for state in range(emissions.shape[1]):
            out[row, state] = math.exp(emissions[row, state] - highest)
    return out


@njit(cache=True)
def _step(prior: Any, likelihood: Any, emission: Any, posterior: Any) -> None:
    total = 0.0
    for state in range(len(prior)):
        posterior[state] = prior[state] * likelihood[state]
        total += posterior[state]
    if not total > 1e-200:
        total = _step_in_logs(prior, emission, posterior)
    for state in range(len(prior)):
        posterior[state] /= total


@njit(cache=True)
def _step_in_logs(prior: Any, emission: Any, posterior: Any) -> float:
    """Multiply in the log domain and subtract the maximum after the prior: a one-hot prior and an outlier give no NaN."""
    highest = -np.inf
    for state in range(len(prior)):
        posterior[state] = math.log(max(prior[state], 1e-300)) + emission[state]
        highest = max(highest, posterior[state])
    total = 0.0
    for state in range(len(prior)):
        posterior[state] = math.exp(posterior[state] - highest)
        total += posterior[state]
    return total


@njit(cache=True)
def _filter(low: int, t: int, seen: Any, chain: Any, posterior: Any) -> None:
    (emissions, likelihoods), (start, transition) = seen, chain
    states, prior = len(start), start.copy()
    for i in range(low, t + 1):
        if i > low:
            for state in range(states):
                prior[state] = 0.0
                for before in range(states):
                    prior[state] += posterior[before] * transition[before, state]
        _step(prior, likelihoods[i], emissions[i], posterior)


@njit(cache=True)
def _filter_rows(arrays: Any, model: Any, window_rows: int, first: int) -> Any:
    start, transition, means, variances, offset, scale = model
    segment, chain, standardised = arrays[0], (start, transition), _observations(arrays)
    for row in range(len(standardised)):
        for column in range(len(offset)):
            standardised[row, column] = (standardised[row, column] - offset[column]) / scale[column]
    emissions = _log_emissions(standardised, means, variances)
    seen = (emissions, _likelihoods(emissions))
    n, states = len(segment), len(chain[0])
    out, begin = np.full((n - first, states), np.nan), 0
    for t in range(n):
        if t > 0 and segment[t] != segment[t - 1]:
            begin = t
        low = max(begin, t - window_rows + 1) + OBSERVED_ROWS - 1
        if t >= first and low <= t:
            _filter(low, t, seen, chain, out[t - first])
    return out


def observations(rows: Rows) -> Float64Array:
    """Return float64 (n, 3) by `OBSERVATIONS`; NaN in the first 9 rows of a segment. Row i sees rows i-9..i only."""
    return _observations(_arrays(rows))  # type: ignore[no-any-return]


def _arrays(rows: Rows) -> tuple[Any, ...]:
    # Copies, as in the engine: compiled once, for arrays that are writable, aligned and contiguous.
    names = ("segment", "bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes", "flow")
    return tuple(np.array(getattr(rows, name)) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeModel:
    """Fitted parameters, C-contiguous float64.

    `start` (k,) is the stationary distribution, `transition` (k, k), `means` and `variances` (k, 3) are those of
    observations standardised by `offset` and `scale` (3,).
    """

    start: Float64Array
    transition: Float64Array
    means: Float64Array
    variances: Float64Array
    offset: Float64Array
    scale: Float64Array

    def filtered(self, rows: Rows, window_rows: int, first: int = 0) -> Float64Array:
        """Return float64 (n - first, 3): state probabilities of rows `first..n-1`, each filtered over its own look-back.

        NaN where a look-back has fewer than 10 rows.
        """
        return self.filtered_arrays(_arrays(rows), window_rows, first)

    def filtered_arrays(self, arrays: tuple[Any, ...], window_rows: int, first: int = 0) -> Float64Array:
        """Do the same on segment, bid ticks and sizes, ask ticks and sizes, flow: contiguous, aligned, writable."""
        model = (self.start, self.transition, self.means, self.variances, self.offset, self.scale)
        return _filter_rows(arrays, model, window_rows, first)  # type: ignore[no-any-return]

    def distances(self, other: RegimeModel) -> Float64Array:
        """Return (k, k) Bhattacharyya distances of this model's states to the other's, in the units of the observations."""
        means, variances = self.means * self.scale + self.offset, self.variances * self.scale**2
        means_2, variances_2 = other.means * other.scale + other.offset, other.variances * other.scale**2
        mixed = 0.5 * (variances[:, None] + variances_2[None])
        gaps = (means[:, None] - means_2[None]) ** 2 / mixed
        spreads = np.log(mixed / np.sqrt(variances[:, None] * variances_2[None]))
        return np.asarray((0.125 * gaps + 0.5 * spreads).sum(axis=2))

    def reordered(self, order: Sequence[int]) -> RegimeModel:
        """Return the same model with its states numbered in another order."""
        places = list(order)
        moved = {"start": self.start[places], "transition": self.transition[np.ix_(places, places)]}
        moved |= {"means": self.means[places], "variances": self.variances[places]}
        return replace(self, **{name: np.ascontiguousarray(array) for name, array in moved.items()})

    def arrays(self) -> dict[str, Float64Array]:
        """Return what `RegimeModel(**arrays)` takes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def match_states(previous: RegimeModel, new: RegimeModel) -> tuple[RegimeModel, float]:
    """Number the states of `new` as those of `previous` that they are nearest to; return it and the distance of the worst pair.

    The assignment of least total Bhattacharyya distance (Bhattacharyya 1943), by trying all of them: there are few states.
    A regime keeps its number through refits as long as it exists, also when its variance passes that of another one; a
    distance of some 1 or more says that a state is a new one.
    """
    apart = previous.distances(new)
    orders = list(permutations(range(len(new.start))))
    best = min(orders, key=lambda order: float(sum(apart[state, place] for state, place in enumerate(order))))
    return new.reordered(best), float(max(apart[state, place] for state, place in enumerate(best)))


def stationary(transition: Float64Array) -> Float64Array:
    """Return the stationary distribution of an irreducible chain: the solution of pi P = pi with sum 1."""
    states = len(transition)
    equations = np.vstack([transition.T - np.eye(states), np.ones(states)])
    solution = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    return np.ascontiguousarray(np.clip(solution, 1e-12, None) / np.clip(solution, 1e-12, None).sum())
