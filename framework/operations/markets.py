"""The market of a run: where events come from and where orders go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from framework.config import MainConfig
from framework.errors import ConfigError
from framework.market.catalogue.reading import sources_of
from framework.market.feed import Feed, ReplayFeed
from framework.market.formats.databento_orders import order_logs
from framework.market.formats.source import Source, bars_alone, make_feed
from framework.market.order_log import OrderChange
from framework.messages import BookSnapshot
from framework.model import NS_PER_S, Instrument, Side
from framework.operations.options import StartOptions
from framework.trading.fold import JournalFold
from framework.trading.journal import Journal
from framework.venues.bar_venue import BarVenue
from framework.venues.bar_walk import BarWalk
from framework.venues.elsewhere.venue import VenueElsewhere
from framework.venues.margin import with_margins
from framework.venues.paper import PaperVenue
from framework.venues.port import Venue
from framework.venues.simulated import DEFAULT_START_NS, START_MID_TICKS, SimulatedMarket
from framework.venues.simulated_tape import INSTRUMENT

_META: str = "simulated_market"
log = logging.getLogger("Tidebook")


class MarketPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the simulated market was when the last run ended: the next one goes on from there."""

    ts_event: int
    mid_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A feed and the venue that belongs to it."""

    feed: Feed
    venue: Venue
    instruments: dict[str, Instrument]
    start_ns: int
    names: tuple[str, ...]
    is_simulated: bool

    @property
    def in_bars(self) -> frozenset[str]:
        """Return the instruments whose orders fill in bars: their quotes only stand in for books, and nothing is learned from them."""
        return self.venue.in_bars if isinstance(self.venue, BarVenue) else frozenset()

    def tell_stops(self, held: Callable[[str], Iterable[tuple[str, Side, int]]]) -> None:
        """Let a venue that matches against bars know which stops are held on our side."""
        if isinstance(self.venue, BarVenue):
            self.venue.held_stops = held


def open_market(options: StartOptions, journal: Journal, past: JournalFold) -> Market:
    """Open the market that `start` was asked for. Raises `ConfigError` for a file that cannot be replayed."""
    return _simulated(options, journal, past) if options.is_simulated else _replayed(options)


def _simulated(options: StartOptions, journal: Journal, past: JournalFold) -> Market:
    config: MainConfig = options.config
    if config.paper.own_process:
        raise ConfigError("paper.own_process: found true with the simulated market, which is its own venue; allowed with recordings")
    point = last_point(journal, past)
    market = SimulatedMarket(
        config.simulated_market,
        config.paper,
        # A run that goes on from an earlier one must not live through the same hour again.
        seed=options.seed + (point.ts_event - DEFAULT_START_NS) // NS_PER_S,
        start_ns=point.ts_event,
        start_mid_ticks=point.mid_ticks,
        duration_s=options.duration_s,
    )
    return Market(
        feed=market.feed(),
        venue=market,
        instruments={one.instrument_id: one for one in with_margins(config.paper, market.instruments)},
        start_ns=point.ts_event,
        names=options.market,
        is_simulated=True,
    )


def _replayed(options: StartOptions) -> Market:
    sources = sources_of(options.market)
    feed = make_feed(sources)
    instruments = with_margins(options.config.paper, feed.instruments)
    replayed = Market(
        feed=feed,
        venue=_paper_venue(options, instruments),
        instruments={instrument.instrument_id: instrument for instrument in instruments},
        start_ns=feed.start_ns or 0,
        names=options.market,
        is_simulated=False,
    )
    return _in_bars(replayed, feed, sources, options)


def _in_bars(market: Market, feed: ReplayFeed, sources: Sequence[Source], options: StartOptions) -> Market:
    """Let orders fill in the bars of an instrument of which there is nothing else."""
    paper = options.config.paper
    # A model would be shown quotes that stand in for books: with predictions on, bars fill nothing.
    is_wanted = paper.bar_fills and options.config.ml_service.mode == "off" and isinstance(market.venue, PaperVenue)
    in_bars = bars_alone(sources) if is_wanted else {}
    if not in_bars:
        return market
    venue = BarVenue(paper, tuple(market.instruments.values()), in_bars)
    walk = BarWalk(feed, venue, paper, market.instruments.values(), in_bars)
    instruments = {one.instrument_id: one for one in walk.instruments}
    return replace(market, feed=walk, venue=venue, instruments=instruments, start_ns=walk.start_ns or 0)


def _paper_venue(options: StartOptions, instruments: tuple[Instrument, ...]) -> Venue:
    """Return the paper venue, here or in a process of its own."""
    paper = options.config.paper
    if not paper.own_process:
        return PaperVenue(paper, instruments, order_logs=_order_logs(options))
    if options.speed is None:
        log.info("paper.own_process has no effect at full speed: a process of its own has its own time")
        return PaperVenue(paper, instruments)
    return VenueElsewhere(paper, instruments, speed=options.speed)


def _order_logs(options: StartOptions) -> dict[str, Iterator[OrderChange]]:
    """Return the orders of everybody, where exact queues are asked for."""
    if options.config.paper.queue_model != "fifo":
        return {}
    return {instrument_id: log for name in options.market for instrument_id, log in order_logs(Path(name)).items()}


def last_point(journal: Journal, past: JournalFold) -> MarketPoint:
    """Return where the simulated market goes on; its usual beginning if it never ran.

    Never before our last order there: a run that was killed may have remembered less than it traded.
    """
    stored = journal.get_meta(_META)
    point = MarketPoint(ts_event=DEFAULT_START_NS, mid_ticks=START_MID_TICKS)
    if stored is not None:
        point = msgspec.json.decode(stored, type=MarketPoint)
    last_order_ns = past.last_order_ns.get(INSTRUMENT.instrument_id, 0)
    return msgspec.structs.replace(point, ts_event=max(point.ts_event, _next_second(last_order_ns)))


def _next_second(ns: int) -> int:
    return (ns // NS_PER_S + 1) * NS_PER_S


def remember_point(journal: Journal, book: BookSnapshot) -> None:
    """Remember where the simulated market is, with the next commit."""
    if book.bid_ticks and book.ask_ticks:
        point = MarketPoint(ts_event=_next_second(book.ts_event), mid_ticks=book.bid_ticks[0])
        journal.set_meta(_META, msgspec.json.encode(point).decode(), durable=False)
