"""A run as tables (polars): fills with their markouts, trades from flat to flat, the account over time, predictions and what came."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import polars as pl

from framework.backtest.engine import Run
from framework.backtest.tape import Touch
from framework.messages import Filled
from framework.model import NS_PER_S, Instrument, Liquidity, Side
from framework.window import Float64Array, Int64Array

MARKOUTS_S: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
MAX_POINTS: Final = 4_000
_FILL: Final = {
    "ts_event": pl.Int64,
    "strategy_id": pl.String,
    "instrument_id": pl.String,
    "client_order_id": pl.String,
    "decision_id": pl.String,
    "side": pl.String,
    "quantity": pl.Int64,
    "price": pl.Float64,
    "fee": pl.Float64,
    "liquidity": pl.String,
    "position": pl.Int64,
    "book_age_s": pl.Float64,
    "slippage_ticks": pl.Float64,
}
"""`slippage_ticks` is against us and from the mid at the time of the fill; `position` is after it."""


def fills(run: Run) -> pl.DataFrame:
    """Return one line for each fill, with `markout_<s>`: how far the mid went our way from the fill's price, in ticks; null at the end."""
    signed = {Side.BUY: 1, Side.SELL: -1}
    positions: dict[tuple[str, str], int] = {}
    touches = {name: run.tape.touch(name) for name in run.instruments}
    lines = []
    for fill in run.tape.fills:
        key = (fill.strategy_id, fill.instrument_id)
        positions[key] = positions.get(key, 0) + signed[fill.side] * fill.quantity
        lines.append(_fill(fill, run.instruments[fill.instrument_id], positions[key], touches[fill.instrument_id]))
    frame = pl.DataFrame(lines, schema=_FILL, orient="row")
    return frame.with_columns(_markouts(run, touches))


def _fill(fill: Filled, instrument: Instrument, position: int, touch: Touch) -> tuple[Any, ...]:
    where = int(np.searchsorted(touch.ts_event, fill.ts_event, side="right")) - 1
    mid = float(touch.mid_ticks[where]) if where >= 0 and touch.is_whole(where) else np.nan
    direction = 1 if fill.side is Side.BUY else -1
    return (
        fill.ts_event,
        fill.strategy_id,
        fill.instrument_id,
        fill.client_order_id,
        fill.decision_id,
        str(fill.side),
        fill.quantity,
        float(instrument.price(fill.price_ticks)),
        float(fill.fee),
        str(fill.liquidity),
        position,
        (fill.ts_event - int(touch.ts_event[where])) / NS_PER_S if where >= 0 else None,
        None if np.isnan(mid) else direction * (fill.price_ticks - float(mid)),
    )


def _markouts(run: Run, touches: dict[str, Touch]) -> list[pl.Series]:
    times = np.array([fill.ts_event for fill in run.tape.fills], np.int64)
    prices = np.array([fill.price_ticks for fill in run.tape.fills], np.float64)
    sides = np.array([1.0 if fill.side is Side.BUY else -1.0 for fill in run.tape.fills])
    names = np.array([fill.instrument_id for fill in run.tape.fills])
    columns = []
    for horizon_s in MARKOUTS_S:
        out = np.full(len(times), np.nan)
        for name, touch in touches.items():
            mine = names == name
            later = times[mine] + round(horizon_s * NS_PER_S)
            moved = sides[mine] * (touch.mid_at(later) - prices[mine])
            out[mine] = np.where(later <= (touch.ts_event[-1] if len(touch.ts_event) else -1), moved, np.nan)
        columns.append(pl.Series(f"markout_{horizon_s:g}", out).fill_nan(None))
    return columns


def account(run: Run) -> pl.DataFrame:
    """Return the account over time: `equity` (after fees), `gross` (before), `position` (lots, all instruments) and `drawdown`, in money.

    At most 4,000 points: evenly over the books, and never less than the first and the last.
    """
    times = _grid([run.tape.touch(name).ts_event for name in run.instruments])
    gross, fees, position = np.zeros(len(times)), np.zeros(len(times)), np.zeros(len(times), np.int64)
    for name, instrument in run.instruments.items():
        cash, paid, held = _steps([fill for fill in run.tape.fills if fill.instrument_id == name], times)
        value = float(instrument.tick_value)
        mids = np.nan_to_num(run.tape.touch(name).mid_at(times))
        gross += (cash + held * mids) * value
        fees += paid
        position += held
    equity = gross - fees
    peak = np.maximum.accumulate(np.maximum(equity, 0.0)) if len(equity) else equity
    columns = {"ts_event": times, "equity": equity, "gross": gross, "fees": fees, "position": position, "drawdown": peak - equity}
    return pl.DataFrame(columns)


def _grid(times: Sequence[Int64Array]) -> Int64Array:
    # A long recording has one instrument and millions of times that rise already: to sort copies of them cost more than all the rest.
    is_sorted = len(times) == 1 and bool((times[0][1:] > times[0][:-1]).all())
    merged = times[0] if is_sorted else np.unique(np.concatenate([*times, np.zeros(0, np.int64)]))
    return merged[np.unique(np.linspace(0, len(merged) - 1, min(len(merged), MAX_POINTS)).astype(np.int64))] if len(merged) else merged


