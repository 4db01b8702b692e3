"""The mission's prediction request as a window, and a window as such a request."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np

from framework import wire
from framework.errors import ErrorCode, WireError
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Float32Array, Float64Array, Int32Array, Int64Array, Rows, Window
from framework.wire_json.timestamps import iso_utc, to_ns

DEFAULT_TIMEOUT_S: Final = 5.0
DEFAULT_TICK_SIZE: Final = 0.25
MAX_LEVELS: Final = 1_000
MAX_ORDER_EVENTS: Final = 10_000
_PRICE_UNITS: Final = 100_000_000
_MAX_PRICE: Final = 9e9


class _Columns(msgspec.Struct, frozen=True, kw_only=True):
    """The mission's `market_data`: bars as columns of equal length."""

    timestamp: list[str | int | float] = []
    open: list[float] = []
    high: list[float] = []
    low: list[float] = []
    close: list[float] = []
    volume: list[float] = []


class _Book(msgspec.Struct, frozen=True, kw_only=True):
    """The mission's `order_book`, best levels first; the optional keys are ours."""

    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    timestamp: str | int | float | None = None
    sequence: int | None = None
    flow: list[float] | None = None


class PredictBody(msgspec.Struct, frozen=True, kw_only=True):
    """The mission's request as it stands in the JSON; the optional keys are ours."""

    market_data: _Columns = _Columns()
    order_book: _Book | None = None
    order_book_history: list[_Book] = []
    order_events: list[Any] = []
    instrument_id: wire.Id = ""
    tick_size: float | None = None
    has_trades: bool = False
    timeout: float = DEFAULT_TIMEOUT_S


def to_window(body: PredictBody) -> Window:
    """Build the window of a request: the books of `order_book_history`, then `order_book`, one row each.

    Levels beyond the tenth are cut and levels of size 0 left out. Raises `WireError` whose message names the path.
    """
    books = [*body.order_book_history, *([body.order_book] if body.order_book else [])]
    if not books:
        raise WireError(ErrorCode.BAD_FIELD, "a prediction needs a book - at `$.order_book`")
    _check_sizes(body, books)
    tick = _tick_size(body, books)
    times = _times(body.market_data.timestamp, "$.market_data.timestamp")
    bars = _bars(body.market_data, times, tick)
    rows = _rows(books, tick, last_ns=times[-1] if times else 0)
    wire.check_rows(rows, bars)
    return Window(instrument_id=body.instrument_id, tick_size=tick, has_trades=body.has_trades, rows=rows, bars=bars)


def _check_sizes(body: PredictBody, books: list[_Book]) -> None:
    limits = (
        (len(books), wire.MAX_WINDOW_ROWS, "$.order_book_history"),
        (max(max(len(book.bids), len(book.asks)) for book in books), MAX_LEVELS, "$.order_book"),
        (len(body.market_data.timestamp), wire.MAX_BARS, "$.market_data.timestamp"),
        (len(body.order_events), MAX_ORDER_EVENTS, "$.order_events"),
    )
    for found, most, path in limits:
        if found > most:
            raise WireError(ErrorCode.BAD_FIELD, f"{found} entries, at most {most} allowed - at `{path}`")


def _tick_size(body: PredictBody, books: list[_Book]) -> float:
    """Return the tick size given, or the largest divisor of 0.25 that every price is a multiple of."""
    if body.tick_size is not None:
        if not (1e-8 <= body.tick_size <= 1e6):
            raise WireError(ErrorCode.BAD_FIELD, "must be 1e-8 to 1e6 - at `$.tick_size`")
        return body.tick_size
    prices = {price for book in books for price, _ in (*book.bids[:LEVELS], *book.asks[:LEVELS]) if abs(price) < _MAX_PRICE}
    divisor = math.gcd(round(DEFAULT_TICK_SIZE * _PRICE_UNITS), *(round(price * _PRICE_UNITS) for price in prices))
    return float(divisor / _PRICE_UNITS)


def _times(stamps: list[str | int | float], path: str) -> list[int]:
    return [_time(stamp, f"{path}[{position}]") for position, stamp in enumerate(stamps)]


def _time(stamp: str | int | float, path: str) -> int:
    try:
        return to_ns(stamp)
    except ValueError as exc:
        raise WireError(ErrorCode.BAD_FIELD, f"{exc} - at `{path}`") from exc


def _bars(columns: _Columns, times: list[int], tick: float) -> Float64Array:
    bars = np.zeros((len(times), len(BAR_COLUMNS)))
    bars[:, 0] = [ns / 1e9 for ns in times]
    for column, name in enumerate(BAR_COLUMNS[1:], start=1):
        values = getattr(columns, name)
        if len(values) != len(times):
            raise WireError(ErrorCode.BAD_FIELD, f"{len(values)} values for {len(times)} timestamps - at `$.market_data.{name}`")
        bars[:, column] = np.array(values, np.float64) / (1.0 if name == "volume" else tick)
    return bars


def _rows(books: list[_Book], tick: float, last_ns: int) -> Rows:
    bid_ticks, bid_sizes = _side([book.bids for book in books], tick, "bids")
    ask_ticks, ask_sizes = _side([book.asks for book in books], tick, "asks")
    moves = order_flow(bid_ticks, bid_sizes, ask_ticks, ask_sizes)
    return Rows(
        ts_event=_row_times(books, last_ns),
        sequence=_int64([book.sequence if book.sequence is not None else n for n, book in enumerate(books, start=1)], "sequence"),
        segment=np.zeros(len(books), np.int64),
        bid_ticks=bid_ticks,
        bid_sizes=bid_sizes,
        ask_ticks=ask_ticks,
        ask_sizes=ask_sizes,
        flow=_flow(books, moves),
    )


