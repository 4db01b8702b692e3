"""The DOM buffer: the last rows of one instrument's book with the order flow between them, in one preallocated ring."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from operator import ne, sub
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookInvalid, BookSnapshot, DomUpdated, Message, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Float64Array, Rows, Window

BARS_KEPT: Final = 100

_PACKER: Final = struct.Struct(f"<3q{LEVELS}i{LEVELS}f{LEVELS}i{LEVELS}f{len(FLOW_COLUMNS)}f4x")
"""One row is 256 bytes: 160 of book, 68 of flow, 24 of time, sequence and segment, 4 to keep the next row aligned."""

_ROW: Final = np.dtype(
    [
        ("ts_event", "<i8"),
        ("sequence", "<i8"),
        ("segment", "<i8"),
        ("bid_ticks", "<i4", (LEVELS,)),
        ("bid_sizes", "<f4", (LEVELS,)),
        ("ask_ticks", "<i4", (LEVELS,)),
        ("ask_sizes", "<f4", (LEVELS,)),
        ("flow", "<f4", (len(FLOW_COLUMNS),)),
        ("padding", "V4"),
    ]
)
_PADDING: Final = tuple((0,) * (LEVELS - count) for count in range(LEVELS + 1))
_NO_FLOW: Final = (0,) * len(FLOW_COLUMNS)

Levels = tuple[int, ...]


class DomBuffer:
    """The last `max_rows` rows, the last 100 bars, and what traded since the last row. Implements `DomView`.

    A row is appended per book. Its flow is what happened since the row before; the first row of a segment has none, for what
    it would be compared with is on the other side of a joint. Memory is claimed once, here.
    """

    def __init__(self, instrument: Instrument, max_rows: int) -> None:
        self.instrument = instrument
        self.max_rows = max_rows
        self.book: BookSnapshot | None = None
        self._tick_size = float(instrument.tick_size)
        self._bytes = bytearray(max_rows * _PACKER.size)
        self._bars = np.zeros((BARS_KEPT, len(BAR_COLUMNS)))
        self._bar_count = 0
        self._total_rows = 0
        self._segment = 0
        self._rows_in_segment = 0
        self._levels: tuple[Levels, Levels, Levels, Levels] = (_PADDING[0],) * 4
        self._forget_trades()

    # --- writing ---------------------------------------------------------------------------------------------------------

    def append(self, book: BookSnapshot) -> None:
        """Add one row for a sound `book`."""
        bid_ticks = book.bid_ticks + _PADDING[len(book.bid_ticks)]
        bid_sizes = book.bid_sizes + _PADDING[len(book.bid_sizes)]
        ask_ticks = book.ask_ticks + _PADDING[len(book.ask_ticks)]
        ask_sizes = book.ask_sizes + _PADDING[len(book.ask_sizes)]
        flow = self._flow_to(bid_ticks, bid_sizes, ask_ticks, ask_sizes) if self._rows_in_segment else _NO_FLOW
        _PACKER.pack_into(
            self._bytes,
            self._total_rows % self.max_rows * _PACKER.size,
            book.ts_event,
            book.sequence,
            self._segment,
            *bid_ticks,
            *bid_sizes,
            *ask_ticks,
            *ask_sizes,
            *flow,
        )
        self._levels = (bid_ticks, bid_sizes, ask_ticks, ask_sizes)
        self.book = book
        self._total_rows += 1
        self._rows_in_segment += 1
        self._forget_trades()

    def add_trade(self, trade: TradeTick) -> None:
        """Count `trade` into the flow of the next row."""
        if trade.aggressor is Side.BUY:
            self._buy_volume += trade.size
            self._buy_trades += 1
        elif trade.aggressor is Side.SELL:
            self._sell_volume += trade.size
            self._sell_trades += 1
        else:
            self._unknown_volume += trade.size

    def add_bar(self, bar: Bar) -> None:
        """Keep `bar` as the newest, and forget the oldest of more than 100."""
        self._bars[:-1] = self._bars[1:]
        self._bars[-1] = (bar.ts_event / NS_PER_S, bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks, bar.volume)
        self._bar_count = min(self._bar_count + 1, BARS_KEPT)

    def break_segment(self) -> None:
        """Let the next row start a new segment. Until then there are no rows of the present one."""
        if self._rows_in_segment:
            self._segment += 1
            self._rows_in_segment = 0
        self._forget_trades()

    def skip(self, rows: int) -> None:
        """Go on as if `rows` rows had come and gone, more than are held: the next one begins a segment, and numbers go on."""
        self.break_segment()
        self._total_rows += rows

    # --- reading -----------------------------------------------------------------------------------------------------------

    @property
    def row_count(self) -> int:
        """Return how many rows of the current segment are held."""
        return min(self._rows_in_segment, self.max_rows)

    @property
    def total_rows(self) -> int:
        """Return how many rows were ever appended."""
        return self._total_rows

    @property
    def memory_bytes(self) -> int:
        """Return the memory of the rows and the bars."""
        return len(self._bytes) + self._bars.nbytes

    def window(self, rows: int) -> Window:
        """Return a copy of the last `rows` rows of the current segment (fewer if there are fewer) and of the bars."""
        return Window(
            instrument_id=self.instrument.instrument_id,
            tick_size=self._tick_size,
            has_trades=self.instrument.has_trades,
            rows=self._copy(min(rows, self.row_count)),
            bars=self._copy_bars(),
        )

    def rows_since(self, total: int) -> Rows:
        """Return a copy of the rows after the first `total` ever, as far as they are still held."""
        return self._copy(max(0, min(self._total_rows - total, self._total_rows, self.max_rows)))

    def mid_ticks(self) -> float | None:
        """Return the mid of the last row in ticks, or None while a side is empty."""
        bid_ticks, bid_sizes, ask_ticks, ask_sizes = self._levels
        if self._total_rows == 0 or not (bid_sizes[0] and ask_sizes[0]):
            return None
        return (bid_ticks[0] + ask_ticks[0]) / 2

    def _copy(self, count: int) -> Rows:
        # Bytes first: joining two structured arrays would copy field by field.
        end = self._total_rows % self.max_rows * _PACKER.size
        start = end - count * _PACKER.size
        raw = self._bytes[start:end] if start >= 0 else self._bytes[start:] + self._bytes[:end]
        block: npt.NDArray[Any] = np.frombuffer(raw, _ROW)
        return Rows(**{name: block[name].copy() for name in Rows.__slots__})

    def _copy_bars(self) -> Float64Array:
        return self._bars[BARS_KEPT - self._bar_count :].copy()

    # --- flow ----------------------------------------------------------------------------------------------------------------

    def _forget_trades(self) -> None:
        self._buy_volume = self._sell_volume = self._unknown_volume = 0
        self._buy_trades = self._sell_trades = 0

    def _flow_to(self, bid_ticks: Levels, bid_sizes: Levels, ask_ticks: Levels, ask_sizes: Levels) -> Iterable[int]:
        bid_ticks_0, bid_sizes_0, ask_ticks_0, ask_sizes_0 = self._levels
        bid_gains, bid_events = _gains(bid_ticks, bid_sizes, bid_ticks_0, bid_sizes_0, 1)
        ask_gains, ask_events = _gains(ask_ticks, ask_sizes, ask_ticks_0, ask_sizes_0, -1)
        return (
            self._buy_volume,
            self._sell_volume,
            self._unknown_volume,
            self._buy_trades,
            self._sell_trades,
            bid_events,
            ask_events,
            *map(sub, bid_gains, ask_gains),
        )


def _gains(ticks: Levels, sizes: Levels, ticks_0: Levels, sizes_0: Levels, better: int) -> tuple[Iterable[int], int]:
    """Return per level what its side gained in lots, and how many levels changed.

    The order-flow imbalance of Cont, Kukanov and Stoikov (2014), eq. 10, side by side and level by level (Xu, Gould and
    Howison 2019): a better price gains the whole new queue, a worse one loses the whole old queue, the same price gains the
    difference. `better` is +1 where higher is better (bids) and -1 where lower is (asks). A missing level is an empty queue
    at a price that is worse than any: it comes as a gain and goes as a loss of the whole queue.
    """
    if ticks == ticks_0:
        return map(sub, sizes, sizes_0), sum(map(ne, sizes, sizes_0))
    gains = []
    events = 0
    for tick, size, tick_0, size_0 in zip(ticks, sizes, ticks_0, sizes_0, strict=True):
        if tick == tick_0 or not size or not size_0:
            gain = size - size_0
            events += gain != 0 or tick != tick_0
        else:
            gain = size if (tick - tick_0) * better > 0 else -size_0
            events += 1
        gains.append(gain)
    return gains, events


class DomBufferActor(Actor):
    """Feed one instrument's buffer from the bus and publish `DomUpdated` after each row."""

    def __init__(self, bus: EventBus, buffer: DomBuffer) -> None:
        self._instrument_id = buffer.instrument.instrument_id
        super().__init__(f"dom:{self._instrument_id}")
        self._bus = bus
        self.buffer = buffer
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            BookSnapshot: self._on_book,
            TradeTick: buffer.add_trade,
            Bar: buffer.add_bar,
            SessionChanged: self._on_joint,
            BookInvalid: self._on_joint,
        }

    def on_start(self) -> None:
        """Subscribe to the instrument's events."""
        for message_type in self._handlers:
            self._bus.subscribe(self.name, message_type, self._instrument_id)

    def handle(self, message: Message) -> None:
        """Write the message into the buffer."""
        self._handlers[type(message)](message)

    def _on_book(self, book: BookSnapshot) -> None:
        self.buffer.append(book)
        self._bus.publish(
            DomUpdated(instrument_id=self._instrument_id, ts_event=book.ts_event, sequence=book.sequence, book=book, dom=self.buffer)
        )

    def _on_joint(self, _: Message) -> None:
        self.buffer.break_segment()
