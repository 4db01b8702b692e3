"""A recording as arrays, checked once, for many runs over it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.market.catalogue.reading import open_market
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, MarketEvent, Message, TradeTick
from framework.model import Instrument, Side
from framework.progress import Progress
from framework.window import LEVELS, Int64Array

BOOK, TRADE, PASSED, SAID = range(4)
"""What an event is: a book, a trade, another one that the venue sees too (a session, a bar), or one that only strategies hear."""
CHUNK: Final = 1_024
_NEVER_NS: Final = 1 << 62
_NOTHING: Final = (0,) * LEVELS


Instant = tuple[int, int, Sequence[Message], BookSnapshot | None, Sequence[Message]]
"""What is heard at one time: that time in ns, the place behind its last event, trades and words in order, the newest book; and every
event in order, where that is anything else than trades and then a book."""


class MarketColumns(msgspec.Struct, frozen=True, kw_only=True):
    """What one instrument's strategies and venue are told over a recording, in order.

    Of n events: `times` is the market time at which each is heard, ns; `kinds` and `places` say which row of what it is. Of m books:
    `book_facts` (m, 5) is ts_event, ts_recv, sequence, levels of bids, levels of asks; `levels` (m, 4, 10) bid ticks, bid lots, ask
    ticks, ask lots, zeros behind the last level. Of k trades: `trades` (k, 6) is ts_event, ts_recv, sequence, price in ticks, lots,
    sign of the aggressor (0: not said). `starts` are the places in `times` at which another instant begins, and n at the end.
    """

    instrument: Instrument
    times: Int64Array
    kinds: Int64Array
    places: Int64Array
    starts: Int64Array
    book_facts: Int64Array
    levels: Int64Array
    trades: Int64Array
    others: tuple[Message, ...]

    @property
    def accepted(self) -> int:
        """Return how many events passed the checks of the market, as a whole run counts them."""
        return int((self.kinds <= PASSED).sum())

    def parts(self) -> Iterator[tuple[int, Iterator[Instant]]]:
        """Yield all instants in parts, each with the place behind its last event."""
        for begin in range(0, len(self.starts) - 1, CHUNK):
            starts = self.starts[begin : begin + CHUNK + 1].tolist()
            if len(starts) > 1:
                yield starts[-1], self._instants(starts)

    def _instants(self, starts: list[int]) -> Iterator[Instant]:
        kinds, places = self.kinds[starts[0] : starts[-1]], self.places[starts[0] : starts[-1]]
        books, book_ends = _made(kinds == BOOK, places, starts, self.books)
        ticks, tick_ends = _made(kinds == TRADE, places, starts, self.trade_ticks)
        heard: list[Sequence[Message]] = [ticks[first:last] for first, last in pairwise(tick_ends)]
        newest = [books[last - 1] if last > first else None for first, last in pairwise(book_ends)]
        mixed: list[Sequence[Message]] = [()] * len(heard)
        # Seldom: a word, or a book with something behind it in the same instant.
        odd = kinds != TRADE
        odd[np.asarray(starts[1:]) - starts[0] - 1] &= kinds[np.asarray(starts[1:]) - starts[0] - 1] > TRADE
        for number in {bisect_right(starts, event + starts[0]) - 1 for event in np.flatnonzero(odd).tolist()}:
            in_order = self._in_order(starts[number], starts[number + 1], heard[number])
            heard[number], mixed[number] = [one for one in in_order if type(one) is not BookSnapshot], in_order
        return zip(self.times[starts[:-1]].tolist(), starts[1:], heard, newest, mixed, strict=True)

    def _in_order(self, first: int, last: int, ticks: Sequence[Message]) -> list[Message]:
        of_trades = iter(ticks)
        pairs = zip(self.kinds[first:last].tolist(), self.places[first:last].tolist(), strict=True)
        return [
            next(of_trades) if kind == TRADE else self.books(place, place + 1)[0] if kind == BOOK else self.others[place]
            for kind, place in pairs
        ]

    def books(self, first: int, last: int) -> list[BookSnapshot]:
        """Return the books of the places from `first` to before `last`."""
        facts, levels, instrument_id = self.book_facts[first:last], self.levels[first:last], self.instrument.instrument_id
        most = max(1, int(facts[:, 3:5].max(initial=0)))
        bid_ticks, bid_sizes, ask_ticks, ask_sizes = (levels[:, place, :most] for place in range(4))
        sides = [_stays(bid_ticks), _tuples(bid_sizes), _stays(ask_ticks), _tuples(ask_sizes)]  # books that are not full are cut
        for place, column in ((0, 3), (2, 4)):
            for row in np.flatnonzero(facts[:, column] < most).tolist():
                depth = int(facts[row, column])
                sides[place][row], sides[place + 1][row] = sides[place][row][:depth], sides[place + 1][row][:depth]
        return [
            BookSnapshot(
                instrument_id=instrument_id,
                ts_event=ts_event,
                ts_recv=ts_recv,
                sequence=sequence,
                bid_ticks=bid_ticks,
                bid_sizes=bid_sizes,
                ask_ticks=ask_ticks,
                ask_sizes=ask_sizes,
            )
            for ts_event, ts_recv, sequence, bid_ticks, bid_sizes, ask_ticks, ask_sizes in zip(
                *facts[:, :3].T.tolist(), *sides, strict=True
            )
        ]

    def trade_ticks(self, first: int, last: int) -> list[TradeTick]:
        """Return the trades of the places from `first` to before `last`."""
        instrument_id = self.instrument.instrument_id
        return [
            TradeTick(
                instrument_id=instrument_id,
                ts_event=ts_event,
                ts_recv=ts_recv,
                sequence=sequence,
                price_ticks=price_ticks,
                size=size,
                aggressor=_SIDES[sign],
            )
            for ts_event, ts_recv, sequence, price_ticks, size, sign in zip(
                *[iter(self.trades[first:last].ravel().tolist())] * 6, strict=True
            )
        ]


def read_columns(
    paths: Sequence[Path], instrument_id: str, on_progress: Progress, *, from_ns: int | None = None, to_ns: int | None = None
) -> MarketColumns:
    """Read recordings of any format that `start --market` replays, through the checks that every market passes. Blocks.

    Events of other instruments are left out. Raises what reading raises (`IntegrityError` names the file and the row).
    """
    feed = open_market([str(path) for path in paths])
    instrument = next(one for one in feed.instruments if one.instrument_id == instrument_id)
    clock = EventClock()
    catch = _Catch(instrument, clock)
    market = MarketData(catch, clock, [instrument], (catch.hear,))
    begin_ns, end_ns = from_ns or -_NEVER_NS, to_ns or _NEVER_NS

    def take(event: MarketEvent) -> None:
        if begin_ns <= event.ts_event < end_ns and event.instrument_id == instrument_id:
            market.accept(event)

    ended: list[bool] = []
    feed.start(clock, take, lambda: ended.append(True))
    count = 0
    while not ended and clock.run_next(_NEVER_NS):
        count += 1
        if count % 1_024 == 0:
            on_progress("reading the recordings", feed.progress)
    market.stop()
    feed.stop()
    return catch.columns()


class _Catch(EventBus):
    """Takes the place of the bus: what would be published is written down."""

    def __init__(self, instrument: Instrument, clock: EventClock) -> None:
        super().__init__()
        self._instrument, self._clock = instrument, clock
        self._index = array("q")
        self._facts, self._levels, self._trades = array("q"), array("q"), array("q")
        self._others: list[Message] = []
        self._has_passed = False

    def hear(self, event: MarketEvent) -> None:  # noqa: ARG002 (the signature of a listener)
        """Note that the next message is one that a venue sees too."""
        self._has_passed = True

    def publish(self, message: Message) -> None:
        """Write one message down."""
        kind = type(message)
        if kind is BookSnapshot:
            self._note(BOOK, len(self._facts) // 5)
            self._take_book(message)  # type: ignore[arg-type]
        elif kind is TradeTick:
            self._note(TRADE, len(self._trades) // 6)
            self._take_trade(message)  # type: ignore[arg-type]
        else:
            self._note(PASSED if self._has_passed else SAID, len(self._others))
            self._others.append(message)
        self._has_passed = False

    def columns(self) -> MarketColumns:
        """Return what was written down."""
        index = np.frombuffer(self._index, np.int64).reshape(-1, 3)
        times = index[:, 0].copy()
        starts = np.flatnonzero(np.diff(times, prepend=times[:1] - 1, append=times[-1:] + 1)) if len(times) else np.zeros(1, np.int64)
        return MarketColumns(
            instrument=self._instrument,
            times=times,
            kinds=index[:, 1].copy(),
            places=index[:, 2].copy(),
            starts=starts,
            book_facts=np.frombuffer(self._facts, np.int64).reshape(-1, 5),
            levels=np.frombuffer(self._levels, np.int64).reshape(-1, 4, LEVELS),
            trades=np.frombuffer(self._trades, np.int64).reshape(-1, 6),
            others=tuple(self._others),
        )

    def _note(self, kind: int, place: int) -> None:
        self._index.extend((self._clock.now_ns(), kind, place))

    def _take_book(self, book: BookSnapshot) -> None:
        bids, asks = len(book.bid_ticks), len(book.ask_ticks)
        self._facts.extend((book.ts_event, book.ts_recv, book.sequence, bids, asks))
        pad_bids, pad_asks = _NOTHING[bids:], _NOTHING[asks:]
        self._levels.extend(book.bid_ticks + pad_bids + book.bid_sizes + pad_bids)
        self._levels.extend(book.ask_ticks + pad_asks + book.ask_sizes + pad_asks)

    def _take_trade(self, tick: TradeTick) -> None:
        sign = tick.aggressor.sign if tick.aggressor else 0
        self._trades.extend((tick.ts_event, tick.ts_recv, tick.sequence, tick.price_ticks, tick.size, sign))


_SIDES: Final = {1: Side.BUY, -1: Side.SELL, 0: None}


def _tuples(rows: Int64Array) -> list[tuple[int, ...]]:
    """Return rows as tuples: all at once is far cheaper than one by one."""
    return list(zip(*[iter(rows.ravel().tolist())] * rows.shape[1], strict=True))


def _stays(rows: Int64Array) -> list[tuple[int, ...]]:
    """Return rows as tuples, the same one while a row is as the one before it: prices seldom move."""
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    places = np.flatnonzero(is_new)
    counts = np.diff(places, append=len(rows)).tolist()
    return list(chain.from_iterable(map(repeat, _tuples(rows[places]), counts)))


def _made(
    which: npt.NDArray[np.bool_], places: Int64Array, starts: list[int], make: Callable[[int, int], Sequence[Message]]
) -> tuple[list[Any], list[int]]:
    """Return the messages of one kind in a part of the events, and how many of them there are before each of `starts`."""
    rows = places[which]
    made = list(make(int(rows[0]), int(rows[-1]) + 1)) if len(rows) else []
    ends = np.concatenate(([0], np.cumsum(which)))[np.asarray(starts) - starts[0]]
    return made, ends.tolist()
