"""The gate for market events: what passes is sound; what does not is counted and said, never repaired."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import gt, lt
from typing import Final

from framework.clock import Clock, Timer
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookInvalid, BookRecovered, BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument
from framework.window import LEVELS

INT32_MAX: Final = 2**31 - 1
MAX_AHEAD_NS: Final = 5 * NS_PER_S
MAX_JUMP: Final = 10
CONFIRMATIONS: Final = 3
STALE_GAPS: Final = 10


class _Watch:
    """What is known of one instrument's stream."""

    __slots__ = (
        "arrived_ns",
        "ask_ticks",
        "bid_ticks",
        "books_since_check",
        "checked_ns",
        "gap_ns",
        "instrument_id",
        "is_open",
        "is_sound",
        "mid",
        "sequence",
        "spell",
        "suspects",
        "timer",
        "trade_ts",
        "ts",
        "usual_gap_ns",
    )

    def __init__(self, instrument: Instrument) -> None:
        self.instrument_id = instrument.instrument_id
        self.gap_ns = round(instrument.session_gap_s * NS_PER_S)
        self.is_open = True
        self.is_sound = False
        self.spell = ""  # the reason that opened the present bad spell
        self.suspects: deque[tuple[str, int]] = deque(maxlen=CONFIRMATIONS)
        self.bid_ticks: tuple[int, ...] = ()
        self.ask_ticks: tuple[int, ...] = ()
        self.mid = 0  # bid + ask of the last sound two-sided book
        self.sequence: int | None = None
        self.ts: int | None = None
        self.trade_ts = 0
        self.arrived_ns = 0
        self.timer: Timer | None = None
        self.checked_ns = 0
        self.books_since_check = 0
        self.usual_gap_ns = 0