def _row_times(books: list[_Book], last_ns: int) -> Int64Array:
    """Return the time of each book; a last one without gets that of the last bar, one before gets that of its follower."""
    times = []
    following_ns = last_ns
    for book in reversed(books):
        following_ns = _time(book.timestamp, "$.order_book.timestamp") if book.timestamp is not None else following_ns
        times.append(following_ns)
    return _int64(times[::-1], "timestamp")


def _int64(values: list[int], name: str) -> Int64Array:
    if not all(0 <= value < 1 << 63 for value in values):
        raise WireError(ErrorCode.BAD_FIELD, f"must be 0 to 2^63 - 1 - at `$.order_book.{name}`")
    return np.array(values, np.int64)


def _side(books: list[list[tuple[float, float]]], tick: float, name: str) -> tuple[Int32Array, Float32Array]:
    prices, sizes = (np.zeros((len(books), LEVELS)) for _ in range(2))
    for row, levels in enumerate(books):
        present = [level for level in levels if level[1] != 0][:LEVELS]
        if present:
            prices[row, : len(present)], sizes[row, : len(present)] = zip(*present, strict=True)
    ticks = prices / tick
    whole = np.rint(ticks)
    if not (np.abs(ticks) < 1 << 31).all() or (np.abs(ticks - whole) > 1e-4).any():
        raise WireError(
            ErrorCode.BAD_FIELD, f"every price must be a multiple of the tick size {tick:g} and below 2^31 ticks - at `$.order_book.{name}`"
        )
    if not (np.abs(sizes) < 1e30).all():
        raise WireError(ErrorCode.BAD_FIELD, f"sizes must be below 1e30 - at `$.order_book.{name}`")
    return whole.astype(np.int32), sizes.astype(np.float32)


def _flow(books: list[_Book], moves: Float32Array) -> Float32Array:
    """Return the flow that came with the books; where none came, what can be told from two books in a row (no trades)."""
    for row, book in enumerate(books):
        if book.flow is not None:
            if len(book.flow) != len(FLOW_COLUMNS) or not all(abs(number) < 1e30 for number in book.flow):
                raise WireError(ErrorCode.BAD_FIELD, f"must be {len(FLOW_COLUMNS)} numbers - at `$.order_book_history[{row}].flow`")
            moves[row] = book.flow
    return moves


def order_flow(bid_ticks: Int32Array, bid_sizes: Float32Array, ask_ticks: Int32Array, ask_sizes: Float32Array) -> Float32Array:
    """Return float32 (n, 17): level changes and order-flow imbalance between rows, 0 in the first row and for all trades.

    Cont, Kukanov and Stoikov (2014), eq. 10, per level (Xu, Gould and Howison 2019): a better price gains the whole new
    queue, a worse one loses the whole old queue, the same price gains the difference; a missing level is an empty queue.
    """
    flow = np.zeros((len(bid_ticks), len(FLOW_COLUMNS)), np.float32)
    first = FLOW_COLUMNS.index("ofi_1")
    for sign, name, ticks, sizes in ((1, "bid_events", bid_ticks, bid_sizes), (-1, "ask_events", ask_ticks, ask_sizes)):
        step = (ticks[1:].astype(np.int64) - ticks[:-1]) * sign
        is_resize = (step == 0) | (sizes[1:] == 0) | (sizes[:-1] == 0)
        gains = np.where(is_resize, sizes[1:] - sizes[:-1], np.where(step > 0, sizes[1:], -sizes[:-1]))
        flow[1:, FLOW_COLUMNS.index(name)] = ((step != 0) | (sizes[1:] != sizes[:-1])).sum(axis=1)
        flow[1:, first:] += sign * gains
    return flow


def to_body(window: Window, *, request_id: str, timeout_ms: float) -> dict[str, Any]:
    """Return a window as the mission's request: the last book, and the rows before it as `order_book_history`."""
    rows, tick, bars = window.rows, window.tick_size, window.bars
    books = [_book_object(rows, row, tick) for row in range(len(rows))]
    market_data: dict[str, Any] = {"timestamp": [iso_utc(round(second * 1e9)) for second in bars[:, 0].tolist()]}
    for column, name in enumerate(BAR_COLUMNS[1:], start=1):
        market_data[name] = (bars[:, column] * (1.0 if name == "volume" else tick)).tolist()
    return {
        "type": "predict",
        "request_id": request_id,
        "instrument_id": window.instrument_id,
        "tick_size": tick,
        "has_trades": window.has_trades,
        "timeout": timeout_ms / 1e3,
        "order_events": [],
        "market_data": market_data,
        "order_book": books[-1],
        "order_book_history": books[:-1],
    }


def _book_object(rows: Rows, row: int, tick: float) -> dict[str, Any]:
    def side(ticks: Any, sizes: Any) -> list[tuple[float, float]]:
        return [(price * tick, size) for price, size in zip(ticks[row].tolist(), sizes[row].tolist(), strict=True) if size > 0]

    return {
        "timestamp": iso_utc(int(rows.ts_event[row])),
        "sequence": int(rows.sequence[row]),
        "bids": side(rows.bid_ticks, rows.bid_sizes),
        "asks": side(rows.ask_ticks, rows.ask_sizes),
        "flow": rows.flow[row].tolist(),
    }
