"""Other futures for the same past: market events behind a cut taken away, or in another order with up and down exchanged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count
from typing import Final

import msgspec

from framework.market.feed import arrival_ns
from framework.messages import BookSnapshot, MarketEvent, TradeTick

WEEKS_NS: Final = 3 * 7 * 86_400 * 1_000_000_000
SEQUENCE_SHIFT: Final = 1_000_003


def until(events: Sequence[MarketEvent], cut_ns: int) -> list[MarketEvent]:
    """Return what had arrived by `cut_ns`."""
    return [event for event in events if arrival_ns(event) <= cut_ns]


def permuted(events: Sequence[MarketEvent], cut_ns: int, *, seed: int) -> list[MarketEvent]:
    """Return the events with those after `cut_ns` permuted and mirrored: each keeps its time, its content is another one's.

    Books change places among themselves, trades too, and prices are mirrored at the last mid before the cut, so that what went up
    goes down.
    """
    pivots = _pivots(events, cut_ns)
    later = [event for event in events if arrival_ns(event) > cut_ns and event.instrument_id in pivots]
    drawn: dict[tuple[type, str], list[MarketEvent]] = {}
    for event in later:
        drawn.setdefault((type(event), event.instrument_id), []).append(event)
    shuffle = random.Random(seed).shuffle
    for group in drawn.values():
        shuffle(group)
    places = {key: count() for key in drawn}
    changed = list(until(events, cut_ns))
    for event in later:
        key = type(event), event.instrument_id
        changed.append(_mirrored(event, drawn[key][next(places[key])], pivots[event.instrument_id]))
    return changed


def _pivots(events: Sequence[MarketEvent], cut_ns: int) -> dict[str, int]:
    """Return twice the last mid before the cut per instrument."""
    found: dict[str, int] = {}
    for event in events:
        if arrival_ns(event) > cut_ns:
            break
        if isinstance(event, BookSnapshot) and event.bid_ticks and event.ask_ticks:
            found[event.instrument_id] = event.bid_ticks[0] + event.ask_ticks[0]
    return found


def _mirrored(place: MarketEvent, content: MarketEvent, pivot: int) -> MarketEvent:
    """Return `content`, mirrored at `pivot` / 2, at the time and with the number of `place`."""
    if isinstance(place, BookSnapshot) and isinstance(content, BookSnapshot):
        return msgspec.structs.replace(
            place,
            bid_ticks=tuple(pivot - ticks for ticks in content.ask_ticks),
            bid_sizes=content.ask_sizes,
            ask_ticks=tuple(pivot - ticks for ticks in content.bid_ticks),
            ask_sizes=content.bid_sizes,
        )
    if isinstance(place, TradeTick) and isinstance(content, TradeTick):
        aggressor = content.aggressor.opposite if content.aggressor is not None else None
        return msgspec.structs.replace(place, price_ticks=pivot - content.price_ticks, size=content.size, aggressor=aggressor)
    return place


def later(events: Sequence[MarketEvent]) -> list[MarketEvent]:
    """Return the same events three weeks later, with other sequence numbers."""
    return [_moved(event) for event in events]


def _moved(event: MarketEvent) -> MarketEvent:
    if isinstance(event, BookSnapshot | TradeTick):
        return msgspec.structs.replace(
            event, ts_event=event.ts_event + WEEKS_NS, ts_recv=event.ts_recv + WEEKS_NS, sequence=event.sequence + SEQUENCE_SHIFT
        )
    return msgspec.structs.replace(event, ts_event=event.ts_event + WEEKS_NS)
