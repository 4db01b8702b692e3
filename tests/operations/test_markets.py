from __future__ import annotations

from pathlib import Path

import pytest

from framework.config import MainConfig, PaperConfig
from framework.errors import ConfigError
from framework.messages import BookSnapshot, SubmitOrder
from framework.model import NS_PER_S, OrderType, Side, TimeInForce
from framework.operations.markets import last_point, open_market, remember_point
from framework.operations.options import StartOptions
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.venues.simulated import DEFAULT_START_NS, START_MID_TICKS


def order(ts_event: int, instrument_id: str = "TIDE.SIM") -> SubmitOrder:
    return SubmitOrder(
        client_order_id="o1",
        strategy_id="s",
        instrument_id=instrument_id,
        side=Side.BUY,
        quantity=1,
        order_type=OrderType.LIMIT,
        limit_ticks=1,
        time_in_force=TimeInForce.DAY,
        ts_event=ts_event,
    )


def book(ts_event: int) -> BookSnapshot:
    return BookSnapshot(
        instrument_id="TIDE.SIM",
        ts_event=ts_event,
        ts_recv=ts_event,
        sequence=1,
        bid_ticks=(21_000,),
        bid_sizes=(1,),
        ask_ticks=(21_001,),
        ask_sizes=(1,),
    )


def test_the_first_run_begins_at_the_usual_place() -> None:
    journal = Journal(":memory:")

    point = last_point(journal, replay(journal))

    assert (point.ts_event, point.mid_ticks) == (DEFAULT_START_NS, START_MID_TICKS)


def test_the_market_goes_on_where_it_was_remembered() -> None:
    journal = Journal(":memory:")
    remember_point(journal, book(DEFAULT_START_NS + 90 * NS_PER_S + 1))

    point = last_point(journal, replay(journal))

    assert (point.ts_event, point.mid_ticks) == (DEFAULT_START_NS + 91 * NS_PER_S, 21_000)


def test_the_market_never_goes_back_before_our_last_order_there() -> None:
    journal = Journal(":memory:")
    remember_point(journal, book(DEFAULT_START_NS))
    for placed in (order(DEFAULT_START_NS + 500 * NS_PER_S), order(2 * DEFAULT_START_NS, "rb2510.SHFE")):
        journal.append("SubmitOrder", placed, durable=True)

    assert last_point(journal, replay(journal)).ts_event == DEFAULT_START_NS + 501 * NS_PER_S


def test_a_venue_of_its_own_process_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    config = MainConfig(paper=PaperConfig(own_process=True))
    journal = Journal(":memory:")

    with pytest.raises(ConfigError, match=r"^paper.own_process: found true with the simulated market, .* allowed with recordings$"):
        open_market(StartOptions(config=config, config_path=None, state_dir=tmp_path), journal, replay(journal))
    with pytest.raises(ValueError, match="own_process: found true; allowed false with queue_model fifo"):
        PaperConfig(own_process=True, queue_model="fifo")
