"""What the simulated market is like: speed, stylised facts, signal, and what traders make of it. Prints one JSON object.

    python -m tests.benchmarks.bench_simulated_market [--duration 4000] [--seeds 3]

Everything is drawn from fixed seeds: all but the speed is the same on every run. Money is in ticks per lot (1 tick = 12.50 USD).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import lightgbm
import numpy as np

from framework.clock import EventClock
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SubmitOrder, TradeTick
from framework.model import NS_PER_S, OrderType, Side, TimeInForce
from framework.venues.simulated import DEFAULT_START_NS, START_MID_TICKS, SimulatedMarket, generate_history
from framework.venues.simulated_intents import REGIMES
from framework.venues.simulated_tape import INSTRUMENT, Tape
from tests.venues.market_facts import SIGNALS, area_under_curve, fitted_weights, pooled, rows_of, sample_of

TARGET_SPEED = 100.0
STRENGTHS = (0.0, 0.3, 0.6, 1.0)
TAKER_FEE_TICKS = float(PaperConfig().taker_fee / INSTRUMENT.tick_value)
MAKER_FEE_TICKS = float(PaperConfig().maker_fee / INSTRUMENT.tick_value)
MARKOUT_NS = 10 * NS_PER_S
BLOCK_ROWS, BLOCK_S = 1_000, 100


def speed(duration_s: float) -> dict[str, float]:
    start = time.process_time()
    events = sum(1 for _ in generate_history(SimulatedMarketConfig(), seed=1, duration_s=duration_s))
    spent_s = time.process_time() - start
    return {"market_s_per_s": round(duration_s / spent_s), "events_per_s": round(events / spent_s), "target": TARGET_SPEED}


# --- stylised facts -------------------------------------------------------------------------------------------------------------


def observed(seed: int, duration_s: float) -> tuple[list[MarketEvent], np.ndarray]:
    """Return the events, and the regime of each book."""
    tape = Tape(SimulatedMarketConfig(), seed=seed, start_ns=DEFAULT_START_NS, start_mid_ticks=START_MID_TICKS)
    events: list[MarketEvent] = []
    regimes = []
    while tape.next_ns <= DEFAULT_START_NS + round(duration_s * NS_PER_S):
        new = tape.advance().events
        events += new
        regimes += [tape.flow.regime for event in new if isinstance(event, BookSnapshot)]
    return events, np.array(regimes)


def facts(seed: int, duration_s: float) -> dict[str, Any]:
    events, regimes = observed(seed, duration_s)
    books = [event for event in events if isinstance(event, BookSnapshot)]
    trades = [event for event in events if isinstance(event, TradeTick)]
    spreads = Counter(book.ask_ticks[0] - book.bid_ticks[0] for book in books)
    mids = np.array([(book.bid_ticks[0] + book.ask_ticks[0]) / 2 for book in books])
    signs = np.array([trade.aggressor.sign for trade in trades if trade.aggressor is not None])
    per_s = np.bincount([(trade.ts_event - DEFAULT_START_NS - 1) // NS_PER_S for trade in trades])
    moves = np.diff(mids[::10])
    return {
        "spread_share": {str(width): round(count / len(books), 4) for width, count in sorted(spreads.items())},
        "best_queue_lots": dict(
            zip(("p5", "p50", "p95"), np.quantile([b.bid_sizes[0] for b in books], (0.05, 0.5, 0.95)).tolist(), strict=True)
        ),
        "depth_10_levels_lots": round(float(np.mean([sum(book.bid_sizes) for book in books]))),
        "books_per_s": round(len(books) / duration_s, 2),
        "trades_per_s": round(len(trades) / duration_s, 2),
        "lots_per_s": round(sum(trade.size for trade in trades) / duration_s, 1),
        "trades_fano_1_s": round(float(per_s.var() / per_s.mean()), 1),
        "trade_sign_autocorrelation": {str(lag): autocorrelation(signs, lag) for lag in (1, 10, 100)},
        "moves_1_s_kurtosis": round(float((moves**4).mean() / (moves**2).mean() ** 2), 1),
        "moves_1_s_absolute_autocorrelation": {str(lag): autocorrelation(np.abs(moves), lag) for lag in (1, 10, 60)},
        "regimes": {regime.name: of_regime(mids, regimes == number) for number, regime in enumerate(REGIMES)},
    }


def of_regime(mids: np.ndarray, is_on: np.ndarray) -> dict[str, float]:
    moves = (mids[10:] - mids[:-10])[is_on[10:] & is_on[:-10]]
    return {
        "time_share": round(float(is_on.mean()), 3),
        "ticks_per_sqrt_s": round(float(np.sqrt((moves**2).mean())), 2) if len(moves) else 0.0,
    }


def autocorrelation(values: np.ndarray, lag: int) -> float:
    return round(float(np.corrcoef(values[:-lag], values[lag:])[0, 1]), 3)


# --- signal ---------------------------------------------------------------------------------------------------------------------


def histories(strength: float, seeds: range, duration_s: float) -> list[np.ndarray]:
    settings = SimulatedMarketConfig(signal_strength=strength)
    return [rows_of(generate_history(settings, seed=seed, duration_s=duration_s)) for seed in seeds]


def signal(learn: list[np.ndarray], judge: list[np.ndarray]) -> dict[str, Any]:
    """Return AUCs of up against down given moved, on rows whose horizons do not overlap, of seeds that were not learnt from."""
    judged = pooled(sample_of(rows) for rows in judge)
    weights = fitted_weights(pooled(sample_of(rows) for rows in learn))
    area, error = area_under_curve(judged.signals @ weights, judged.moves)
    each = {name: round(area_under_curve(judged.signals[:, column], judged.moves)[0], 3) for column, name in enumerate(SIGNALS)}
    return {"model_auc": round(area, 3), "half_interval_95": round(1.96 * error, 3), "auc": each}


def calls(learn: list[np.ndarray], judge: list[np.ndarray], horizon_rows: int) -> dict[str, Any]:
    """Return how often a three-class model is sure, how right it is then, and what a taker keeps after the spread and the fees."""
    train = pooled(sample_of(rows, every=2, horizon_rows=horizon_rows) for rows in learn)
    test = pooled(sample_of(rows, every=1, horizon_rows=horizon_rows) for rows in judge)
    model = lightgbm.LGBMClassifier(
        n_estimators=120, num_leaves=15, min_child_samples=300, learning_rate=0.05, n_jobs=1, verbose=-1, seed=1
    )
    model.fit(activity(train.signals), np.sign(train.moves) + 1)
    chances = np.asarray(model.predict_proba(activity(test.signals)))
    sure, side = np.maximum(chances[:, 0], chances[:, 2]), np.where(chances[:, 2] > chances[:, 0], 1, -1)
    gains, blocks = test.moves * side, np.arange(len(side)) // BLOCK_ROWS
    picks = {limit: sure > limit for limit in (0.5, 0.6, 0.7)}
    return {str(limit): of_calls(gains[pick], test.spreads[pick], blocks[pick], len(sure)) for limit, pick in picks.items()}


def activity(signals: np.ndarray) -> np.ndarray:
    """Add how much the mid moved lately, whichever way."""
    return np.column_stack((signals, np.abs(signals[:, -2:])))


def of_calls(gains: np.ndarray, spreads: np.ndarray, blocks: np.ndarray, rows: int) -> dict[str, Any]:
    if not len(gains):
        return {"share": 0.0}
    return {
        "share": round(len(gains) / rows, 4),
        "right": round(float((gains > 0).mean()), 3),
        "move_ticks": round(float(gains.mean()), 2),
        "spread_ticks": round(float(spreads.mean()), 2),
        "taker_net": mean_of(gains - spreads - 2 * TAKER_FEE_TICKS, blocks),
    }


# --- what traders make of it ----------------------------------------------------------------------------------------------------


class Trader:
    """Somebody who trades in a market on a clock."""

    def __init__(self, strength: float, seed: int) -> None:
        self.market = SimulatedMarket(SimulatedMarketConfig(signal_strength=strength), PaperConfig(), seed=seed)
        self.clock = EventClock(DEFAULT_START_NS)
        self.orders: dict[str, SubmitOrder] = {}
        self.fills: list[tuple[Side, ExecutionReport]] = []
        self.open: set[str] = set()
        self.books: list[BookSnapshot] = []
        self.market.start(self.clock, self.on_report)
        self.market.feed().start(self.clock, self.on_event, lambda: None)

    def wait(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ns() + round(seconds * NS_PER_S))

    def send(self, side: Side, quantity: int, limit_ticks: int | None = None) -> None:
        order = SubmitOrder(
            client_order_id=f"b{len(self.orders)}",
            strategy_id="bench",
            instrument_id=INSTRUMENT.instrument_id,
            side=side,
            quantity=quantity,
            order_type=OrderType.MARKET if limit_ticks is None else OrderType.LIMIT,
            limit_ticks=limit_ticks,
            time_in_force=TimeInForce.DAY,
            ts_event=self.clock.now_ns(),
        )
        self.orders[order.client_order_id] = order
        self.open.add(order.client_order_id)
        self.market.submit(order)

    def on_report(self, report: ExecutionReport) -> None:
        if report.kind is ReportKind.FILLED:
            self.fills.append((self.orders[report.client_order_id].side, report))
        if report.kind not in (ReportKind.ACCEPTED, ReportKind.CANCEL_REJECTED):
            self.open.discard(report.client_order_id)

    def on_event(self, event: MarketEvent) -> None:
        if isinstance(event, BookSnapshot):
            self.books.append(event)
            self.on_book(event)

    def on_book(self, book: BookSnapshot) -> None:
        pass

    def mid(self) -> float:
        return (self.books[-1].bid_ticks[0] + self.books[-1].ask_ticks[0]) / 2


class QueueJoiner(Trader):
    """Keep one lot at the end of the best queue on each side, whatever the market says."""

    def on_book(self, book: BookSnapshot) -> None:
        for side, best in ((Side.BUY, book.bid_ticks[0]), (Side.SELL, book.ask_ticks[0])):
            mine = [name for name in sorted(self.open) if self.orders[name].side is side]
            if not mine:
                self.send(side, 1, best)
            for name in mine:
                if self.orders[name].limit_ticks != best:
                    self.market.cancel(name)

    def edges(self) -> list[tuple[float, int]]:
        """Return per lot how much better than the price the mid was ten seconds later, and the block of time it is in."""
        times = np.array([book.ts_event for book in self.books])
        later = np.searchsorted(times, [fill.ts_event + MARKOUT_NS for _, fill in self.fills])
        found = []
        for (side, fill), row in zip(self.fills, later, strict=True):
            if row < len(times):
                mid = (self.books[row].bid_ticks[0] + self.books[row].ask_ticks[0]) / 2
                found.append((side.sign * (mid - fill.last_ticks), (fill.ts_event - DEFAULT_START_NS) // (BLOCK_S * NS_PER_S)))
        return found


def maker(strength: float, seeds: range, duration_s: float) -> dict[str, float]:
    edges: list[float] = []
    blocks: list[int] = []
    for seed in seeds:
        trader = QueueJoiner(strength, seed)
        trader.wait(duration_s)
        for edge, block in trader.edges():
            edges.append(edge)
            blocks.append(seed * 1_000_000 + block)
    return mean_of(np.array(edges) - MAKER_FEE_TICKS, np.array(blocks)) | {"fills": len(edges)}


def mean_of(values: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """Return the mean and half of its 95 % interval; values of one block may depend on each other (ratio of block sums)."""
    _, block = np.unique(blocks, return_inverse=True)
    mean = float(values.mean())
    strays = np.bincount(block, weights=values - mean)
    return {"ticks": round(mean, 3), "half_interval_95": round(float(1.96 * np.sqrt((strays**2).sum()) / len(values)), 3)}


def impact(lots: int, seeds: range) -> dict[str, Any]:
    """Return by how much the mid is higher after we bought than in the same market without us, and what a round trip costs then."""
    waits_s = (0.2, 1.0, 5.0, 20.0)
    shifts, gains = [], []
    for seed in seeds:
        with_us, without = Trader(0.0, seed), Trader(0.0, seed)
        for trader in (with_us, without):
            trader.wait(1.0)
        before = without.mid()
        with_us.send(Side.BUY, lots)
        shifts.append([])
        for start, end in zip((0.0, *waits_s), waits_s, strict=False):
            for trader in (with_us, without):
                trader.wait(end - start)
            shifts[-1].append(with_us.mid() - without.mid())
        with_us.send(Side.SELL, sum(fill.last_quantity for _, fill in with_us.fills))
        drift = without.mid() - before
        with_us.wait(0.1)
        cash = -sum(side.sign * fill.last_quantity * fill.last_ticks for side, fill in with_us.fills)
        gains.append(cash / lots - drift - 2 * TAKER_FEE_TICKS)
    mean = np.mean(shifts, axis=0)
    after = {f"{wait}_s": round(float(shift), 2) for wait, shift in zip(waits_s, mean, strict=True)}
    return {"shift_ticks_after": after, "round_trip": mean_of(np.array(gains), np.arange(len(gains)))}


def measure(duration_s: float, seeds: int) -> dict[str, Any]:
    learn, judge = range(seeds), range(100, 100 + seeds)
    found: dict[str, Any] = {"benchmark": "simulated_market", "speed": speed(duration_s), "facts": facts(7, 5 * duration_s), "signal": {}}
    for strength in STRENGTHS:
        rows = histories(strength, learn, duration_s), histories(strength, judge, duration_s)
        found["signal"][str(strength)] = signal(*rows)
        if strength in (0.0, 0.6):
            found["signal"][str(strength)]["calls"] = {f"{horizon}_rows": calls(*rows, horizon) for horizon in (20, 50)}
    found["maker_at_the_end_of_the_queue"] = {str(strength): maker(strength, judge, duration_s) for strength in (0.0, 0.6)}
    found["impact"] = {f"{lots}_lots": impact(lots, range(200, 230)) for lots in (10, 80, 400)}
    found["is_met"] = found["speed"]["market_s_per_s"] >= TARGET_SPEED
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", type=float, default=4_000.0)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.duration, chosen.seeds)))


if __name__ == "__main__":
    main()
