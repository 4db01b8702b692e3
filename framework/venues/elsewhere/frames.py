"""What goes over a line to a venue in another process: msgpack messages, each behind its length in four bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from framework.config import PaperConfig
from framework.errors import ErrorCode, WireError
from framework.messages import BookSnapshot, ExecutionReport, ReplaceOrder, SessionChanged, SubmitOrder, TradeTick
from framework.model import Instrument
from framework.trading.records import MarginCalled
from framework.venues.port import RestingOrder

SOCKET_NAME: Final = "venue.sock"
MAX_FRAME: Final = 4 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that is sent. `now_ns` is the market time of who sends it, 0 for who has none."""

    now_ns: int = 0


# --- to the venue ----------------------------------------------------------------------------------------------------------


class Hello(Frame, frozen=True, kw_only=True):
    """The line for orders begins: the venue's rules (`PaperConfig` as JSON), what trades, how fast market time runs."""

    settings: str
    instruments: tuple[Instrument, ...]
    speed: float


class Saw(Frame, frozen=True, kw_only=True):
    """A market event; one of them is set."""

    book: BookSnapshot | None = None
    trade: TradeTick | None = None
    session: SessionChanged | None = None


class Submit(Frame, frozen=True, kw_only=True):
    """An order."""

    order: SubmitOrder


class Cancel(Frame, frozen=True, kw_only=True):
    """A cancel."""

    client_order_id: str


class Replace(Frame, frozen=True, kw_only=True):
    """A change."""

    change: ReplaceOrder


class Reconcile(Frame, frozen=True, kw_only=True):
    """What became of these orders?"""

    client_order_ids: tuple[str, ...]
    question: int = 0


class Lots(msgspec.Struct, frozen=True, array_like=True):
    """A signed position of a strategy."""

    strategy_id: str
    instrument_id: str
    lots: int


class Restore(Frame, frozen=True, kw_only=True):
    """Orders and positions of the run before, and what was booked by instrument (`Booked` in texts: integers may be beyond 64 bits)."""

    orders: tuple[RestingOrder, ...]
    positions: tuple[Lots, ...]
    booked: dict[str, tuple[str, str, str, str]] = {}


class Bye(Frame, frozen=True, kw_only=True):
    """A clean stop: the venue may end."""


class Look(Frame, frozen=True, kw_only=True):
    """What stands? Answered with `Standing` of the same number."""

    number: int


class CancelEverything(Frame, frozen=True, kw_only=True):
    """Cancel whatever rests, of whomever."""


# --- from the venue --------------------------------------------------------------------------------------------------------


class Welcome(Frame, frozen=True, kw_only=True):
    """The line is heard; `open_orders` are there already."""

    open_orders: int = 0


class Refused(Frame, frozen=True, kw_only=True):
    """The line is not heard, and why."""

    reason: str


class Report(Frame, frozen=True, kw_only=True):
    """The venue's word about an order, and the number of the question that it answers."""

    report: ExecutionReport
    question: int = 0


class Called(Frame, frozen=True, kw_only=True):
    """A margin call."""

    called: MarginCalled


class Quote(msgspec.Struct, frozen=True, array_like=True):
    """The best prices of an instrument, as the venue has them."""

    instrument_id: str
    bid_ticks: int | None
    ask_ticks: int | None


class Standing(Frame, frozen=True, kw_only=True):
    """Orders that are open at the venue, positions that are not flat, and the market; what a kill line canceled by itself."""

    number: int
    open_orders: tuple[str, ...]
    positions: tuple[Lots, ...]
    quotes: tuple[Quote, ...]
    canceled: tuple[str, ...] = ()


ToVenue = Hello | Saw | Submit | Cancel | Replace | Reconcile | Restore | Bye | Look | CancelEverything
FromVenue = Welcome | Refused | Report | Called | Standing
_encode: Final = msgspec.msgpack.Encoder().encode
_to_venue: Final[msgspec.msgpack.Decoder[ToVenue]] = msgspec.msgpack.Decoder(ToVenue)
_from_venue: Final[msgspec.msgpack.Decoder[FromVenue]] = msgspec.msgpack.Decoder(FromVenue)


def pack(frame: Frame) -> bytes:
    """Return a frame as it goes over the line. Raises `WireError` for one that is longer than a line takes."""
    body = _encode(frame)
    if len(body) > MAX_FRAME:
        raise WireError(ErrorCode.BAD_FIELD, f"a frame of {len(body)} bytes; allowed {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


def to_venue(body: bytes) -> ToVenue:
    """Return what was said to a venue. Raises `WireError` for what is no frame."""
    with _typed_errors():
        return _to_venue.decode(body)


def from_venue(body: bytes) -> FromVenue:
    """Return what a venue said. Raises `WireError` for what is no frame."""
    with _typed_errors():
        return _from_venue.decode(body)


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise WireError(ErrorCode.DECODE, f"not a frame of a line to a venue: {exc}") from exc


class Unpacker:
    """Cut a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and yield the bodies that are whole now. Raises `WireError` for a length that no frame has."""
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > MAX_FRAME:
                raise WireError(ErrorCode.BAD_FIELD, f"a frame of {length} bytes; allowed {MAX_FRAME}")
            if len(self._bytes) < _LENGTH.size + length:
                return
            body = bytes(self._bytes[_LENGTH.size : _LENGTH.size + length])
            del self._bytes[: _LENGTH.size + length]
            yield body


def settings_of(hello: Hello) -> PaperConfig:
    """Return the rules that a line asks for. Raises `pydantic.ValidationError` for what are none."""
    return PaperConfig.model_validate_json(hello.settings, strict=False)  # JSON has no Decimal
