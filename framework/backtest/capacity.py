"""How much of a strategy the market carries: what it would earn with larger orders, reckoned from the sizes that the books showed.

Each taker fill walks the levels of its book again with a multiple of its lots; what lies beyond the last level shown costs one tick more
than that level. Maker fills are multiplied as they are, which is too kind: their share of the market's volume says how kind. Nobody reacts
to the larger orders, and the book is whole again at the next fill. So this is a bound from above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from framework.backtest.engine import Run
from framework.market.catalogue.reading import open_market
from framework.market.feed import arrival_ns
from framework.messages import Bar, BookSnapshot, Filled, MarketEvent, TradeTick
from framework.model import Liquidity, Side

MULTIPLES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
Levels = tuple[tuple[int, ...], tuple[int, ...]]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a multiple of every order earns. `volume_share` is of all lots traded, None where the recordings have none.

    `beyond_share`: the share of the taker's lots that no book showed.
    """

    multiple: int
    net: float
    volume_share: float | None
    beyond_share: float


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """`multiple`: the one that earns most, 0 where none earns anything."""

    multiple: int
    sizes: tuple[Size, ...]


def capacity(run: Run, net: float) -> Capacity:
    """Read the recordings again and reckon what multiples of each order earn; `net` is what the run earned. Blocks."""
    fills = sorted(run.tape.fills, key=lambda fill: fill.ts_event)
    met, volume = _met(fills, open_market([str(path) for path in run.plan.data]).read(), _within(run))
    sizes = tuple(_size(run, met, volume, net, multiple) for multiple in MULTIPLES)
    best = max(sizes, key=lambda size: size.net)
    return Capacity(multiple=best.multiple if best.net > 0 else 0, sizes=sizes)


def _within(run: Run) -> Callable[[int], bool]:
    from_ns, to_ns = run.plan.from_ns, run.plan.to_ns
    return lambda ts: (from_ns is None or ts >= from_ns) and (to_ns is None or ts < to_ns)


def _met(
    fills: Sequence[Filled], events: Iterator[MarketEvent], is_within: Callable[[int], bool]
) -> tuple[list[tuple[Filled, Levels]], int]:
    """Return each fill with the levels that it met, and the lots that the market traded in the instruments of the fills."""
    names = {fill.instrument_id for fill in fills}
    last: dict[str, BookSnapshot] = {}
    met: list[Levels] = []
    traded = {TradeTick: 0, Bar: 0}
    for event in events:
        while len(met) < len(fills) and fills[len(met)].ts_event < arrival_ns(event):
            met.append(_levels(fills[len(met)], last))
        if event.instrument_id not in names or not is_within(event.ts_event):
            continue
        if isinstance(event, BookSnapshot):
            last[event.instrument_id] = event
        elif isinstance(event, TradeTick):
            traded[TradeTick] += event.size
        elif isinstance(event, Bar):
            traded[Bar] += event.volume
    met += [_levels(fill, last) for fill in fills[len(met) :]]
    return list(zip(fills, met, strict=True)), traded[TradeTick] or traded[Bar]


def _levels(fill: Filled, last: dict[str, BookSnapshot]) -> Levels:
    book = last.get(fill.instrument_id)
    if book is None:
        return (), ()
    return (book.ask_ticks, book.ask_sizes) if fill.side is Side.BUY else (book.bid_ticks, book.bid_sizes)


def _size(run: Run, met: Sequence[tuple[Filled, Levels]], volume: int, net: float, multiple: int) -> Size:
    extra, lots, taken, beyond = 0.0, 0, 0, 0
    for fill, levels in met:
        lots += multiple * fill.quantity
        if fill.liquidity is Liquidity.MAKER:
            continue
        once, _ = walk(levels, fill.quantity)
        cost, missing = walk(levels, multiple * fill.quantity)
        extra += (cost - multiple * once) * float(run.instruments[fill.instrument_id].tick_value)
        taken, beyond = taken + multiple * fill.quantity, beyond + missing
    return Size(
        multiple=multiple,
        net=round(multiple * net - extra, 6),
        volume_share=round(lots / volume, 6) if volume else None,
        beyond_share=round(beyond / taken, 6) if taken else 0.0,
    )


def walk(levels: Levels, lots: int) -> tuple[int, int]:
    """Return what taking `lots` costs over the best price, in ticks times lots, and how many of them no level showed."""
    ticks, sizes = levels
    if not ticks:
        return 0, lots
    cost, left = 0, lots
    for tick, size in zip(ticks, sizes, strict=True):
        taken = min(left, size)
        cost, left = cost + taken * abs(tick - ticks[0]), left - taken
    return cost + left * (abs(ticks[-1] - ticks[0]) + 1), left


def turnover(run: Run) -> float:
    """Return the money that all fills moved: price times lots times multiplier."""
    return sum(fill.quantity * fill.price_ticks * float(run.instruments[fill.instrument_id].tick_value) for fill in run.tape.fills)


def plain(found: Capacity) -> dict[str, Any]:
    """Return it as plain values."""
    values: dict[str, Any] = msgspec.to_builtins(found)
    return values
