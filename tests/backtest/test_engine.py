"""A backtest is the trading process itself: the same orders each time, predictions after their latency, and nothing looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from framework.backtest.engine import RECORDED, Plan, Run, Source, execute, prepare
from framework.backtest.latency import Constant, Lognormal
from framework.errors import ConfigError, IntegrityError, StartRefused, TidebookError
from framework.messages import SubmitOrder
from framework.model import NS_PER_S
from framework.operations.deployments import Deployment, read_deployment
from framework.operations.state_views import reading, runs
from framework.strategy import Strategy
from framework.trading.journal import Journal

MakePlan = Callable[..., Plan]


def silent(_stage: str, _share: float) -> None:
    """Say nothing."""


def orders(run: Run) -> bytes:
    return msgspec.msgpack.encode([run.tape.orders, run.tape.fills, run.tape.decisions])


def go(plan: Plan, source: Source | None = None) -> Run:
    return execute(plan, source or Source(kind="off"), silent)


def test_the_same_backtest_twice_gives_the_same_orders(plan: MakePlan, answered: Callable[[], Source]) -> None:
    ml = replace(plan("ml_futures"), latency=Lognormal(30.0, 1.0))

    first, second = (go(ml, answered()) for _ in range(2))

    assert len(first.tape.fills) > 20
    assert orders(first) == orders(second)


def test_predictions_arrive_after_their_latency_of_market_time(plan: MakePlan, answered: Callable[[], Source]) -> None:
    run = go(replace(plan("ml_futures"), latency=Constant(40.0)), answered())

    waits = {prediction.received_ns - prediction.as_of_ns for prediction in (one.prediction for one in run.tape.predictions)}
    assert len(run.tape.predictions) > 50
    assert waits == {40_000_000}


def test_a_run_that_was_kept_is_repeated_from_its_own_predictions(plan: MakePlan, answered: Callable[[], Source], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = go(replace(plan("ml_futures"), latency=Constant(5.0), keep=kept), answered())

    repeat = replace(plan("ml_futures"), ml=f"recorded:{kept}", latency=Constant(5.0))
    source = prepare(repeat, silent)
    second = go(repeat, source)

    assert source.kind == RECORDED
    assert orders(first) == orders(second)
    assert source.answers is not None
    assert source.answers.misses <= 1  # the run ended before the last one was answered


def test_without_a_latency_a_recorded_run_is_repeated_with_the_one_that_it_had(
    plan: MakePlan, answered: Callable[[], Source], tmp_path: Path
) -> None:
    go(replace(plan("ml_futures"), latency=Constant(60.0), keep=tmp_path / "kept"), answered())
    repeat = replace(plan("ml_futures"), ml=f"recorded:{tmp_path / 'kept'}")

    run = go(repeat, prepare(repeat, silent))

    assert {one.prediction.received_ns - one.prediction.as_of_ns for one in run.tape.predictions} == {60_000_000}


def test_a_book_that_nobody_answered_about_is_no_model_and_counted(plan: MakePlan, answered: Callable[[], Source]) -> None:
    source = answered()
    assert source.answers is not None
    source.answers._table = {}

    run = go(plan("ml_futures"), source)

    assert not run.tape.predictions
    assert source.answers.misses - len(run.tape.failures) in (0, 1)  # the last one may be cut off by the end
    assert len(run.tape.failures) > 50
    assert {failure.reason for failure in run.tape.failures} == {"NO_MODEL"}


def test_it_begins_and_ends_where_it_is_told_to(plan: MakePlan) -> None:
    whole = go(plan())
    start_ns = whole.start_ns
    cut = go(replace(plan(), from_ns=start_ns + 30 * NS_PER_S, to_ns=start_ns + 60 * NS_PER_S))

    times = cut.tape.touch("TIDE.SIM").ts_event
    assert start_ns + 30 * NS_PER_S <= times[0] < start_ns + 31 * NS_PER_S
    assert start_ns + 59 * NS_PER_S <= times[-1] < start_ns + 60 * NS_PER_S
    assert 0 < cut.summary.events < whole.summary.events / 2


def test_what_it_keeps_is_an_ordinary_journal(plan: MakePlan, tmp_path: Path) -> None:
    run = go(replace(plan(), keep=tmp_path / "kept"))

    journal = Journal(tmp_path / "kept" / "journal.sqlite")
    assert sum(1 for record in journal.records("SubmitOrder") if isinstance(record.message, SubmitOrder)) == run.summary.orders > 0
    journal.close()


def test_a_strategy_may_ask_for_more_rows_than_training_shows(plan: MakePlan) -> None:
    shipped = plan()
    text = shipped.deployment.text.replace("max_dom_history: 100 ", "max_dom_history: 250 ")
    hungry = replace(shipped, deployment=read_deployment(text, "hungry.yaml"))
    assert hungry.deployment.file.max_dom_history == 250 > hungry.settings.training.window_rows

    assert orders(go(hungry)) == orders(go(shipped)) != b""


def test_the_record_of_a_run_says_which_strategy_ran(plan: MakePlan, tmp_path: Path) -> None:
    made = replace(plan(), keep=tmp_path / "kept")
    go(made)

    with reading(tmp_path / "kept") as journal:
        [started] = runs(journal)
    assert started.strategy_digests == {"book_imbalance": made.deployment.digest}


class Raising(Strategy):
    """Fails at its first book."""

    def on_dom(self, update: object) -> None:
        raise ValueError("a bug of mine")


def test_a_strategy_that_raises_ends_the_backtest_with_its_reason(plan: MakePlan) -> None:
    shipped = plan()
    bad: Deployment = replace(shipped.deployment, strategy_class=Raising, parameters=Raising.Parameters())

    with pytest.raises(StartRefused, match="a bug of mine"):
        go(replace(shipped, deployment=bad))


@pytest.mark.parametrize(
    ("ml", "error", "words"),
    [
        ("sometimes", ConfigError, "--ml: found sometimes; allowed off, live"),
        ("off:x", ConfigError, "--ml: found off:x"),
        ("recorded", ConfigError, "--ml: found recorded"),
        ("model", ConfigError, "no model has been trained yet"),
        ("recorded:/nowhere", StartRefused, "/nowhere"),
    ],
)
def test_a_source_of_predictions_that_is_not_there_is_refused(plan: MakePlan, ml: str, error: type[TidebookError], words: str) -> None:
    with pytest.raises(error, match=words):
        prepare(plan("ml_futures", ml=ml), silent)


def test_a_run_without_predictions_cannot_be_repeated(plan: MakePlan, tmp_path: Path) -> None:
    go(replace(plan(), keep=tmp_path / "kept"))

    with pytest.raises(ConfigError, match="received no prediction"):
        prepare(plan("ml_futures", ml=f"recorded:{tmp_path / 'kept'}"), silent)


def test_an_instrument_that_the_recordings_do_not_hold_is_refused_with_what_they_hold(plan: MakePlan) -> None:
    with pytest.raises(ConfigError, match=r"ES\.GLBX is not in the recordings; they hold TIDE\.SIM .*--instrument TIDE\.SIM"):
        plan(instrument_id="ES.GLBX")


def test_a_damaged_journal_is_refused(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o700)
    (tmp_path / "kept" / "journal.sqlite").write_bytes(b"no journal" * 1_000)

    with pytest.raises(IntegrityError):
        prepare(plan("ml_futures", ml=f"recorded:{tmp_path / 'kept'}"), silent)


def test_money_of_the_run_is_exact_in_its_summary(plan: MakePlan) -> None:
    run = go(plan())

    assert run.summary.fees == sum((fill.fee for fill in run.tape.fills), Decimal(0))
