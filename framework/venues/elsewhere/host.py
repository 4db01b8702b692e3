"""The paper venue in a process of its own: lines come and go, what rests stays."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import pydantic

from framework import unix_sockets
from framework.clock import EventClock, Timer
from framework.errors import TidebookError, WireError
from framework.messages import BookSnapshot, ExecutionReport
from framework.model import NS_PER_S
from framework.trading.records import MarginCalled
from framework.venues.elsewhere.frames import (
    SOCKET_NAME,
    Bye,
    Called,
    Cancel,
    CancelEverything,
    Frame,
    Hello,
    Look,
    Lots,
    Quote,
    Reconcile,
    Refused,
    Replace,
    Report,
    Restore,
    Saw,
    Standing,
    Submit,
    Unpacker,
    Welcome,
    pack,
    settings_of,
    to_venue,
)
from framework.venues.paper import PaperVenue
from framework.venues.port import Answer, Booked, plain

MOST_LINES: Final = 8
MOST_UNSENT: Final = 8 * 1024 * 1024
log = logging.getLogger("Venue")


class Line(asyncio.Protocol):
    """One connection. What cannot be sent because the other end does not read is counted and lost: whoever asks is told again."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, if it is one of ours."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's family
        self._transport.set_write_buffer_limits(high=MOST_UNSENT)
        if not self._host.takes(self, transport.get_extra_info("socket")):
            self.close()

    def data_received(self, data: bytes) -> None:
        """Take what was said. A line that says what is no frame is closed."""
        try:
            for body in self._unpacker.feed(data):
                self._host.hear(self, body)
        except WireError as exc:
            log.warning("a line is closed: %s", exc)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the port's signature)
        """Forget the line."""
        self._host.lost(self)

    def send(self, frame: Frame) -> bool:
        """Say something; return whether there was room for it."""
        if self._transport is None or self._transport.is_closing() or self._transport.get_write_buffer_size() > MOST_UNSENT:
            return False
        self._transport.write(pack(frame))
        return True

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


