"""Checks of a strategy: whatever the market does after an instant, what it did up to that instant must stay the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import msgspec

from framework.config import MainConfig, SimulatedMarketConfig
from framework.errors import ConfigError
from framework.leak_job import Finding, Verdict
from framework.market.feed import arrival_ns
from framework.messages import DecisionMade, MarketEvent, SubmitOrder
from framework.model import NS_PER_S, Instrument
from framework.operations.deployments import Deployment
from framework.research.leaks.futures import WEEKS_NS, later, permuted, until
from framework.research.leaks.replay import Act, Rig, Trace
from framework.venues.simulated import generate_history
from framework.venues.simulated_tape import INSTRUMENT

CUTS: Final = 10
AFTER_CUT_S: Final = 2.0
HORIZONS_S: Final = (1, 5, 30)
BLOCK_S: Final = 60
MIN_BLOCKS: Final = 10
FALSE_ALARM: Final = 1e-3
SIMULATED_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Events in order of arrival, and what they are about."""

    events: Sequence[MarketEvent]
    instruments: tuple[Instrument, ...]
    title: str


def simulated(instrument_id: str, *, seed: int, strength: float, duration_s: float | None = None) -> Market:
    """Return a recording of the simulated market, under the name of the strategy's instrument."""
    settings, duration_s = SimulatedMarketConfig(signal_strength=strength), duration_s or SIMULATED_S
    events = [
        msgspec.structs.replace(event, instrument_id=instrument_id)
        for event in generate_history(settings, seed=seed, duration_s=duration_s)
    ]
    title = f"simulated market, signal {strength:g}, {duration_s:g} s"
    return Market(events=events, instruments=(msgspec.structs.replace(INSTRUMENT, instrument_id=instrument_id),), title=title)


def check_strategy(deployment: Deployment, main: MainConfig, market: Market, *, seed: int, seeds: int) -> Iterator[Finding]:
    """Yield the findings about one strategy. Blocks for some seconds per minute of busy market.

    Raises `ConfigError` if the market does not have its instrument, or if it raises on the unchanged events.
    """
    file = deployment.file
    if file.instrument_id not in {one.instrument_id for one in market.instruments}:
        there = ", ".join(one.instrument_id for one in market.instruments)
        raise ConfigError(f"strategy {file.name}: instrument {file.instrument_id} is not in this market; it has {there}")
    with _silence():
        checker = _Checker(deployment, main, market, seed)
        yield checker.future("truncate the future", "are taken away", lambda cut_ns: until(market.events, cut_ns))
        yield checker.future(
            "permute the future",
            "are permuted and turned upside down",
            lambda cut_ns: permuted(market.events, cut_ns, seed=seed),
        )
        yield checker.dates()
        yield _martingale(deployment, main, seed=seed, seeds=seeds)