def _steps(fills_: Sequence[Filled], times: Int64Array) -> tuple[Float64Array, Float64Array, Int64Array]:
    """Return cash in ticks, fees in money and lots held at each time."""
    when = np.array([fill.ts_event for fill in fills_], np.int64)
    lots = np.array([fill.quantity if fill.side is Side.BUY else -fill.quantity for fill in fills_], np.int64)
    prices = np.array([fill.price_ticks for fill in fills_], np.float64)
    fees = np.array([float(fill.fee) for fill in fills_])
    until = np.searchsorted(when, times, side="right")
    sums = [np.concatenate([[0], np.cumsum(one)])[until] for one in (-lots * prices, fees, lots)]
    return sums[0], sums[1], sums[2].astype(np.int64)


_TRADE: Final = {
    "strategy_id": pl.String,
    "instrument_id": pl.String,
    "side": pl.String,
    "entry_ns": pl.Int64,
    "exit_ns": pl.Int64,
    "duration_s": pl.Float64,
    "lots": pl.Int64,
    "fills": pl.Int64,
    "maker_share": pl.Float64,
    "gross": pl.Float64,
    "fees": pl.Float64,
    "net": pl.Float64,
}


class _Episode:
    """From flat to flat: what was bought and sold, and for how much."""

    def __init__(self, fill: Filled) -> None:
        self.side, self.start_ns = fill.side, fill.ts_event
        self.held, self.most, self.count, self.makers = 0, 0, 0, 0
        self.cash_ticks, self.fees = 0, Decimal(0)

    def take(self, fill: Filled, quantity: int, fee: Decimal) -> None:
        lots = quantity if fill.side is Side.BUY else -quantity
        self.held += lots
        self.most = max(self.most, abs(self.held))
        self.count += 1
        self.makers += fill.liquidity is Liquidity.MAKER
        self.cash_ticks -= lots * fill.price_ticks
        self.fees += fee

    def line(self, fill: Filled, instrument: Instrument) -> tuple[Any, ...]:
        gross = float(self.cash_ticks * instrument.tick_value)
        duration_s = (fill.ts_event - self.start_ns) / NS_PER_S
        counts = (self.most, self.count, self.makers / self.count)
        money = (gross, float(self.fees), gross - float(self.fees))
        return (fill.strategy_id, fill.instrument_id, str(self.side), self.start_ns, fill.ts_event, duration_s, *counts, *money)


def trades(run: Run) -> pl.DataFrame:
    """Return one line for each trade from flat to flat; a fill that turns the position ends one and begins the next, fees by lots."""
    open_now: dict[tuple[str, str], _Episode] = {}
    lines = []
    for fill in run.tape.fills:
        key, left = (fill.strategy_id, fill.instrument_id), fill.quantity
        while left:
            episode = open_now.setdefault(key, _Episode(fill))
            is_closing = episode.held and (episode.held > 0) != (fill.side is Side.BUY)
            part = min(left, abs(episode.held)) if is_closing else left
            episode.take(fill, part, fill.fee * part / fill.quantity)
            left -= part
            if not episode.held:
                lines.append(open_now.pop(key).line(fill, run.instruments[fill.instrument_id]))
    return pl.DataFrame(lines, schema=_TRADE, orient="row")


_PREDICTION: Final = {
    "prediction_id": pl.String,
    "instrument_id": pl.String,
    "as_of_ns": pl.Int64,
    "received_ns": pl.Int64,
    "flow_type": pl.String,
    "direction": pl.Int64,
    "confidence": pl.Float64,
    "p_down": pl.Float64,
    "p_flat": pl.Float64,
    "p_up": pl.Float64,
    "regime": pl.Int64,
    "model_version": pl.String,
}


def predictions(run: Run) -> pl.DataFrame:
    """Return one line for each prediction, with `move_ticks`: the mid from its book to `horizon_rows` books later; null at the end.

    `late_move_ticks` is the part of that move that was left when the prediction arrived.
    """
    lines, moves, late = [], [], []
    touches = {name: run.tape.touch(name) for name in run.instruments}
    mids = {name: touch.mid_ticks for name, touch in touches.items()}
    for message in run.tape.predictions:
        one = message.prediction
        times = touches[one.instrument_id].ts_event
        here, arrived = (int(np.searchsorted(times, when, side="right")) - 1 for when in (one.as_of_ns, one.received_ns))
        there = here + one.horizon_rows
        known = there < len(times)
        moves.append(mids[one.instrument_id][there] - mids[one.instrument_id][here] if known else None)
        late.append(mids[one.instrument_id][there] - mids[one.instrument_id][min(arrived, there)] if known else None)
        said = (one.confidence, one.p_down, one.p_flat, one.p_up, one.regime, one.model_version)
        names = (str(one.flow_type), one.flow_type.direction)
        lines.append((one.prediction_id, one.instrument_id, one.as_of_ns, one.received_ns, *names, *said))
    frame = pl.DataFrame(lines, schema=_PREDICTION, orient="row")
    return frame.with_columns(pl.Series("move_ticks", moves, pl.Float64), pl.Series("late_move_ticks", late, pl.Float64))
