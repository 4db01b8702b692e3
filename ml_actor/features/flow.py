"""Features of the order flow: imbalances, trades, additions and cancellations, intensities, volume clock."""

from __future__ import annotations

import math

from ml_actor.features.book import At, put
from ml_actor.features.series import (
    ADD_ASK,
    ADD_BID,
    ALL,
    ASK_EVENTS,
    BASE,
    BID_EVENTS,
    BOUGHT,
    BUYS,
    CLOCK_HALF_LIVES_S,
    DECAY,
    GONE_ASK,
    GONE_BID,
    H3,
    H10,
    NAN,
    OFI_1,
    OFI_2,
    OFI_3,
    OFI_5,
    SELLS,
    SOLD,
    UNKNOWN,
    WINDOWS,
    Array,
    balance,
    inner,
    ln,
    ratio,
)

_CLOCKS = len(CLOCK_HALF_LIVES_S)
_BUCKETS = 10
_SHORT_S, _LONG_S = CLOCK_HALF_LIVES_S[0] / math.log(2.0), CLOCK_HALF_LIVES_S[-1] / math.log(2.0)


@inner
def _flows(at: At, out: Array, place: int) -> int:
    """Six imbalances under five weights: order flow of levels 1, 2, 3 and 1-5, additions, cancellations; then trades, share and balance."""
    known = at.known
    for window in range(WINDOWS):
        mean = at.sums.means[window]
        out[place + window] = ratio(mean[OFI_1], at.depth_1)
        out[place + 5 + window] = ratio(mean[OFI_2], at.depth_1)
        out[place + 10 + window] = ratio(mean[OFI_3], at.depth_1)
        out[place + 15 + window] = ratio(mean[OFI_5], at.depth_5)
        out[place + 20 + window] = ratio(mean[ADD_BID] - mean[ADD_ASK], at.depth_1) * known
        out[place + 25 + window] = ratio(mean[GONE_ASK] - mean[GONE_BID], at.depth_1) * known
        out[place + 30 + window] = ratio(mean[BOUGHT] - mean[SOLD], at.depth_1) * known
        out[place + 35 + window] = balance(mean[BOUGHT], mean[SOLD]) * known
        out[place + 40 + window] = balance(mean[BID_EVENTS], mean[ASK_EVENTS])
    return place + 45


@inner
def _volume(mean: Array) -> float:
    return float(mean[BOUGHT] + mean[SOLD] + mean[UNKNOWN])


@inner
def _activity(at: At, out: Array, place: int) -> int:
    fast, recent, slow = at.sums.means[H3], at.sums.means[H10], at.sums.means[ALL]
    dust = 0.01 * at.depth_1
    added, gone = recent[ADD_BID] + recent[ADD_ASK], recent[GONE_BID] + recent[GONE_ASK]
    volume, volume_fast, volume_slow = _volume(recent), _volume(fast), _volume(slow)
    values = (
        balance(recent[BUYS], recent[SELLS]) * at.known,
        balance(slow[BUYS], slow[SELLS]) * at.known,
        ln(fast[BID_EVENTS] + fast[ASK_EVENTS]) - ln(slow[BID_EVENTS] + slow[ASK_EVENTS]),
        (ln(volume_fast + dust) - ln(volume_slow + dust)) * at.known,
        ratio(volume, at.depth_1) * at.known,
        ratio(gone, gone + added) * at.known,
        ratio(volume, volume + gone) * at.known,
        ln(added + dust) - ln(gone + dust),
    )
    return put(out, place, values)


@inner
def _intensities(at: At, out: Array, place: int) -> int:
    """Hawkes intensities without base rate: R <- R 2^(-seconds / half-life) + events, over the look-back (Bacry & Muzy 2014)."""
    rates, columns = at.sums.rates, at.series.columns
    rates[:] = 0.0
    for i in range(at.low, at.t + 1):
        for clock in range(_CLOCKS):
            decay = columns[i, DECAY + clock]
            rates[0, clock] = rates[0, clock] * decay + columns[i, BUYS]
            rates[1, clock] = rates[1, clock] * decay + columns[i, SELLS]
            rates[2, clock] = rates[2, clock] * decay + columns[i, BID_EVENTS]
            rates[3, clock] = rates[3, clock] * decay + columns[i, ASK_EVENTS]
    for clock in range(_CLOCKS):
        buy, sell, bid, ask = rates[0, clock], rates[1, clock], rates[2, clock], rates[3, clock]
        out[place + clock] = (buy - sell) / (buy + sell + 1.0) * at.known
        out[place + _CLOCKS + clock] = (bid - ask) / (bid + ask + 1.0)
        rates[0, clock], rates[2, clock] = buy + sell, bid + ask
    place = put(out, place + 2 * _CLOCKS, (_burst(rates[0, 0], rates[0, 2]) * at.known, _burst(rates[2, 0], rates[2, 2])))
    return put(out, place, (ln(rates[0, 2] / _LONG_S + 0.01) * at.known, ln(rates[2, 2] / _LONG_S + 0.01)))


@inner
def _burst(short: float, long: float) -> float:
    return ln((short + 0.1) / _SHORT_S) - ln((long + 0.1) / _LONG_S)


@inner
def _vpin(at: At) -> float:
    """Return sum of |bought - sold| over ten buckets of equal volume / volume, by the aggressor flags of the feed."""
    columns, base = at.series.columns, at.sums.means[BASE]
    bucket = (base[BOUGHT] + base[SOLD]) * (at.t - at.low + 1) / _BUCKETS
    if not bucket > 0.0 or at.t - at.low + 1 < 20:
        return NAN
    signed, filled, total = 0.0, 0.0, 0.0
    for i in range(at.low, at.t + 1):
        volume, flow = columns[i, BOUGHT] + columns[i, SOLD], columns[i, BOUGHT] - columns[i, SOLD]
        while volume >= bucket - filled and volume > 0.0:
            share = flow * ((bucket - filled) / volume)
            total += abs(signed + share)
            volume, flow = volume - (bucket - filled), flow - share
            signed, filled = 0.0, 0.0
        signed, filled = signed + flow, filled + volume
    return float(min(1.0, (total + abs(signed)) / (bucket * _BUCKETS)))


@inner
def flow_features(at: At, out: Array, place: int) -> int:
    """Write the features of the groups `flow` and `intensity` from `place` on; return the next place."""
    place = _flows(at, out, place)
    place = _activity(at, out, place)
    out[place] = _vpin(at) * at.known
    return _intensities(at, out, place + 1)
