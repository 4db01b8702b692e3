"""Larger orders walk the books that were shown, and never earn more than their multiple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.backtest.capacity import MULTIPLES, capacity, turnover, walk
from framework.backtest.engine import Plan
from framework.backtest.research import measured
from framework.model import NS_PER_S
from tests.backtest.test_engine import go

MakePlan = Callable[..., Plan]
LEVELS = ((100, 101, 103), (5, 2, 1))


@pytest.mark.parametrize(("lots", "cost", "beyond"), [(1, 0, 0), (5, 0, 0), (6, 1, 0), (8, 5, 0), (10, 13, 2)])
def test_lots_walk_the_levels_and_pay_one_tick_more_beyond_the_last(lots: int, cost: int, beyond: int) -> None:
    assert walk(LEVELS, lots) == (cost, beyond)
    assert walk((tuple(-tick for tick in LEVELS[0]), LEVELS[1]), lots) == (cost, beyond)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.integers(1, 200), st.integers(1, 20))
def test_a_multiple_never_costs_less_than_its_parts(sizes: list[int], lots: int, multiple: int) -> None:
    levels = (tuple(range(len(sizes))), tuple(sizes))

    assert walk(levels, multiple * lots)[0] >= multiple * walk(levels, lots)[0]


def test_once_is_what_the_run_earned_and_more_never_earns_more_than_its_multiple(plan: MakePlan) -> None:
    run = go(plan())
    net = measured(run, trials=1).facts["net"]

    found = capacity(run, net)

    assert [size.multiple for size in found.sizes] == list(MULTIPLES)
    assert found.sizes[0].net == net
    assert all(size.net <= size.multiple * net + 1e-6 for size in found.sizes)
    assert found.sizes[-1].net < 500 * net - 1
    assert found.sizes[0].beyond_share == 0
    shares = [size.volume_share or 0 for size in found.sizes]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert found.multiple == 0 or net > 0


def test_only_what_traded_in_the_span_counts(plan: MakePlan) -> None:
    whole = go(plan())
    half_ns = whole.start_ns + 60 * NS_PER_S
    half = go(replace(plan(), to_ns=half_ns))

    assert 0 < len(half.tape.fills) < len(whole.tape.fills)
    assert all(fill.ts_event <= half_ns for fill in half.tape.fills)
    assert 0 < turnover(half) < turnover(whole)
    some, all_ = (capacity(run, 0.0).sizes[0].volume_share or 0 for run in (half, whole))
    lots, all_lots = (sum(fill.quantity for fill in run.tape.fills) for run in (half, whole))
    assert lots / some < 0.7 * all_lots / all_


def test_without_fills_there_is_no_capacity(plan: MakePlan) -> None:
    run = replace(go(plan()), plan=plan())
    run.tape.fills.clear()

    assert capacity(run, 0.0).multiple == 0
    assert turnover(run) == 0
