from __future__ import annotations

import importlib.util
import sys

import pytest

from framework.config import PaperConfig, SimulatedMarketConfig
from framework.messages import BookSnapshot, TradeTick
from framework.model import Side
from framework.venues.simulated import generate_history
from framework.venues.simulated_tape import INSTRUMENT
from tests.benchmarks.agree_hftbacktest import (
    SHARED,
    Outcome,
    Story,
    as_arrays,
    compare,
    draw_commands,
    explain,
    in_order,
    run_judge,
    run_ours,
)

HAS_JUDGE = importlib.util.find_spec("hftbacktest") is not None


def short_story(orders: int = 60) -> Story:
    events = in_order(generate_history(SimulatedMarketConfig(), seed=3, duration_s=120.0), INSTRUMENT.instrument_id)
    settings = PaperConfig(feed_latency_ms=3.0, response_latency_ms=4.0)
    return Story(INSTRUMENT, events, draw_commands(events, seed=1, orders=orders, feed_latency_ns=3_000_000), settings)


def test_the_judge_is_told_of_the_same_books_level_by_level() -> None:
    story = short_story()
    given = as_arrays(story)
    levels: dict[int, dict[int, int]] = {1: {}, -1: {}}
    rows = list(zip(*(given[name].tolist() for name in ("ts", "kind", "side", "ticks", "size")), strict=True))
    place = 0
    for event in story.events:
        while place < len(rows) and rows[place][0] <= event.ts_event:
            _, kind, side, ticks, size = rows[place]
            if kind == 0:
                levels[side][ticks] = size
            place += 1
        if isinstance(event, BookSnapshot) and (place == len(rows) or rows[place][0] > event.ts_event):
            for side, ticks, sizes in ((1, event.bid_ticks, event.bid_sizes), (-1, event.ask_ticks, event.ask_sizes)):
                shown = {price: size for price, size in levels[side].items() if size and (price - ticks[-1]) * side >= 0}
                assert shown == dict(zip(ticks, sizes, strict=True))

    assert sum(1 for row in rows if row[1] == 1) == sum(isinstance(event, TradeTick) for event in story.events)


def test_some_orders_fill_and_the_same_story_ends_the_same_way() -> None:
    story = short_story()
    outcomes = run_ours(story)

    assert outcomes == run_ours(story)
    assert 5 < sum(outcome.filled for outcome in outcomes.values()) < len(outcomes)
    assert {command.side for command in story.commands if command.action} == set(Side)


def test_an_order_that_agrees_alone_is_explained_by_the_lots_that_it_shared() -> None:
    story = short_story()
    ours = run_ours(story)
    number = next(number for number, outcome in ours.items() if outcome.filled)

    assert explain(story, number, ours[number], sys.executable) == SHARED


def test_a_comparison_counts_what_differs() -> None:
    story = short_story()
    ours = run_ours(story)

    assert compare(story, ours, dict(ours), sys.executable)["agree"] == 1.0
    number = next(number for number, outcome in ours.items() if outcome.filled)
    assert ours[number].agrees(Outcome(1, ours[number].ticks, 0))
    assert not ours[number].agrees(Outcome())


@pytest.mark.skipif(not HAS_JUDGE, reason="hftbacktest is not installed here (optional: pip install hftbacktest)")
def test_fills_agree_with_hftbacktest() -> None:
    story = short_story()

    assert compare(story, run_ours(story), run_judge(story, sys.executable), sys.executable)["agree"] >= 0.99