class Host:
    """Serve a `PaperVenue` on a socket in a directory.

    The line for orders begins with `Hello`, and the newest one counts; every other line may look, cancel everything and send orders of
    its own. Market time is what the line for orders says, and goes on at its speed between two words: what is under way arrives, also
    while the process at the other end stands still. `ended` is set by a clean stop.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: asyncio.Server | None = None
        self._lines: set[Line] = set()
        self._orders: Line | None = None
        self._senders: dict[str, Line] = {}
        self._venue: PaperVenue | None = None
        self._quotes: dict[str, Quote] = {}
        self._pace = Pace(EventClock(), speed=1.0, now_s=0.0)
        self.counts: Counter[str] = Counter()
        self.ended = asyncio.Event()
        self.left_s = 0.0
        self._handlers: dict[type, Callable[[Line, Any], None]] = {
            Hello: self._on_hello,
            Saw: self._on_market,
            Submit: self._on_submit,
            Cancel: lambda _, frame: self._running().cancel(frame.client_order_id),
            Replace: lambda _, frame: self._running().replace(frame.change),
            Reconcile: lambda _, frame: self._running().reconcile(frame.client_order_ids, frame.question),
            Restore: self._on_restore,
            Bye: lambda _line, _frame: self.ended.set(),
            Look: self._on_look,
            CancelEverything: self._on_cancel_everything,
        }

    async def start(self) -> None:
        """Bind and listen. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self.left_s = loop.time()
        listener = unix_sockets.listen(self._directory, SOCKET_NAME)
        self._server = await loop.create_unix_server(lambda: Line(self), sock=listener)

    def stop(self) -> None:
        """Close every line and the socket."""
        self._pace.stop()
        for line in tuple(self._lines):
            line.close()
        if self._server is not None:
            self._server.close()
            (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    @property
    def has_orders_line(self) -> bool:
        """Return whether somebody trades here."""
        return self._orders is not None

    # --- lines -----------------------------------------------------------------------------------------------------------------

    def takes(self, line: Line, connection: Any) -> bool:
        """Return whether a new line is heard."""
        is_taken = unix_sockets.is_ours(connection) and len(self._lines) < MOST_LINES
        if is_taken:
            self._lines.add(line)
        self.counts["lines" if is_taken else "lines_refused"] += 1
        return is_taken

    def lost(self, line: Line) -> None:
        """Forget a line; orders of whoever was at the other end stay."""
        self._lines.discard(line)
        self._senders = {name: sender for name, sender in self._senders.items() if sender is not line}
        if line is self._orders:
            self._orders, self.left_s = None, asyncio.get_running_loop().time()

    def hear(self, line: Line, body: bytes) -> None:
        """Do what a line says. Raises `WireError` for what is no frame."""
        frame = to_venue(body)
        if self._venue is None and not isinstance(frame, Hello | Bye | Look):
            line.send(Refused(reason="no line for orders has said yet what trades here"))
            return
        self._pace.told(frame.now_ns)
        self._handlers[type(frame)](line, frame)
        self._pace.arm()

    # --- what they ask for -------------------------------------------------------------------------------------------------------

    def _on_hello(self, line: Line, hello: Hello) -> None:
        """Begin, or go on for somebody who has started again: open orders stand at the end of their queues."""
        try:
            venue = PaperVenue(settings_of(hello), hello.instruments)
        except (pydantic.ValidationError, TidebookError) as exc:
            line.send(Refused(reason=str(exc)))
            return
        before, clock = self._venue, EventClock(hello.now_ns)
        self._pace.stop()
        self._pace = Pace(clock, speed=hello.speed, now_s=asyncio.get_running_loop().time())
        venue.start(clock, self._say)
        venue.on_margin_call(self._call)
        if before is not None:
            before.stop()
            venue.take_over(before)
        self._venue, self._orders, self._quotes = venue, line, {}
        line.send(Welcome(open_orders=len(venue.standing().open_orders)))

    def _on_market(self, _: Line, saw: Saw) -> None:
        event = saw.book or saw.trade or saw.session
        if event is not None:
            self._running().on_market(event)
        if isinstance(event, BookSnapshot):
            self._quotes[event.instrument_id] = _quote(event)

    def _on_submit(self, line: Line, submit: Submit) -> None:
        if line is not self._orders:
            self._senders[submit.order.client_order_id] = line
        self._running().submit(submit.order)

    def _on_restore(self, _: Line, restore: Restore) -> None:
        positions = {(one.strategy_id, one.instrument_id): one.lots for one in restore.positions}
        booked = {name: Booked(int(lots), int(cost), int(made), Decimal(fees)) for name, (lots, cost, made, fees) in restore.booked.items()}
        self._running().restore(restore.orders, positions, booked)

    def _on_look(self, line: Line, look: Look) -> None:
        standing = self._venue.standing() if self._venue is not None else None
        held = tuple(Lots(*holder, lots) for holder, lots in standing.positions.items() if lots) if standing is not None else ()
        names = standing.open_orders if standing is not None else ()
        line.send(Standing(number=look.number, open_orders=names, positions=held, quotes=tuple(self._quotes.values())))

    def _on_cancel_everything(self, _: Line, __: CancelEverything) -> None:
        venue = self._running()
        for name in venue.standing().open_orders:
            self.counts["canceled_by_others"] += 1
            venue.cancel(name)

    # --- what the venue says -------------------------------------------------------------------------------------------------------

    def _say(self, report: ExecutionReport) -> None:
        frame = Report(report=plain(report), question=report.question if isinstance(report, Answer) else 0)
        for line in (self._orders, self._senders.get(report.client_order_id)):
            if line is not None and not line.send(frame):
                self.counts["reports_unsent"] += 1

    def _call(self, called: MarginCalled) -> None:
        if self._orders is not None and not self._orders.send(Called(called=called)):
            self.counts["reports_unsent"] += 1

    def _running(self) -> PaperVenue:
        assert self._venue is not None
        return self._venue


class Pace:
    """Market time of a venue elsewhere: what it was told, and going on from there at a speed."""

    def __init__(self, clock: EventClock, *, speed: float, now_s: float) -> None:
        self._clock = clock
        self._speed = speed
        self._told_ns, self._told_s = clock.now_ns(), now_s
        self._alarm: Timer | None = None

    def told(self, now_ns: int) -> None:
        """Take the market time of somebody who knows it (0: nobody does); it never goes back."""
        if now_ns > self._clock.now_ns():
            self._told_ns, self._told_s = now_ns, asyncio.get_running_loop().time()
        self._clock.advance_to(self._now_ns())

    def arm(self) -> None:
        """Wake up when the next timer is due."""
        self.stop()
        next_ns = self._clock.next_timer_ns()
        if next_ns is not None:
            wait_s = max(0.0, (next_ns - self._now_ns()) / NS_PER_S / self._speed)
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._run)

    def stop(self) -> None:
        """Sleep until something is heard."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _run(self) -> None:
        self._clock.advance_to(self._now_ns())
        self.arm()

    def _now_ns(self) -> int:
        elapsed_s = asyncio.get_running_loop().time() - self._told_s
        return self._told_ns + round(elapsed_s * self._speed * NS_PER_S)


def _quote(book: BookSnapshot) -> Quote:
    best = (book.bid_ticks[0] if book.bid_ticks else None, book.ask_ticks[0] if book.ask_ticks else None)
    return Quote(book.instrument_id, *best)
