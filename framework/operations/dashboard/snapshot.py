"""What the live view shows, filled by the app."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from framework.model import Instrument
from framework.operations.status import Status


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """The newest book of one instrument, best first, and whether it is sound. Last trade in ticks, None before the first."""

    instrument_id: str
    tick_size: Decimal
    bid_ticks: tuple[int, ...] = ()
    bid_sizes: tuple[int, ...] = ()
    ask_ticks: tuple[int, ...] = ()
    ask_sizes: tuple[int, ...] = ()
    last_trade_ticks: int | None = None
    is_sound: bool = True

    @staticmethod
    def empty(instrument: Instrument) -> Ladder:
        """Return the ladder of an instrument that has had no book yet."""
        return Ladder(instrument_id=instrument.instrument_id, tick_size=instrument.tick_size)


class DashboardSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One frame. Own orders are taken from `status.strategies`; `log_tail` is oldest first."""

    status: Status
    ladders: tuple[Ladder, ...] = ()
    log_tail: tuple[str, ...] = ()
