"""The queue models of `framework.venues.queue_models`, compiled: where one order stands, on its row of numbers."""

from __future__ import annotations

import math
from typing import Final

from numba import njit

from framework.window import Int64Array

SIDE, PRICE, LEFT, MOVED_UP, MOVED_NS, SHOWN, TRADED = range(7)
"""Columns of an order: side (+1 buys), limit in ticks, lots left; then what the queue models keep (SHOWN -1: never in view)."""
RISK_AVERSE, POWER, POWER_2, POWER_3, LOG, LOG_2 = range(6)
MODELS: Final = {"risk_averse": RISK_AVERSE, "power": POWER, "power_2": POWER_2, "power_3": POWER_3, "log": LOG, "log_2": LOG_2}
UNSEEN: Final = -1


@njit(cache=True)
def _share(model: int, power: float, ahead: float, behind: float) -> float:
    """Return the share of a decrease that left behind us (`queue_models`: the probability models)."""
    if model == POWER_3:
        return 1.0 - math.pow(max(ahead / (ahead + behind), 0.0), power) if ahead + behind > 0 else 1.0
    if model in (LOG, LOG_2):
        of_behind = math.log1p(max(behind, 0.0))
        total = of_behind + math.log1p(max(ahead, 0.0)) if model == LOG else math.log1p(max(behind + ahead, 0.0))
    else:
        of_behind = math.pow(max(behind, 0.0), power)
        total = of_behind + math.pow(max(ahead, 0.0), power) if model == POWER else math.pow(max(behind + ahead, 0.0), power)
    return of_behind / total if total > 0 else 1.0


@njit(cache=True)
def see(order: Int64Array, ahead: float, shown: int, now_ns: int, model: int, power: float) -> float:
    """Show the size displayed at its price to an order; return its place."""
    if model == RISK_AVERSE:
        if now_ns > order[MOVED_NS]:
            order[MOVED_UP], order[MOVED_NS] = 0, now_ns
        if math.isnan(ahead):
            return float(shown)
        if shown < ahead:
            order[MOVED_UP] += int(ahead) - shown
            return float(shown)
        return ahead
    before = order[SHOWN]
    if math.isnan(ahead) or before == UNSEEN:
        order[SHOWN] = shown
        return float(shown)
    if shown == before:
        return ahead
    decrease, order[TRADED], order[SHOWN] = before - shown - order[TRADED], 0, shown
    if decrease > 0:
        behind = before - ahead
        share = _share(model, power, ahead, behind)
        ahead += min(behind - share * decrease, 0.0) - (1.0 - share) * decrease
    return max(0.0, min(ahead, float(shown)))


@njit(cache=True)
def passing(order: Int64Array, ahead: float, size: int, now_ns: int, model: int) -> tuple[float, int]:
    """Let lots trade at an order's price; return its new place and how many lots pass everybody before it."""
    if math.isnan(ahead):
        return ahead, 0
    if model == RISK_AVERSE:
        if now_ns <= order[MOVED_NS]:
            known = min(order[MOVED_UP], size)
            order[MOVED_UP] -= known
            size -= known
        passed = min(int(ahead), size)
        return ahead - passed, size - passed
    order[TRADED] += size
    return max(0.0, ahead - size), max(0, math.floor(size - ahead + 0.5))