class MarketData:
    """Validate events, tell listeners (a paper venue matches first), then publish.

    A book is refused when it is malformed, too deep, has a size that is not positive, unsorted levels, is crossed or locked, stamped
    more than 5 s ahead of its arrival, runs backwards in time or sequence, or jumps more than tenfold. The first refused
    book opens a bad spell (one `BookInvalid`, `is_sound` False), the next sound one closes it (`BookRecovered`). A repeated
    sequence is only ignored and counted. A sequence that restarts, or a jump, is believed once three books in a row agree.

    A pause of more than `session_gap_s` between books is published as `SessionChanged` closed and open, and starts a new
    sequence. No book for `stale_after_s` of market time (or ten times the usual gap, if that is longer) while the session is
    open is a bad spell too. A refused trade is counted and dropped, and says nothing about the book.

    `tap` sees every event as it came, before all checks: the place of a `Recorder`.
    """

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        instruments: Iterable[Instrument],
        listeners: Sequence[Callable[[MarketEvent], None]] = (),
        *,
        stale_after_s: float = 5.0,
        tap: Callable[[MarketEvent], None] | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._watches = {instrument.instrument_id: _Watch(instrument) for instrument in instruments}
        self._listeners = tuple(listeners)
        self._stale_after_ns = round(stale_after_s * NS_PER_S)
        self._tap = tap
        self._accepts: dict[type, Callable[[_Watch, MarketEvent], None]] = {
            BookSnapshot: self._accept_book,  # type: ignore[dict-item]
            TradeTick: self._accept_trade,  # type: ignore[dict-item]
            Bar: self._accept_bar,
            SessionChanged: self._accept_session,  # type: ignore[dict-item]
        }
        self.refused: Counter[str] = Counter()
        self.accepted = 0

    def accept(self, event: MarketEvent) -> None:
        """Take one event from a feed. Never raises for a bad event."""
        if self._tap is not None:
            self._tap(event)
        watch = self._watches.get(event.instrument_id)
        if watch is None:
            self.refused["unknown_instrument"] += 1
            return
        self._accepts[type(event)](watch, event)

    def is_sound(self, instrument_id: str) -> bool:
        """Return whether the last book of the instrument passed and is not stale."""
        watch = self._watches.get(instrument_id)
        return watch is not None and watch.is_sound

    def bad_spell(self, instrument_id: str) -> str:
        """Return why the books of the instrument have been bad since the last sound one, or ""; before the first one it is ""."""
        watch = self._watches.get(instrument_id)
        return watch.spell if watch is not None else ""

    def stats(self) -> dict[str, int]:
        """Return counters: accepted, and refused by reason."""
        return {"accepted": self.accepted} | {f"refused_{reason}": count for reason, count in sorted(self.refused.items())}

    def stop(self) -> None:
        """Cancel the timers of the staleness check."""
        for watch in self._watches.values():
            if watch.timer is not None:
                watch.timer.cancel()
                watch.timer = None

    # --- one event at a time ---------------------------------------------------------------------------------------------

    def _accept_book(self, watch: _Watch, book: BookSnapshot) -> None:
        reason = _fault_in(book, watch) or _fault_in_order(watch, book)
        if reason == "repeat":
            self.refused[reason] += 1
            return
        if reason and not _is_confirmed(watch, reason, book):
            self._refuse_book(watch, book, reason)
            return
        if watch.is_open and watch.ts is not None and book.ts_event - watch.ts > watch.gap_ns:
            self._split_session(watch, book.ts_event)
        watch.ts, watch.sequence = book.ts_event, book.sequence
        bids, asks = watch.bid_ticks, watch.ask_ticks = book.bid_ticks, book.ask_ticks
        if bids and asks:
            watch.mid = bids[0] + asks[0]
        watch.arrived_ns = self._clock.now_ns()
        watch.books_since_check += 1
        if not watch.is_sound:
            self._recover(watch, book)
        if watch.timer is None:
            self._arm(watch)
        self._pass_on(book)

    def _accept_trade(self, watch: _Watch, trade: TradeTick) -> None:
        reason = _fault_in_trade(watch, trade)
        if reason:
            self.refused[reason] += 1
            return
        watch.trade_ts = trade.ts_event
        self._pass_on(trade)

    def _accept_bar(self, _: _Watch, bar: MarketEvent) -> None:
        self._pass_on(bar)

    def _accept_session(self, watch: _Watch, change: SessionChanged) -> None:
        watch.is_open = change.is_open
        watch.sequence = None
        self._pass_on(change)

    def _pass_on(self, event: MarketEvent) -> None:
        self.accepted += 1
        for listener in self._listeners:
            listener(event)
        self._bus.publish(event)

    # --- spells and sessions -----------------------------------------------------------------------------------------------

    def _refuse_book(self, watch: _Watch, book: BookSnapshot, reason: str) -> None:
        self.refused[reason] += 1
        self._open_spell(watch, book.ts_event, reason)

    def _open_spell(self, watch: _Watch, ts_event: int, reason: str) -> None:
        watch.is_sound = False
        if not watch.spell:
            watch.spell = reason
            self._bus.publish(BookInvalid(instrument_id=watch.instrument_id, ts_event=ts_event, reason=reason))

    def _recover(self, watch: _Watch, book: BookSnapshot) -> None:
        watch.is_sound = True
        watch.suspects.clear()
        if watch.spell:
            watch.spell = ""
            self._bus.publish(BookRecovered(instrument_id=watch.instrument_id, ts_event=book.ts_event))

    def _split_session(self, watch: _Watch, ts_event: int) -> None:
        for is_open in (False, True):
            self._pass_on(SessionChanged(instrument_id=watch.instrument_id, ts_event=ts_event, is_open=is_open, reason="gap"))

    # --- staleness: one lazy timer per instrument ----------------------------------------------------------------------------

    def _arm(self, watch: _Watch) -> None:
        watch.checked_ns, watch.books_since_check = watch.arrived_ns, 0
        watch.timer = self._clock.call_at(watch.arrived_ns + self._stale_limit_ns(watch), partial(self._check_stale, watch))

    def _check_stale(self, watch: _Watch) -> None:
        watch.timer = None
        if not watch.is_open:
            return
        if watch.books_since_check:
            watch.usual_gap_ns = (watch.arrived_ns - watch.checked_ns) // watch.books_since_check
        if self._clock.now_ns() - watch.arrived_ns < self._stale_limit_ns(watch):
            self._arm(watch)
            return
        self.refused["stale"] += 1
        self._open_spell(watch, self._clock.now_ns(), "stale")

    def _stale_limit_ns(self, watch: _Watch) -> int:
        return max(self._stale_after_ns, STALE_GAPS * watch.usual_gap_ns)


