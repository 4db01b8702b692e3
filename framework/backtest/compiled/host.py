"""From settings and a recording to the arrays of the compiled loop, and more room where a table is short."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from framework.backtest.compiled.layout import (
    CLOSED_NOT,
    DESK,
    LIMITS,
    MARGIN,
    REPORT_COLUMNS,
    REPORT_MARGIN,
    WORD_CLOSES,
    WORD_HALTS,
    WORD_NOTHING,
    WORD_OPENS,
    WORD_SOUND,
    WORD_UNSOUND,
    Host,
    blank,
)
from framework.backtest.compiled.matching import SLOTS
from framework.backtest.compiled.queues import MODELS
from framework.backtest.lean.columns import MarketColumns
from framework.config import PaperConfig, RiskLimits
from framework.messages import BookInvalid, BookRecovered, Message, SessionChanged
from framework.model import NS_PER_S, Instrument
from framework.strategy.compiled.views import NO_LIMIT, SENT, Orders
from framework.venues.latency import ConstantLatency, Latency, RecordedLatency, latencies
from framework.window import LEVELS, Int64Array

ROOM: Final = 1 << 13
DRAWS: Final = 1 << 16
REPORT_ROOM: Final = 2 * REPORT_MARGIN
NO_TIMES: Final = np.zeros(0, np.int64)
_LATENCIES: Final = ("latency_times", "latency_out", "latency_back")


def desk_of(columns: MarketColumns, settings: PaperConfig, *, hears: int, interval_ns: int) -> Any:
    """Return where a run begins."""
    desk = blank(DESK)
    desk["now_ns"] = int(columns.times[0]) if len(columns.times) else 0
    for name in ("book", "seen_book", "trade", "seen_trade"):
        desk[name] = -1
    desk["is_open"] = desk["is_sound"] = 1
    desk["closed"], desk["free"] = CLOSED_NOT, SLOTS
    desk["hears"], desk["interval_ns"], desk["power"] = hears, interval_ns, settings.queue_power
    desk["tickets"] = desk["feed_ticket"] = 1  # as with a feed on the clock: the first instant has its place before anything is sent
    return desk


def limits_of(limits: RiskLimits, instrument: Instrument) -> Any:
    """Return the limits of the gate, and the price limits of the exchange."""
    found = blank(LIMITS)
    for name, value in {
        "order_quantity": limits.max_order_quantity,
        "position": limits.max_position,
        "open_orders": limits.max_open_orders,
        "per_second": limits.max_orders_per_second,
        "per_minute": limits.max_orders_per_minute,
        "cancels_per_second": limits.max_cancels_per_second,
        "collar_ticks": limits.price_collar_ticks,
        "last_trade_ticks": limits.last_trade_collar_ticks,
        "book_age_ns": round(limits.max_book_age_s * NS_PER_S),
        "window_ns": round(limits.duplicate_window_s * NS_PER_S),
        "prevents_self_trade": limits.prevent_self_trade,
        "lower_ticks": NO_LIMIT if instrument.lower_limit_ticks is None else instrument.lower_limit_ticks,
        "upper_ticks": -NO_LIMIT if instrument.upper_limit_ticks is None else instrument.upper_limit_ticks,
    }.items():
        found[name] = value
    return found


def host_of(columns: MarketColumns, settings: PaperConfig) -> Host:
    """Return market, matching engine, tables and latencies of a run. Raises `ConfigError` for a latency profile that cannot be read."""
    return Host(**_recording(columns), **_matching(settings), **_tables(), **_Draws(settings).first())


def _recording(columns: MarketColumns) -> dict[str, Any]:
    return {
        "times": np.ascontiguousarray(columns.times),
        "starts": np.ascontiguousarray(columns.starts),
        "events": np.stack((columns.kinds, columns.places), axis=1).reshape(-1, 2).astype(np.int64),
        "levels": np.ascontiguousarray(columns.levels),
        "facts": np.ascontiguousarray(columns.book_facts),
        "trades": np.ascontiguousarray(columns.trades),
        "words": np.array([_word(other) for other in columns.others], np.int64),
    }


def _word(other: Message) -> int:
    if isinstance(other, SessionChanged):
        return WORD_OPENS if other.is_open else WORD_HALTS if other.is_halt else WORD_CLOSES
    return {BookInvalid: WORD_UNSOUND, BookRecovered: WORD_SOUND}.get(type(other), WORD_NOTHING)


def _matching(settings: PaperConfig) -> dict[str, Any]:
    return {
        "matching": np.array([-1, 0, 0, 0, MODELS[settings.queue_model], 0], np.int64),
        "resting": np.zeros((SLOTS, 7), np.int64),
        "ahead": np.full(SLOTS, np.nan),
        "line": np.zeros(SLOTS, np.int64),
        "taken": np.zeros((2, LEVELS * 2, 2), np.int64),
        "matched": np.zeros((SLOTS * LEVELS * 4, 3), np.int64),
        "got": np.zeros((LEVELS, 2), np.int64),
        "free_slots": np.arange(SLOTS, dtype=np.int64)[::-1].copy(),
        "names": np.zeros(SLOTS, np.int64),
    }


def _tables() -> dict[str, Any]:
    return {
        "requests": np.zeros((ROOM, REPORT_COLUMNS), np.int64),
        "reports": np.zeros((REPORT_ROOM, REPORT_COLUMNS), np.int64),
        "updates": np.zeros((ROOM, 11), np.int64),
        "fills": np.zeros((ROOM, 6), np.int64),
        "notes": np.zeros((ROOM, 6), np.int64),
        "cancels": np.zeros(ROOM, np.int64),
        "open_orders": np.zeros(SLOTS, np.int64),
        "denials": np.zeros(32, np.int64),
    }


# --- more room -------------------------------------------------------------------------------------------------------------------


class _Draws:
    """Latencies as the settings draw them, as many as are asked for."""

    def __init__(self, settings: PaperConfig) -> None:
        self._out, self._back = latencies(settings)

    def first(self) -> dict[str, Any]:
        """Return what a run begins with."""
        if isinstance(self._out, RecordedLatency) and isinstance(self._back, RecordedLatency):
            profile = (self._out.times, self._out.latencies, self._back.latencies)
            return dict(zip(_LATENCIES, (np.array(column, np.int64) for column in profile), strict=True))
        return {"latency_times": NO_TIMES} | self.drawn(DRAWS, DRAWS)

    def drawn(self, out: int, back: int) -> dict[str, Any]:
        """Return so many draws for each line; of constant latencies one."""
        return {"latency_out": _drawn(self._out, out), "latency_back": _drawn(self._back, back)}


def _drawn(latency: Latency, count: int) -> Int64Array:
    return np.array([latency(0) for _ in range(1 if isinstance(latency, ConstantLatency) else count)], np.int64)


def roomier(orders: Orders, host: Host, desk: Any, settings: PaperConfig) -> tuple[Orders, Host]:
    """Return orders and tables with room for the next steps: what is on its way moves to the front, what is full gets twice the room."""
    grown: dict[str, Any] = {name: _grown(getattr(host, name), int(desk[name])) for name in ("updates", "fills", "notes", "cancels")}
    grown |= {"requests": _moved(host.requests, desk, "out", MARGIN), "reports": _moved(host.reports, desk, "back", REPORT_MARGIN)}
    if len(host.latency_out) > 1 and not len(host.latency_times):
        out = _enough(len(host.latency_out), int(desk["out_drawn"]), MARGIN)
        back = _enough(len(host.latency_back), int(desk["back_drawn"]), REPORT_MARGIN)
        if (out, back) != (len(host.latency_out), len(host.latency_back)):
            grown |= _Draws(settings).drawn(out, back)
    return orders._replace(rows=_grown(orders.rows, int(orders.counts[SENT]))), host._replace(**grown)


def _grown(table: Int64Array, used: int, margin: int = MARGIN) -> Int64Array:
    if len(table) - used >= margin:
        return table
    return np.concatenate((table, np.zeros((max(len(table), margin), *table.shape[1:]), np.int64)))


def _enough(there: int, used: int, margin: int) -> int:
    return there if there - used >= margin else 2 * max(there, margin)


def _moved(table: Int64Array, desk: Any, line: str, margin: int) -> Int64Array:
    head, tail = int(desk[f"{line}_head"]), int(desk[f"{line}_tail"])
    table[: tail - head] = table[head:tail].copy()
    desk[f"{line}_head"], desk[f"{line}_tail"] = 0, tail - head
    return _grown(table, tail - head, margin)
