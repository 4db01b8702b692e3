"""The kill line to a paper venue in another process: a connection of its own, which blocks and needs no event loop."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Final

from framework import unix_sockets
from framework.errors import StorageError, WireError
from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import Side
from framework.venues.elsewhere.frames import (
    SOCKET_NAME,
    CancelEverything,
    Frame,
    Look,
    Refused,
    Report,
    Submit,
    Unpacker,
    from_venue,
    pack,
)
from framework.venues.elsewhere.frames import Standing as StandingFrame
from framework.venues.port import Standing

ANSWER_S: Final = 2.0
_ENDS: Final = frozenset({ReportKind.REJECTED, ReportKind.CANCELED, ReportKind.EXPIRED})


class PaperKillLine:
    """A `KillLine` to the `Host` in a directory, or to the kill process, which says the same. Raises `OSError` where nobody listens."""

    def __init__(self, directory: Path, name: str = SOCKET_NAME) -> None:
        self._connection = unix_sockets.connect(directory, name, ANSWER_S)
        self._unpacker = Unpacker()
        self._bodies: deque[bytes] = deque()
        self._number = 0
        self._quotes: dict[str, tuple[int | None, int | None]] = {}

    def fileno(self) -> int:
        """Return the descriptor of the connection: it is readable when the venue has gone."""
        return self._connection.fileno()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    # --- KillLine --------------------------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Return what is open and held at the venue. Raises `StorageError` if it does not answer in time."""
        self._number += 1
        self._send(Look(number=self._number))
        end_s = time.monotonic() + ANSWER_S
        while True:
            frame = self._next(end_s)
            if isinstance(frame, StandingFrame) and frame.number == self._number:
                self._quotes = {quote.instrument_id: (quote.bid_ticks, quote.ask_ticks) for quote in frame.quotes}
                held = {(one.strategy_id, one.instrument_id): one.lots for one in frame.positions}
                return Standing(frame.open_orders, held, frame.canceled)

    def cancel_everything(self) -> None:
        """Ask for a cancel of every order that is open."""
        self._send(CancelEverything())

    def best(self, instrument_id: str, side: Side) -> int | None:
        """Return the best price of a side, as it was at the last `standing`."""
        bid, ask = self._quotes.get(instrument_id, (None, None))
        return bid if side is Side.BUY else ask

    def send(self, order: SubmitOrder) -> tuple[ExecutionReport, ...]:
        """Send an order that does not rest, and return what the venue says of it until it has ended, or as much as came in time."""
        self._send(Submit(order=order))
        said: list[ExecutionReport] = []
        end_s = time.monotonic() + ANSWER_S
        while not _has_ended(order, said):
            try:
                frame = self._next(end_s)
            except NoAnswer:
                break
            if isinstance(frame, Report) and frame.report.client_order_id == order.client_order_id:
                said.append(frame.report)
        return tuple(said)

    # --- inside ------------------------------------------------------------------------------------------------------------------

    def _send(self, frame: Frame) -> None:
        try:
            self._connection.settimeout(ANSWER_S)
            self._connection.sendall(pack(frame))
        except OSError as exc:
            raise StorageError(f"the venue does not take what it is told: {exc.strerror or exc}") from exc

    def _next(self, end_s: float) -> Frame:
        """Return the next thing that the venue says. Raises `NoAnswer` when there is none in time."""
        try:
            while not self._bodies:
                self._connection.settimeout(max(0.001, end_s - time.monotonic()))
                data = self._connection.recv(65_536)
                if not data:
                    raise StorageError("the venue has closed the kill line")
                self._bodies.extend(self._unpacker.feed(data))
            frame = from_venue(self._bodies.popleft())
        except TimeoutError as exc:
            raise NoAnswer(f"the venue did not answer within {ANSWER_S:g} s") from exc
        except (OSError, WireError) as exc:
            raise StorageError(f"the kill line to the venue broke: {exc}") from exc
        if isinstance(frame, Refused):
            raise StorageError(f"the venue refuses: {frame.reason}")
        return frame


class NoAnswer(StorageError):
    """The venue did not answer in time."""


def _has_ended(order: SubmitOrder, said: list[ExecutionReport]) -> bool:
    filled = sum(report.last_quantity for report in said if report.kind is ReportKind.FILLED)
    return filled >= order.quantity or any(report.kind in _ENDS for report in said)