def _fault_in(book: BookSnapshot, watch: _Watch) -> str:
    """Return what is wrong with `book` taken alone, or an empty string. Prices that the last sound book had need no second look."""
    if not _is_whole(book):
        return "not_whole_numbers"
    bids, asks = book.bid_ticks, book.ask_ticks
    fault = "" if bids == watch.bid_ticks and _are_sizes(bids, book.bid_sizes) else _fault_in_side(bids, book.bid_sizes, gt)
    if not fault and not (asks == watch.ask_ticks and _are_sizes(asks, book.ask_sizes)):
        fault = _fault_in_side(asks, book.ask_sizes, lt)
    if fault:
        return fault
    if bids and asks and bids[0] >= asks[0]:
        return "crossed" if bids[0] > asks[0] else "locked"
    return "future" if book.ts_event > book.ts_recv + MAX_AHEAD_NS else ""


def _is_whole(book: BookSnapshot) -> bool:
    # The sum of whole numbers is an int; anything else in a tuple (a float, NaN, text, None) shows.
    try:
        levels = sum(book.bid_ticks) + sum(book.bid_sizes) + sum(book.ask_ticks) + sum(book.ask_sizes)
        return type(levels + book.ts_event + book.ts_recv + book.sequence) is int
    except TypeError:
        return False


def _are_sizes(ticks: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    return len(ticks) == len(sizes) and (not sizes or (min(sizes) > 0 and max(sizes) <= INT32_MAX))


def _fault_in_side(ticks: tuple[int, ...], sizes: tuple[int, ...], in_order: Callable[[int, int], bool]) -> str:
    if len(ticks) != len(sizes):
        return "ragged"
    if not ticks:
        return ""
    if len(ticks) > LEVELS:
        return "too_deep"
    if not all(map(in_order, ticks, ticks[1:])):
        return "unsorted"
    if min(sizes) <= 0:
        return "size_not_positive"
    is_in_range = max(sizes) <= INT32_MAX and abs(ticks[0]) <= INT32_MAX and abs(ticks[-1]) <= INT32_MAX
    return "" if is_in_range else "out_of_range"


def _fault_in_order(watch: _Watch, book: BookSnapshot) -> str:
    """Return what is wrong with `book` after the books before it, or an empty string."""
    if watch.ts is None or book.ts_event - watch.ts > watch.gap_ns:
        return ""
    if watch.sequence is not None and book.sequence <= watch.sequence:
        return "repeat" if book.sequence == watch.sequence else "sequence_backwards"
    if book.ts_event < watch.ts:
        return "time_backwards"
    if watch.mid > 0 and book.bid_ticks and book.ask_ticks:
        mid = book.bid_ticks[0] + book.ask_ticks[0]
        if mid > MAX_JUMP * watch.mid or mid * MAX_JUMP < watch.mid:
            return "jump"
    return ""


def _is_confirmed(watch: _Watch, reason: str, book: BookSnapshot) -> bool:
    """Return whether a run of three books with rising sequences tells the same new story (a restart, a new price)."""
    if reason not in ("sequence_backwards", "jump"):
        watch.suspects.clear()
        return False
    suspects = watch.suspects
    if suspects and (suspects[-1][0] != reason or suspects[-1][1] >= book.sequence):
        suspects.clear()
    suspects.append((reason, book.sequence))
    return len(suspects) == CONFIRMATIONS and watch.ts is not None and book.ts_event >= watch.ts


def _fault_in_trade(watch: _Watch, trade: TradeTick) -> str:
    if type(trade.price_ticks) is not int or type(trade.size) is not int:
        return "trade_not_whole_numbers"
    if trade.size <= 0:
        return "trade_size_not_positive"
    if trade.size > INT32_MAX or abs(trade.price_ticks) > INT32_MAX:
        return "trade_out_of_range"
    if trade.ts_event > trade.ts_recv + MAX_AHEAD_NS:
        return "trade_future"
    return "trade_time_backwards" if trade.ts_event < watch.trade_ts else ""