class _Checker:
    """Replays one strategy over variations of one market."""

    def __init__(self, deployment: Deployment, main: MainConfig, market: Market, seed: int) -> None:
        self._deployment = deployment
        self._main = main
        self._market = market
        self.title = f"strategy {deployment.file.name}"
        self.end_ns = arrival_ns(market.events[-1])
        self.base = self._run(market.events, self.end_ns)
        if self.base.fault:
            raise ConfigError(f"{self.title} raises on the unchanged market: {self.base.fault}")
        self.cuts = self._cuts(seed)

    def _run(self, events: Sequence[MarketEvent], until_ns: int) -> Trace:
        return Rig(self._deployment, self._main, self._market.instruments, events).run(until_ns)

    def _cuts(self, seed: int) -> list[int]:
        """Return instants to cut at: where the strategy acted, since that is where a look at the future shows."""
        times = sorted({act.ts_event for act in self.base.acts})
        if len(times) < CUTS:
            first_ns = arrival_ns(self._market.events[0])
            times += [first_ns + (self.end_ns - first_ns) * (part + 1) // (CUTS + 1) for part in range(CUTS)]
        step = max(1, len(times) // CUTS)
        return sorted(times)[seed % step :: step][:CUTS]

    def future(self, check: str, what: str, change: Any) -> Finding:
        """Compare what was done up to each cut with what is done when the future is another one."""
        compared = 0
        for cut_ns in self.cuts:
            before = [act for act in self.base.acts if act.ts_event <= cut_ns]
            trace = self._run(change(cut_ns), cut_ns + round(AFTER_CUT_S * NS_PER_S))
            after = [act for act in trace.acts if act.ts_event <= cut_ns]
            compared += len(before)
            difference = _difference(before, after, 0)
            if difference is not None:
                detail = f"when the events after {_ago(cut_ns)} {what}: {difference.words}"
                return Finding(subject=self.title, check=check, verdict=Verdict.LEAK, names=difference.names, detail=detail)
        return self._same(check, f"orders, cancels and decisions up to {len(self.cuts)} cuts stay when the events after {what}", compared)

    def dates(self) -> Finding:
        """Compare with the same market three weeks later."""
        check = "move the dates"
        trace = self._run(later(self._market.events), self.end_ns + WEEKS_NS)
        if trace.fault:
            detail = f"three weeks later it raises: {trace.fault}"
            return Finding(subject=self.title, check=check, verdict=Verdict.LEAK, detail=detail)
        difference = _difference(self.base.acts, trace.acts, WEEKS_NS)
        if difference is not None:
            detail = f"in the same market three weeks later: {difference.words}; it knows this market by its dates or numbers"
            return Finding(subject=self.title, check=check, verdict=Verdict.LEAK, names=difference.names, detail=detail)
        return self._same(
            check, "the same market three weeks later, with other sequence numbers, brings the same acts", len(self.base.acts)
        )

    def _same(self, check: str, words: str, compared: int) -> Finding:
        if not self.base.acts:
            detail = f"it did nothing in {self._market.title}; name recordings with --data in which it acts"
            return Finding(subject=self.title, check=check, verdict=Verdict.SKIPPED, detail=detail)
        return Finding(
            subject=self.title,
            check=check,
            verdict=Verdict.OK,
            detail=f"{words} ({compared} compared)",
            numbers={"compared": float(compared)},
        )


# --- comparing ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Difference:
    names: tuple[str, ...]
    words: str


def _difference(before: Sequence[Act], after: Sequence[Act], shift_ns: int) -> _Difference | None:
    """Return the first act that differs, in words; `after` happens `shift_ns` later."""
    for number, (one, other) in enumerate(zip(before, after, strict=False)):
        if _facts(one, 0) != _facts(other, shift_ns):
            return _Difference((_name(one),), f"act {number + 1} was {_words(one)}, and is now {_words(other)}")
    if len(before) == len(after):
        return None
    extra, verb = (before[len(after)], "is no longer done") if len(before) > len(after) else (after[len(before)], "is done now")
    return _Difference((_name(extra),), f"{_words(extra)} {verb}")


def _facts(act: Act, shift_ns: int) -> tuple[object, ...]:
    """Return what must be the same: everything but the book of a decision, whose numbers may be moved."""
    message = act.message
    if isinstance(message, DecisionMade):
        ids = (message.decision_id, message.prediction_id, message.client_order_ids)
        return (act.what, act.ts_event - shift_ns, message.action, message.reason, message.confidence, message.position_lots, *ids)
    if isinstance(message, SubmitOrder):
        as_of_ns = None if message.as_of_ns is None else message.as_of_ns - shift_ns
        return (act.what, msgspec.structs.replace(message, ts_event=message.ts_event - shift_ns, as_of_ns=as_of_ns))
    return (act.what, act.ts_event - shift_ns, getattr(message, "client_order_id", ""))


def _name(act: Act) -> str:
    message = act.message
    return message.decision_id if isinstance(message, DecisionMade) else str(getattr(message, "client_order_id", ""))


def _words(act: Act) -> str:
    message = act.message
    if isinstance(message, SubmitOrder):
        limit = "at market" if message.limit_ticks is None else f"at {message.limit_ticks} ticks"
        return f"order {message.client_order_id}: {message.side} {message.quantity} {limit}"
    if isinstance(message, DecisionMade):
        return f"decision {message.decision_id}: {message.action} ({message.reason})"
    return f"cancel of {_name(act)}"


def _ago(cut_ns: int) -> str:
    return f"{cut_ns / NS_PER_S:.3f} s"


# --- a market in which nothing can be known -------------------------------------------------------------------------------------


def _martingale(deployment: Deployment, main: MainConfig, *, seed: int, seeds: int) -> Finding:
    """Where the mid is a martingale, no order may be followed by moves in its favour, at no horizon."""
    title, check = f"strategy {deployment.file.name}", "no skill on a martingale"
    moves: dict[int, list[tuple[int, float]]] = {horizon_s: [] for horizon_s in HORIZONS_S}
    for number in range(seeds):
        market = simulated(deployment.file.instrument_id, seed=seed + number, strength=0.0)
        trace = Rig(deployment, main, market.instruments, market.events).run(arrival_ns(market.events[-1]))
        if trace.fault:
            return Finding(subject=title, check=check, verdict=Verdict.SKIPPED, detail=f"it raises: {trace.fault}")
        for horizon_s, found in moves.items():
            found += [(number * 10**9 + block, move) for block, move in _moves_after(trace, horizon_s)]
    return _judge_moves(title, check, moves, seeds)


def _moves_after(trace: Trace, horizon_s: int) -> Iterator[tuple[int, float]]:
    """Yield per order its block of time and the move of the mid after it, in ticks, positive in its favour."""
    times = [ts_event for ts_event, _ in trace.mids]
    if not times:
        return
    place = 0
    for act in trace.acts:
        due_ns = act.ts_event + horizon_s * NS_PER_S
        if not isinstance(act.message, SubmitOrder) or act.mid_ticks is None or due_ns > times[-1]:
            continue
        while place + 1 < len(times) and times[place + 1] <= due_ns:
            place += 1
        yield act.ts_event // (BLOCK_S * NS_PER_S), act.message.side.sign * (trace.mids[place][1] - act.mid_ticks)


def _judge_moves(title: str, check: str, moves: dict[int, list[tuple[int, float]]], seeds: int) -> Finding:
    limit = NormalDist().inv_cdf(1 - FALSE_ALARM / len(moves))
    words, numbers, is_leak = [], {"seeds": float(seeds)}, False
    for horizon_s, found in moves.items():
        blocks = {block for block, _ in found}
        if len(blocks) < MIN_BLOCKS:
            detail = f"it sent {len(found)} orders in {len(blocks)} blocks of {BLOCK_S} s; {MIN_BLOCKS} blocks are needed to say anything"
            return Finding(subject=title, check=check, verdict=Verdict.SKIPPED, detail=detail)
        mean, error = _mean_by_blocks(found)
        numbers |= {f"move_{horizon_s}s": mean, f"error_{horizon_s}s": error, "orders": float(len(found))}
        words.append(f"{horizon_s} s: {mean:+.3f} +- {error:.3f}")
        is_leak |= mean > limit * error
    detail = f"moves in favour of its {len(moves[HORIZONS_S[0]])} orders, ticks: {', '.join(words)}; {seeds} seeds"
    return Finding(subject=title, check=check, verdict=Verdict.LEAK if is_leak else Verdict.OK, detail=detail, numbers=numbers)


def _mean_by_blocks(found: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return the mean and its standard error with whole blocks as the independent units (cluster-robust, Liang & Zeger 1986)."""
    mean = sum(move for _, move in found) / len(found)
    sums: dict[int, float] = {}
    for block, move in found:
        sums[block] = sums.get(block, 0.0) + move - mean
    correction = len(sums) / max(1, len(sums) - 1)
    return mean, math.sqrt(correction * sum(one * one for one in sums.values())) / len(found)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what strategies log about invented markets away from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
