"""The compiled rules are those of the interpreted engine, whatever the market and we do."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.backtest.compiled.queues import MODELS
from framework.backtest.lean.columns import BOOK, SAID, TRADE, MarketColumns
from framework.config import PaperConfig
from framework.model import Instrument, Side
from framework.venues.matching import MatchingEngine
from framework.venues.queue_models import queue_model
from framework.window import LEVELS
from tests.backtest.compiled.compiled_engine import CompiledEngine

INSTRUMENT = Instrument(instrument_id="A.X", tick_size=Decimal(1))
SIZES = st.integers(1, 9)
BOOKS = st.tuples(st.integers(95, 105), st.integers(1, 3), st.lists(SIZES, max_size=4), st.lists(SIZES, max_size=4), st.integers(1, 2))
TRADES = st.tuples(st.integers(94, 109), st.integers(1, 12), st.sampled_from([1, -1, 0]))
SIDES = st.sampled_from([Side.BUY, Side.SELL])
PRICES = st.integers(94, 109)
STEPS = st.one_of(
    st.tuples(st.just("book"), BOOKS),
    st.tuples(st.just("book"), BOOKS),
    st.tuples(st.just("trade"), TRADES),
    st.tuples(st.just("trade"), TRADES),
    st.tuples(st.just("rest"), st.tuples(SIDES, PRICES, SIZES)),
    st.tuples(st.just("take"), st.tuples(SIDES, st.none() | PRICES, SIZES)),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("resize"), st.integers(0, 5)),
    st.tuples(st.just("close"), st.none()),
)


@dataclass
class Market:
    """Columns of the events among steps, and what each event is as a message."""

    columns: MarketColumns

    @staticmethod
    def of(steps: list[tuple[str, Any]]) -> Market:
        index: list[tuple[int, ...]] = []
        facts: list[tuple[int, ...]] = []
        levels: list[np.ndarray[Any, Any]] = []
        trades: list[tuple[int, ...]] = []
        for number, (kind, about) in enumerate(steps, 1):
            if kind == "book":
                bid, spread, bids, asks, gap = about
                sides = np.zeros((4, LEVELS), np.int64)
                sides[0, : len(bids)], sides[1, : len(bids)] = [bid - gap * place for place in range(len(bids))], bids
                sides[2, : len(asks)], sides[3, : len(asks)] = [bid + spread + gap * place for place in range(len(asks))], asks
                index.append((number, BOOK, len(facts)))
                facts.append((number // 2, number // 2, number, len(bids), len(asks)))
                levels.append(sides)
            elif kind == "trade":
                price, size, sign = about
                index.append((number, TRADE, len(trades)))
                trades.append((number // 2, number // 2, number, price, size, sign))
        rows = np.array(index, np.int64).reshape(-1, 3)
        return Market(
            MarketColumns(
                instrument=INSTRUMENT,
                times=rows[:, 0].copy(),
                kinds=rows[:, 1].copy(),
                places=rows[:, 2].copy(),
                starts=np.arange(len(rows) + 1),
                book_facts=np.array(facts, np.int64).reshape(-1, 5),
                levels=np.array(levels, np.int64).reshape(-1, 4, LEVELS),
                trades=np.array(trades, np.int64).reshape(-1, 6),
                others=(),
            )
        )


@pytest.mark.parametrize("model", MODELS)
@given(steps=st.lists(STEPS, max_size=60), power=st.sampled_from([1.0, 3.0]), is_watched=st.booleans())
def test_both_engines_fill_the_same_orders_at_the_same_events(
    model: str, steps: list[tuple[str, Any]], power: float, is_watched: bool
) -> None:
    settings = PaperConfig.model_validate({"queue_model": model, "queue_power": power})
    columns = Market.of(steps).columns
    law, compiled = MatchingEngine(queue_model(settings)), CompiledEngine(columns, settings)
    names: list[str] = []
    event = 0
    for kind, about in steps:
        if kind in ("book", "trade"):
            place = int(columns.places[event])
            said = (
                law.on_book(columns.books(place, place + 1)[0])
                if kind == "book"
                else law.on_trade(columns.trade_ticks(place, place + 1)[0])
            )
            assert compiled.on_rows(event, event + 1) == said
            event += 1
        elif kind == "rest":
            side, price, size = about
            names.append(f"o{len(names)}")
            for engine in (law, compiled):
                engine.rest(names[-1], side, price, size)
        elif kind == "take":
            assert compiled.takeable(*_terms(about)) == law.takeable(*_terms(about))
            assert compiled.take("t", *_terms(about)) == law.take("t", *_terms(about))
        elif kind == "remove" and names:
            name = names[about % len(names)]
            assert compiled.remove(name) == law.remove(name)
        elif kind == "resize" and law.resting:
            name = sorted(law.resting)[about % len(law.resting)]
            smaller = max(1, law.resting[name].open_quantity - 1)
            for engine in (law, compiled):
                engine.resize(name, smaller)
        elif kind == "close":
            for engine in (law, compiled):
                engine.close()
        if is_watched:  # unwatched, the compiled engine leaves events that fill nothing for later
            _look(compiled, law)
    _look(compiled, law)


def _look(compiled: CompiledEngine, law: MatchingEngine) -> None:
    for side in (Side.BUY, Side.SELL):
        for price in (96, 101, 106):
            assert compiled.lots_at(side, price) == law.lots_at(side, price)


def _terms(about: tuple[Side, int | None, int]) -> tuple[Side, int | None, int]:
    side, limit_ticks, size = about
    return side, limit_ticks, size


def test_many_fills_in_one_instant_need_no_more_room_than_there_is() -> None:
    steps = [("book", (100, 1, [5], [5], 1)), *[("trade", (100, 3, -1))] * 30_000]
    settings = PaperConfig(queue_model="risk_averse")
    columns = Market.of(steps).columns
    engine = CompiledEngine(columns, settings)
    engine.on_rows(0, 1)
    engine.rest("big", Side.BUY, 100, 1_000_000)

    fills = engine.on_rows(1, len(steps))

    assert sum(fill.quantity for fill in fills) == 30_000 * 3 - 5


def test_what_only_strategies_hear_is_nothing_to_match() -> None:
    columns = Market.of([("book", (100, 1, [5], [5], 1)), ("trade", (100, 1, -1))]).columns
    columns.kinds[1] = SAID
    engine = CompiledEngine(columns, PaperConfig())
    engine.rest("o", Side.BUY, 100, 1)

    assert engine.on_rows(0, 2) == []
