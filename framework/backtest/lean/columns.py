"""A recording as arrays, checked once, for many runs over it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.market.catalogue.reading import open_market
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, MarketEvent, Message, SessionChanged, TradeTick
from framework.model import Instrument, Side
from framework.progress import Progress
from framework.window import LEVELS, Int64Array

BOOK, TRADE, PASSED, SAID = range(4)
"""What an event is: a book, a trade, another one that the venue sees too (a session, a bar), or one that only strategies hear."""
CHUNK: Final = 1_024
_NEVER_NS: Final = 1 << 62
_NOTHING: Final = (0,) * LEVELS


class Instant(NamedTuple):
    """What is heard at one time: the events from `first` to before `last`.

    `heard` are trades and words in order, `book` is the newest book, `sessions` are the words that a venue minds, with their places.
    """

    time_ns: int
    first: int
    last: int
    heard: list[Message]
    book: BookSnapshot | None
    sessions: list[tuple[int, SessionChanged]]


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

    def instants(self) -> Iterator[Instant]:
        """Yield everything that is heard at one time together."""
        for begin in range(0, len(self.starts) - 1, CHUNK):
            starts = self.starts[begin : begin + CHUNK + 1].tolist()
            if len(starts) > 1:
                yield from self._instants(starts)

    def _instants(self, starts: list[int]) -> Iterator[Instant]:
        kinds, places = self.kinds[starts[0] : starts[-1]], self.places[starts[0] : starts[-1]]
        books, book_ends = _made(kinds == BOOK, places, starts, self.books)
        ticks, tick_ends = _made(kinds == TRADE, places, starts, self.trade_ticks)
        times = self.times[starts[:-1]].tolist()
        with_words = set((np.searchsorted(starts, np.flatnonzero(kinds > TRADE) + starts[0], side="right") - 1).tolist())
        for number, time_ns in enumerate(times):
            first, last = starts[number], starts[number + 1]
            of_ticks = ticks[tick_ends[number] : tick_ends[number + 1]]
            book = books[book_ends[number + 1] - 1] if book_ends[number + 1] > book_ends[number] else None
            if number in with_words:
                yield Instant(time_ns, first, last, self._heard(first, last, of_ticks), book, self._sessions(first, last))
            else:
                yield Instant(time_ns, first, last, of_ticks, book, _NO_SESSIONS)

    def _heard(self, first: int, last: int, ticks: list[Message]) -> list[Message]:
        of_trades = iter(ticks)
        pairs = zip(self.kinds[first:last].tolist(), self.places[first:last].tolist(), strict=True)
        return [next(of_trades) if kind == TRADE else self.others[place] for kind, place in pairs if kind != BOOK]

    def _sessions(self, first: int, last: int) -> list[tuple[int, SessionChanged]]:
        others = [(event, self.others[self.places[event]]) for event in range(first, last) if self.kinds[event] > TRADE]
        return [(event, other) for event, other in others if isinstance(other, SessionChanged)]

    def books(self, first: int, last: int) -> list[BookSnapshot]:
        """Return the books of the places from `first` to before `last`."""
        facts, levels = self.book_facts[first:last], self.levels[first:last]
        most = max(1, int(facts[:, 3:5].max(initial=0)))
        # Tuples of a whole column at once are far cheaper than one by one; books that are not full are cut below.
        sides = (zip(*[iter(levels[:, place, :most].ravel().tolist())] * most, strict=True) for place in range(4))
        make = _full_book if bool((facts[:, 3:5] == most).all()) else _book
        return [make(self.instrument.instrument_id, *row) for row in zip(facts.tolist(), *sides, strict=True)]

    def trade_ticks(self, first: int, last: int) -> list[TradeTick]:
        """Return the trades of the places from `first` to before `last`."""
        return [_trade(self.instrument.instrument_id, row) for row in self.trades[first:last].tolist()]


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


_NO_SESSIONS: Final[list[tuple[int, SessionChanged]]] = []
Levels = tuple[int, ...]
_SIDES: Final = {1: Side.BUY, -1: Side.SELL, 0: None}


def _made(
    which: npt.NDArray[np.bool_], places: Int64Array, starts: list[int], make: Callable[[int, int], Sequence[Message]]
) -> tuple[list[Any], list[int]]:
    """Return the messages of one kind in a part of the events, and how many of them there are before each of `starts`."""
    rows = places[which]
    made = list(make(int(rows[0]), int(rows[-1]) + 1)) if len(rows) else []
    ends = np.concatenate(([0], np.cumsum(which)))[np.asarray(starts) - starts[0]]
    return made, ends.tolist()


def _full_book(instrument_id: str, facts: list[int], *sides: Levels) -> BookSnapshot:
    bid_ticks, bid_sizes, ask_ticks, ask_sizes = sides
    return BookSnapshot(
        instrument_id=instrument_id,
        ts_event=facts[0],
        ts_recv=facts[1],
        sequence=facts[2],
        bid_ticks=bid_ticks,
        bid_sizes=bid_sizes,
        ask_ticks=ask_ticks,
        ask_sizes=ask_sizes,
    )


def _book(instrument_id: str, facts: list[int], *sides: Levels) -> BookSnapshot:
    bid_ticks, bid_sizes, ask_ticks, ask_sizes = sides
    bids, asks = facts[3], facts[4]
    return _full_book(instrument_id, facts, bid_ticks[:bids], bid_sizes[:bids], ask_ticks[:asks], ask_sizes[:asks])


def _trade(instrument_id: str, row: list[int]) -> TradeTick:
    ts_event, ts_recv, sequence, price_ticks, size, sign = row
    return TradeTick(
        instrument_id=instrument_id,
        ts_event=ts_event,
        ts_recv=ts_recv,
        sequence=sequence,
        price_ticks=price_ticks,
        size=size,
        aggressor=_SIDES[sign],
    )
