"""A paper venue in another process, as a `Venue`: requests go over a line, what it says comes back over it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from framework import unix_sockets
from framework.clock import Clock
from framework.config import PaperConfig
from framework.errors import StartRefused, WireError
from framework.messages import (
    BookSnapshot,
    ExecutionReport,
    MarketEvent,
    ReplaceOrder,
    ReportKind,
    SessionChanged,
    SubmitOrder,
    TradeTick,
)
from framework.model import Instrument
from framework.trading.records import MarginCalled
from framework.venues.elsewhere.frames import (
    SOCKET_NAME,
    Bye,
    Called,
    Cancel,
    Frame,
    Hello,
    Lots,
    Reconcile,
    Refused,
    Replace,
    Report,
    Restore,
    Saw,
    Submit,
    Unpacker,
    Welcome,
    from_venue,
    pack,
)
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, SWEEP_NS, Booked, Holder, RestingOrder, answer

MOST_UNSENT: Final = 8 * 1024 * 1024
CONNECT_S: Final = 5.0
DOWN: Final = "the line to the venue is down"
_FIELDS: Final[Mapping[type, str]] = {BookSnapshot: "book", TradeTick: "trade", SessionChanged: "session"}
log = logging.getLogger("Venue")


class VenueElsewhere(asyncio.Protocol):
    """The line for orders to a `Host` in a directory. `connect` comes first, then everything as the port says.

    What cannot be sent is reported LOST. `on_heard` is called before a report is handed over (to bring market time up to date), `on_lost`
    when the line breaks: orders that rest at the venue are still there.
    """

    name = "PAPER"
    sweep_ns = SWEEP_NS

    def __init__(self, settings: PaperConfig, instruments: Iterable[Instrument], *, speed: float) -> None:
        self._settings = settings
        self._instruments = tuple(instruments)
        self._speed = speed
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self._clock: Clock | None = None
        self._sink: Callable[[ExecutionReport], None] | None = None
        self.on_heard: Callable[[], None] = lambda: None
        self.on_lost: Callable[[str], None] = lambda _: None
        self._on_margin: Callable[[MarginCalled], None] = lambda _: None
        self.reports = self.lost_requests = 0
        self._is_lost = False

    async def connect(self, directory: Path) -> None:
        """Connect to the venue in a directory. Raises `StartRefused` if none is there."""
        loop = asyncio.get_running_loop()
        try:
            connection = unix_sockets.connect(directory, SOCKET_NAME, CONNECT_S)
            connection.settimeout(0)
            await loop.create_unix_connection(lambda: self, sock=connection)
        except OSError as exc:
            raise StartRefused(f"no venue answers at {directory / SOCKET_NAME}: {exc.strerror or exc}") from exc

    # --- asyncio.Protocol ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the line."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's family
        self._transport.set_write_buffer_limits(high=MOST_UNSENT)

    def data_received(self, data: bytes) -> None:
        """Hand over what the venue says."""
        try:
            for body in self._unpacker.feed(data):
                self._hear(from_venue(body))
        except WireError as exc:
            self._break(str(exc))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, unless it was ended here."""
        self._transport = None
        self._lose(f"{DOWN}: {exc or 'the venue has closed it'}")

    def _hear(self, frame: Frame) -> None:
        match frame:
            case Report(report=report, question=question) if self._sink is not None:
                self.reports += 1
                self.on_heard()
                self._sink(answer(report, question))
            case Called(called=called):
                self.on_heard()
                self._on_margin(called)
            case Refused(reason=reason):
                self._break(f"the venue refuses: {reason}")
            case Welcome(open_orders=count) if count:
                log.warning("the venue still has %d orders of the run before", count)

    def _break(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.close()
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        if self._sink is not None and not self._is_lost:
            self._is_lost = True
            self.on_lost(reason)

    # --- Venue -------------------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Say what trades; reports go to `sink`."""
        self._clock, self._sink = clock, sink
        self._send(
            Hello(now_ns=clock.now_ns(), settings=self._settings.model_dump_json(), instruments=self._instruments, speed=self._speed)
        )

    def submit(self, order: SubmitOrder) -> None:
        """Send an order."""
        self._request(order.client_order_id, Submit(now_ns=self._now_ns(), order=order))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel."""
        self._request(client_order_id, Cancel(now_ns=self._now_ns(), client_order_id=client_order_id))

    def replace(self, change: ReplaceOrder) -> None:
        """Send a change."""
        self._request(change.client_order_id, Replace(now_ns=self._now_ns(), change=change))

    def on_market(self, event: MarketEvent) -> None:
        """Show the venue a market event."""
        field = _FIELDS.get(type(event))
        if field is not None:
            self._send(Saw(now_ns=self._now_ns(), **{field: event}))  # type: ignore[arg-type]

    def on_margin_call(self, sink: Callable[[MarginCalled], None]) -> None:
        """Have margin calls told to `sink`."""
        self._on_margin = sink

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        """Ask what became of orders."""
        self._send(Reconcile(now_ns=self._now_ns(), client_order_ids=tuple(client_order_ids), question=question))

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """Hand over orders and positions of the run before; the venue keeps what it knows better."""
        held = tuple(Lots(*holder, lots) for holder, lots in positions.items())
        money = {name: (str(one.quantity), str(one.open_cost), str(one.realized), str(one.fees)) for name, one in booked.items()}
        self._send(Restore(now_ns=self._now_ns(), orders=tuple(orders), positions=held, booked=money))

    def stop(self) -> None:
        """Let the venue end: what rests there is in the journal, and comes back with the next start."""
        self._sink = None
        self._send(Bye())
        if self._transport is not None:
            self._transport.close()

    # --- inside --------------------------------------------------------------------------------------------------------------------

    def _request(self, client_order_id: str, frame: Frame) -> None:
        if self._send(frame):
            return
        self.lost_requests += 1
        report = ExecutionReport(client_order_id=client_order_id, kind=ReportKind.LOST, ts_event=self._now_ns(), reason=DOWN)
        asyncio.get_running_loop().call_soon(self._deliver, report)

    def _deliver(self, report: ExecutionReport) -> None:
        if self._sink is not None:
            self._sink(report)

    def _send(self, frame: Frame) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > MOST_UNSENT:
            return False
        transport.write(pack(frame))
        return True

    def _now_ns(self) -> int:
        return self._clock.now_ns() if self._clock is not None else 0
