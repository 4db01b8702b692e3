"""Bars: whole intervals of market time, from trades or from mids."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from framework.market.bars import BarBuilder
from framework.messages import Bar, SessionChanged
from framework.model import NS_PER_S, Instrument, Side


@pytest.fixture
def bars(rig: Any, instrument: Instrument) -> Any:
    builder = BarBuilder(rig.bus, rig.clock, instrument)
    rig.bus.register(builder)
    builder.on_start()
    return builder


def summary(bar: Bar) -> tuple[int, ...]:
    return (bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks, bar.volume, bar.buy_volume, bar.sell_volume)


def test_a_bar_sums_its_interval_and_ends_at_a_whole_second(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(
        trade(1, price_ticks=100, size=3),
        trade(2, price_ticks=104, size=1, aggressor=Side.SELL),
        trade(3, price_ticks=99, size=2, aggressor=None),
        trade(9, price_ticks=101, size=4),
        trade(10, price_ticks=500),
    )

    (bar,) = rig.listener.of(Bar)
    assert summary(bar) == (100, 104, 99, 101, 10, 7, 1)
    assert (bar.ts_event, bar.interval_s) == (trade(10).ts_event, 1.0)


def test_a_bar_comes_out_when_its_interval_is_over_even_if_nothing_follows(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(trade(3))
    rig.wait_until(trade(10).ts_event - 1)
    assert rig.listener.of(Bar) == []

    rig.wait_until(trade(10).ts_event)
    assert [bar.ts_event for bar in rig.listener.of(Bar)] == [trade(10).ts_event]


def test_an_interval_without_a_trade_has_no_bar(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(trade(0), trade(35))
    rig.wait_until(trade(100).ts_event)

    assert [bar.ts_event for bar in rig.listener.of(Bar)] == [trade(10).ts_event, trade(40).ts_event]


def test_a_late_print_counts_into_the_bar_of_its_arrival(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(trade(9), trade(11, size=2), trade(12, size=3, ts_event=trade(11).ts_event))
    rig.wait_until(trade(25).ts_event)
    rig.send(trade(25, ts_event=trade(12).ts_event, ts_recv=trade(25).ts_recv, size=7), trade(26))
    rig.wait_until(trade(40).ts_event)

    assert [(bar.ts_event, bar.volume) for bar in rig.listener.of(Bar)] == [
        (trade(10).ts_event, 1),
        (trade(20).ts_event, 5),
        (trade(30).ts_event, 8),
    ]


def test_a_close_of_the_session_ends_the_bar(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(trade(1), SessionChanged(instrument_id="ESH4.GLBX", ts_event=trade(2).ts_event, is_open=False, reason="venue"))

    assert len(rig.listener.of(Bar)) == 1


def test_a_feed_without_trades_makes_bars_of_mids_and_ignores_one_sided_books(make_rig: Any, book: Any) -> None:
    rig = make_rig()
    builder = BarBuilder(rig.bus, rig.clock, Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal(1), has_trades=False), interval_s=2.0)
    rig.bus.register(builder)
    builder.on_start()
    rig.send(
        book(1), book(2, ask_ticks=(), ask_sizes=()), book(3, bid_ticks=(90, 89)), book(4, ask_ticks=(111, 112)), book(5),
    )  # fmt: skip
    rig.wait_until(book(20).ts_event)

    (bar,) = rig.listener.of(Bar)
    assert summary(bar) == (100, 105, 95, 100, 0, 0, 0)
    assert bar.ts_event % (2 * NS_PER_S) == 0


def test_a_stopped_builder_leaves_no_timer_and_no_half_bar(rig: Any, bars: Any, trade: Any) -> None:
    rig.send(trade(1))
    bars.on_stop()
    rig.wait_until(trade(50).ts_event)

    assert rig.listener.of(Bar) == []
