"""Tables and figures of a run: they agree with the portfolio, and by hand where a hand can reckon."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.backtest import frames, measures
from framework.backtest.engine import Plan, Source, execute
from framework.backtest.report import page, write_report
from framework.backtest.research import Backtest, count_try, measured, over_latencies
from framework.backtest.tape import Tape
from framework.backtest_job import BatchResult
from framework.errors import StorageError
from framework.messages import BookSnapshot, Filled
from framework.model import NS_PER_S, Instrument, Liquidity, Side

INSTRUMENT = Instrument(instrument_id="ES.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(50))
MakePlan = Callable[..., Plan]


def book(second: float, bid: int, ask: int | None = None) -> BookSnapshot:
    ask = bid + 1 if ask is None else ask
    ts = round(second * NS_PER_S)
    return BookSnapshot(
        instrument_id="ES.SIM", ts_event=ts, ts_recv=ts, sequence=1, bid_ticks=(bid,), bid_sizes=(5,), ask_ticks=(ask,), ask_sizes=(5,)
    )


def fill(second: float, side: Side, quantity: int, price: int, fee: str = "1", liquidity: Liquidity = Liquidity.TAKER) -> Filled:
    return Filled(
        client_order_id="o", trade_id=f"{second}", strategy_id="s", instrument_id="ES.SIM", ts_event=round(second * NS_PER_S),
        side=side, quantity=quantity, price_ticks=price, fee=Decimal(fee), liquidity=liquidity,
    )  # fmt: skip


def run_of(*messages: Any) -> Any:
    tape = Tape()
    for message in messages:
        tape(message)
    return SimpleNamespace(tape=tape, instruments={"ES.SIM": INSTRUMENT})


def test_a_fill_that_turns_the_position_ends_one_trade_and_begins_the_next() -> None:
    run = run_of(
        book(0, 100), fill(1, Side.BUY, 2, 101), fill(2, Side.SELL, 3, 103, fee="3"), fill(4, Side.BUY, 1, 100), book(5, 100)
    )  # fmt: skip

    trades = frames.trades(run)

    assert trades.select("side", "lots", "fills").rows() == [("BUY", 2, 2), ("SELL", 1, 2)]
    # 2 lots x 2 ticks x 12.50, and 1 lot x 3 ticks x 12.50; the turning fill's fee is split by lots.
    assert trades["gross"].to_list() == [50.0, 37.5]
    assert trades["fees"].to_list() == pytest.approx([3.0, 2.0])
    assert trades["duration_s"].to_list() == [1.0, 2.0]


def test_the_account_is_cash_and_what_is_held_at_the_mid() -> None:
    run = run_of(book(0, 100), fill(1, Side.BUY, 1, 101), book(2, 103), fill(3, Side.SELL, 1, 103), book(4, 90))

    account = frames.account(run)

    assert account["position"].to_list() == [0, 1, 0]
    assert account["gross"].to_list() == [0.0, (103.5 - 101) * 12.5, (103 - 101) * 12.5]
    assert account["equity"].to_list() == pytest.approx([0.0, 30.25, 23.0])
    assert account["drawdown"].to_list() == pytest.approx([0.0, 0.0, 7.25])


def test_markouts_and_slippage_are_from_our_side_and_missing_where_the_market_ended() -> None:
    run = run_of(book(0, 100), fill(0.5, Side.SELL, 1, 100), book(1.2, 98), book(6, 97))

    line = frames.fills(run).to_dicts()[0]

    assert line["slippage_ticks"] == 0.5
    assert (line["markout_0.1"], line["markout_1"], line["markout_5"]) == (-0.5, 1.5, 1.5)
    assert line["markout_10"] is None
    assert line["book_age_s"] == 0.5


def test_a_side_that_is_missing_keeps_the_last_mid() -> None:
    one_sided = BookSnapshot(
        instrument_id="ES.SIM", ts_event=2 * NS_PER_S, ts_recv=0, sequence=2, bid_ticks=(), bid_sizes=(), ask_ticks=(101,), ask_sizes=(1,)
    )
    touch = run_of(book(1, 100), one_sided, book(3, 102)).tape.touch("ES.SIM")

    assert touch.mid_ticks.tolist() == [100.5, 100.5, 102.5]
    assert np.isnan(touch.mid_at(np.array([0]))[0])


@given(
    st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 5), st.integers(90, 110), st.integers(0, 3)), min_size=1, max_size=30)
)
def test_trades_and_what_is_still_held_add_up_to_the_account(drawn: list[tuple[Side, int, int, int]]) -> None:
    fills = [fill(number + 1, side, lots, price, fee=str(fee)) for number, (side, lots, price, fee) in enumerate(drawn)]
    run = run_of(book(0, 100), *fills, book(len(fills) + 2, 100, 102))
    trades, account = frames.trades(run), frames.account(run)
    held = account["position"][-1]

    flat_again = [*fills, fill(len(fills) + 1, Side.SELL if held > 0 else Side.BUY, abs(held), 101, fee="0")] if held else fills
    closed = frames.trades(run_of(book(0, 100), *flat_again))

    assert account["equity"][-1] == pytest.approx(closed["net"].sum())
    assert len(closed) - len(trades) == (1 if held else 0)


def backtest(plan: Plan, source: Source) -> Backtest:
    return measured(execute(plan, source, lambda _stage, _share: None), trials=3, earlier_sharpes=(0.1, -0.1))


def test_the_account_ends_with_what_the_portfolio_says(plan: MakePlan, answered: Callable[[], Source]) -> None:
    found = backtest(plan("ml_futures"), answered())
    summary = found.raw.summary

    assert found.facts["fills"] > 20
    assert found.facts["net"] == pytest.approx(float(summary.realized_pnl + summary.unrealized_pnl - summary.fees), abs=1e-6)
    assert found.facts["fees"] == pytest.approx(float(summary.fees))
    assert json.dumps(found.facts)


def test_predictions_are_held_against_what_came(plan: MakePlan, answered: Callable[[], Source]) -> None:
    found = backtest(plan("ml_futures"), answered())
    known = found.predictions.filter(pl.col("move_ticks").is_not_null())
    mids = found.raw.tape.touch("TIDE.SIM").mid_ticks
    times = found.raw.tape.touch("TIDE.SIM").ts_event
    one = known.row(len(known) // 2, named=True)
    here = int(np.flatnonzero(times == one["as_of_ns"])[-1])

    assert one["move_ticks"] == mids[here + 10] - mids[here]
    assert sum(line["count"] for line in found.facts["calibration"]) == len(known.filter(pl.col("direction") != 0))


def test_a_model_that_learned_from_the_recording_is_called_look_ahead(plan: MakePlan, answered: Callable[[], Source]) -> None:
    found = backtest(plan("ml_futures"), answered())
    start_ns, end_ns = found.raw.start_ns, found.raw.end_ns
    tables = measures.Tables(fills=found.fills, trades=found.trades, account=found.account, predictions=found.predictions)

    def said(trained_to_ns: int) -> list[str]:
        about = BatchResult(ok=True, version="v7", trained_from_ns=start_ns - NS_PER_S, trained_to_ns=trained_to_ns)
        run = replace(found.raw, source=replace(found.raw.source, about=about))
        return [words for words in measures.warnings(run, tables, found.facts, 3) if words.startswith("look-ahead")]

    assert said(start_ns) == []
    assert "covers 50% of this backtest" in said((start_ns + end_ns) // 2)[0]


def test_a_reviewer_warns_of_one_day_few_trades_and_an_open_end() -> None:
    account = pl.DataFrame({"ts_event": [0, 10], "equity": [0.0, 5.0], "gross": [0.0, 5.0], "position": [0, 2], "drawdown": [0.0, 0.0]})
    tables = measures.Tables(fills=pl.DataFrame({"book_age_s": [9.0]}), trades=pl.DataFrame(), account=account, predictions=pl.DataFrame())
    run = SimpleNamespace(source=Source(kind="off"), instruments={}, in_bars=frozenset())
    facts = {"trades": 3, "gross": 6.0, "net": -1.0, "trials": 9, "deflated_sharpe": {"probability": 0.4}}

    said = measures.warnings(run, tables, facts, parameters=2)  # type: ignore[arg-type]

    assert [words.split(":")[0] for words in said] == [
        "too few trades", "one day only", "1 fills at prices of a book older than 5 s", "it earns before fees and loses after them",
        "2 parameters and 3 trades", "the run ends with +2 lots, valued at the last mid",
    ]  # fmt: skip


def test_every_try_on_the_same_recordings_is_counted(plan: MakePlan) -> None:
    first = plan()
    log, number, sharpes = count_try(first, 1)
    log.end(0.25)
    _, again, known = count_try(first, 2)

    assert (number, sharpes, again, known) == (1, (), 2, (0.25,))


def test_the_latency_curve_runs_once_for_each(plan: MakePlan, answered: Callable[[], Source]) -> None:
    curve = over_latencies(plan("ml_futures"), answered(), [0.0, 300.0], lambda _stage, _share: None)

    assert [line["latency_ms"] for line in curve] == [0.0, 300.0]
    assert curve[0]["net"] != curve[1]["net"]


def test_the_page_needs_no_network_and_escapes_what_it_shows(plan: MakePlan, answered: Callable[[], Source], tmp_path: Path) -> None:
    found = backtest(plan("ml_futures"), answered())
    found.facts["strategy"] = "<script>alert(1)</script>"

    text = page(found, [{"latency_ms": 0.0, "net": 1.0, "gross": 2.0}, {"latency_ms": 5.0, "net": 0.5, "gross": 1.5}])
    write_report(tmp_path / "out.html", found, [])

    assert "<script" not in text
    assert "http" not in text
    assert text.count("<svg") >= 8
    assert (tmp_path / "out.html").stat().st_size > 10_000
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(tmp_path / "nowhere" / "out.html", found, [])
    assert [path.name for path in tmp_path.glob("*.html")] == ["out.html"]


@pytest.mark.parametrize("count", [0, 1, 2, 3_999, 4_000, 4_001, 10_000])
def test_the_points_of_an_account_are_the_same_however_many_instruments_share_the_times(count: int) -> None:
    times = np.arange(count, dtype=np.int64) * 3 + 7

    alone, together = frames._grid([times]), frames._grid([times, times])

    assert np.array_equal(alone, together)
    assert len(alone) == min(count, frames.MAX_POINTS)
