"""The DOM buffer: the last rows of one instrument's depth of market, with the order flow between them."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookInvalid, BookSnapshot, DomUpdated, Message, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Float64Array, Rows, Window

BARS_KEPT: Final = 100
_ROW: Final = struct.Struct(f"<qqq{LEVELS}i{LEVELS}f{LEVELS}i{LEVELS}f{len(FLOW_COLUMNS)}f")
_ROW_DTYPE: Final = np.dtype(
    [
        ("ts_event", "<i8"),
        ("sequence", "<i8"),
        ("segment", "<i8"),
        ("bid_ticks", "<i4", LEVELS),
        ("bid_sizes", "<f4", LEVELS),
        ("ask_ticks", "<i4", LEVELS),
        ("ask_sizes", "<f4", LEVELS),
        ("flow", "<f4", len(FLOW_COLUMNS)),
    ]
)
_PADDING: Final = tuple((0,) * missing for missing in range(LEVELS + 1))
_FAR: Final = 2**40
_NO_FLOW: Final = (0,) * LEVELS
_UNKNOWN, _BUY, _SELL = 2, 0, 1
_AGGRESSOR_COLUMN: Final = {Side.BUY: _BUY, Side.SELL: _SELL, None: _UNKNOWN}


class DomBuffer:
    """Bounded history of rows in one preallocated block of `max_rows` x 252 bytes (a `DomView`).

    A row is a book with the flow since the book before: trade ticks in between, and order-flow imbalance per level,
    e = [b >= b'] q - [b <= b'] q' - [a <= a'] r + [a >= a'] r' with prices b, a and sizes q, r, primes for the book before
    (Cont, Kukanov, Stoikov 2014, eq. 2; a missing level is infinitely far away). The first row of a segment has no flow.
    """

    def __init__(self, instrument: Instrument, max_rows: int) -> None:
        self.instrument = instrument
        self._max_rows = max_rows
        self._block = bytearray(max_rows * _ROW.size)
        self._rows = np.frombuffer(self._block, _ROW_DTYPE)
        self._total = 0
        self._segment = 0
        self._segment_start = 0
        self._last: BookSnapshot | None = None
        self._trades = [0, 0, 0, 0, 0]
        self._bars: deque[tuple[float, ...]] = deque(maxlen=BARS_KEPT)

    @property
    def row_count(self) -> int:
        """Return how many rows of the current segment are here."""
        return min(self._total - self._segment_start, self._max_rows)

    @property
    def total_rows(self) -> int:
        """Return how many rows were ever appended."""
        return self._total

    @property
    def max_rows(self) -> int:
        """Return how many rows are kept."""
        return self._max_rows

    @property
    def memory_bytes(self) -> int:
        """Return the size of the block: 160 bytes a row for the book, 68 for the flow, 24 for times and numbers."""
        return len(self._block)

    def mid_ticks(self) -> float | None:
        """Return the mid of the last row in ticks, or None while a side is empty."""
        book = self._last
        if book is None or not (book.bid_ticks and book.ask_ticks):
            return None
        return (book.bid_ticks[0] + book.ask_ticks[0]) / 2

    def apply_trade(self, tick: TradeTick) -> None:
        """Add a trade tick to the flow of the row to come."""
        column = _AGGRESSOR_COLUMN[tick.aggressor]
        self._trades[column] += tick.size
        if column != _UNKNOWN:
            self._trades[3 + column] += 1

    def apply_bar(self, bar: Bar) -> None:
        """Keep a bar for the windows to come."""
        ohlc = (bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks)
        self._bars.append((bar.ts_event / NS_PER_S, *ohlc, bar.volume))

    def apply_book(self, book: BookSnapshot) -> None:
        """Append a row."""
        last = self._last
        flow = _NO_FLOW if last is None else order_flow_imbalance(last, book)
        buy, sell, unknown, buys, sells = self._trades if last is not None else (0, 0, 0, 0, 0)
        bid_events = 0 if last is None else _changes(last.bid_ticks, last.bid_sizes, book.bid_ticks, book.bid_sizes)
        ask_events = 0 if last is None else _changes(last.ask_ticks, last.ask_sizes, book.ask_ticks, book.ask_sizes)
        no_bids, no_asks = _PADDING[LEVELS - len(book.bid_ticks)], _PADDING[LEVELS - len(book.ask_ticks)]
        _ROW.pack_into(
            self._block,
            (self._total % self._max_rows) * _ROW.size,
            book.ts_event,
            book.sequence,
            self._segment,
            *book.bid_ticks,
            *no_bids,
            *book.bid_sizes,
            *no_bids,
            *book.ask_ticks,
            *no_asks,
            *book.ask_sizes,
            *no_asks,
            *(buy, sell, unknown, buys, sells, bid_events, ask_events),
            *flow,
        )
        self._total += 1
        self._last = book
        self._trades = [0, 0, 0, 0, 0]

    def start_segment(self) -> None:
        """Begin a new segment: what came before is no past of what comes."""
        if self._last is not None:
            self._segment += 1
        self._segment_start = self._total
        self._last = None
        self._trades = [0, 0, 0, 0, 0]
        self._bars.clear()

    def window(self, rows: int) -> Window:
        """Return a copy of the last `rows` rows of the current segment (fewer if there are fewer) with the last bars."""
        return Window(
            instrument_id=self.instrument.instrument_id,
            tick_size=float(self.instrument.tick_size),
            has_trades=self.instrument.has_trades,
            rows=self._copy(self._total - min(rows, self.row_count)),
            bars=self._copy_bars(),
        )

    def rows_since(self, total: int) -> Rows:
        """Return a copy of the rows appended after the first `total` ever, as far as they are still here."""
        return self._copy(max(total, self._total - self._max_rows))

    def _copy(self, first: int) -> Rows:
        start, stop = first % self._max_rows, self._total % self._max_rows
        count = self._total - first
        if count == 0:
            block = self._rows[:0]
        elif start < stop or stop == 0:
            block = self._rows[start : start + count]
        else:
            block = np.concatenate((self._rows[start:], self._rows[:stop]))
        return Rows(**{name: np.ascontiguousarray(block[name]).copy() for name in _ROW_DTYPE.names or ()})

    def _copy_bars(self) -> Float64Array:
        return np.array(self._bars, np.float64).reshape(len(self._bars), len(BAR_COLUMNS))


def order_flow_imbalance(last: BookSnapshot, book: BookSnapshot) -> tuple[int, ...]:
    """Return the order-flow imbalance of each of 10 levels between two books, in lots (formula: `DomBuffer`)."""
    sides = (
        *_deep(last.bid_ticks, last.bid_sizes, -_FAR),
        *_deep(book.bid_ticks, book.bid_sizes, -_FAR),
        *_deep(last.ask_ticks, last.ask_sizes, _FAR),
        *_deep(book.ask_ticks, book.ask_sizes, _FAR),
    )
    return tuple(
        [
            (q if b >= b_last else 0) - (q_last if b <= b_last else 0) - (r if a <= a_last else 0) + (r_last if a >= a_last else 0)
            for b_last, q_last, b, q, a_last, r_last, a, r in zip(*sides, strict=True)
        ]
    )


def _deep(ticks: tuple[int, ...], sizes: tuple[int, ...], far: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    missing = LEVELS - len(ticks)
    return (ticks + (far,) * missing, sizes + _PADDING[missing]) if missing else (ticks, sizes)


def _changes(ticks: tuple[int, ...], sizes: tuple[int, ...], new_ticks: tuple[int, ...], new_sizes: tuple[int, ...]) -> int:
    if ticks == new_ticks:
        return 0 if sizes == new_sizes else sum([size != new for size, new in zip(sizes, new_sizes, strict=True)])
    changed = len(set(zip(new_ticks, new_sizes, strict=True)).difference(zip(ticks, sizes, strict=True)))
    return max(changed, 1)


class DomBufferActor(Actor):
    """Keep the DOM buffer of one instrument and tell everybody about each new row (`DomUpdated`)."""

    def __init__(self, bus: EventBus, buffer: DomBuffer) -> None:
        super().__init__(f"dom:{buffer.instrument.instrument_id}")
        self._bus = bus
        self.buffer = buffer
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            BookSnapshot: self._on_book,
            TradeTick: buffer.apply_trade,
            Bar: buffer.apply_bar,
            SessionChanged: lambda _: buffer.start_segment(),
            BookInvalid: lambda _: buffer.start_segment(),
        }

    def on_start(self) -> None:
        """Subscribe to the instrument."""
        for message_type in self._handlers:
            self._bus.subscribe(self.name, message_type, self.buffer.instrument.instrument_id)

    def handle(self, message: Message) -> None:
        """Apply one message to the buffer."""
        self._handlers[type(message)](message)

    def _on_book(self, book: BookSnapshot) -> None:
        self.buffer.apply_book(book)
        self._bus.publish(
            DomUpdated(instrument_id=book.instrument_id, ts_event=book.ts_event, sequence=book.sequence, book=book, dom=self.buffer)
        )
