"""When a prediction is worth a trade: expected value after costs, beside the fixed confidence threshold.

A taker who buys now and sells at the horizon pays the spread once and the fee twice. The expected move is
p_up x (mean size of a rise) - p_down x (mean size of a fall); what is left of it after costs decides, not how sure the
direction is: a large-tick market has many sure predictions of moves that do not pay for the spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from framework.window import Float64Array, Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSizes:
    """Mean absolute move in ticks given that the mid rose, and given that it fell, within the horizon."""

    rise_ticks: float
    fall_ticks: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What trading would be worth, in ticks a lot after costs: `side` +1 buys, -1 sells, 0 abstains (then `value_ticks` <= 0)."""

    side: int
    value_ticks: float


def fit_move_sizes(moves_half_ticks: Int64Array, threshold_half_ticks: float = 0.0) -> MoveSizes:
    """Return mean sizes of rises and falls beyond the threshold on training rows, both directions alike; 0 if none moved."""
    sizes = np.abs(moves_half_ticks)[np.abs(moves_half_ticks) > threshold_half_ticks]
    mean = float(sizes.mean()) / 2 if len(sizes) else 0.0
    return MoveSizes(rise_ticks=mean, fall_ticks=mean)


def edge(p_down: float, p_up: float, sizes: MoveSizes, *, spread_ticks: float, fee_ticks: float, margin_ticks: float = 0.0) -> Edge:
    """Return the better side if its expected value after spread and both fees exceeds `margin_ticks`, else abstain.

    Raises `ValueError` for probabilities that are none, and for a negative spread; a fee below 0 is a rebate.
    """
    if not (0 <= p_down <= 1 and 0 <= p_up <= 1 and p_down + p_up <= 1 + 1e-9):
        raise ValueError(f"p_down {p_down} and p_up {p_up} are no probabilities of one prediction")
    if not spread_ticks >= 0:
        raise ValueError(f"spread_ticks is {spread_ticks}, must be 0 or more")
    move = p_up * sizes.rise_ticks - p_down * sizes.fall_ticks
    value = abs(move) - spread_ticks - 2 * fee_ticks
    if value <= margin_ticks or move == 0:
        return Edge(side=0, value_ticks=min(value, 0.0))
    return Edge(side=1 if move > 0 else -1, value_ticks=value)


def edges(probabilities: Float64Array, sizes: MoveSizes, *, spread_ticks: Float64Array, fee_ticks: float) -> Float64Array:
    """Return per row of (n, 3) the expected value in ticks after costs, signed by the side; 0 where one abstains."""
    moves = probabilities[:, 2] * sizes.rise_ticks - probabilities[:, 0] * sizes.fall_ticks
    return np.sign(moves) * np.maximum(0.0, np.abs(moves) - spread_ticks - 2 * fee_ticks)
