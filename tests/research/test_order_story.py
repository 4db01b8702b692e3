"""The story of an order: each shipped path through decision, gate, venue and outcome; what was not recorded; ids that nobody has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from framework.backtest.engine import Plan, Run, Source
from framework.backtest.latency import Constant
from framework.cli.door import enter
from framework.config import MainConfig, RiskLimits
from framework.errors import ConfigError, IntegrityError
from framework.messages import OrderUpdated, SubmitOrder
from framework.model import OrderStatus
from framework.operations.lineup import HOME
from framework.research.explaining import explain
from framework.trading.journal import Journal
from tests.backtest.conftest import answered, plan, recording  # noqa: F401 (fixtures)
from tests.backtest.test_engine import go

MakePlan = Callable[..., Plan]
Verb = Callable[..., tuple[int, str, str]]
Kept = Callable[..., tuple[Run, Path]]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Verb:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = enter(["explain", *arguments], lambda _: pytest.fail("nothing is started here"))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def kept(plan: MakePlan, answered: Callable[[], Source], tmp_path: Path) -> Kept:  # noqa: F811
    """Return a function that backtests a shipped strategy and returns the run and where its journal is."""

    def run(name: str, *, has_ml: bool = False, **options: Any) -> tuple[Run, Path]:
        made = replace(plan(name, **options), keep=tmp_path / name, latency=Constant(40.0))
        return go(made, answered() if has_ml else None), tmp_path / name

    return run


def records(state_dir: Path, kind: str) -> list[Any]:
    journal = Journal(state_dir / "journal.sqlite", is_read_only=True)
    found = [record.message for record in journal.records(kind)]
    journal.close()
    return found


def test_an_order_on_a_prediction_is_told_from_the_last_row_to_the_outcome(kept: Kept) -> None:
    run, state_dir = kept("ml_futures", has_ml=True)
    order = next(one for one in records(state_dir, "SubmitOrder") if one.as_of_ns is not None)

    story = explain(state_dir, order.client_order_id)

    used = next(one.prediction for one in run.tape.predictions if one.prediction.as_of_ns == order.as_of_ns)
    assert story["prediction"]["prediction_id"] == used.prediction_id
    assert story["prediction"]["age_when_sent_s"] == pytest.approx(0.04)
    assert story["prediction"]["model_version"] == "v0001-test"
    assert story["decision"]["decision_id"] == order.decision_id
    assert story["decision"]["is_its_order"]
    assert story["decision"]["reason"].startswith("ENTER")
    assert story["gate"]["verdict"] == "passed"
    assert [one["what"] for one in story["events"]][:4] == [
        "last row that the prediction saw",
        "prediction arrived",
        "decided",
        "sent, and let out by the gate",
    ]
    assert story["result"]["acknowledged_after_ms"] == pytest.approx(2.0)
    assert (story["result"]["status"], story["result"]["filled_lots"]) == ("FILLED", order.quantity)
    assert story["outcome"]["markouts_ticks"].keys() == {"1", "5", "30"}
    assert story["missing"] == []


def test_the_numbers_of_the_gate_are_those_that_it_had_before_it_with_the_limits_of_the_run(kept: Kept) -> None:
    settings = MainConfig(risk=RiskLimits(max_position=7, max_prediction_age_s=0.5))
    _, state_dir = kept("ml_futures", has_ml=True, settings=settings)
    order = next(one for one in records(state_dir, "SubmitOrder") if one.as_of_ns is not None)

    gate = explain(state_dir, order.client_order_id)["gate"]

    numbers = {one["code"]: (one["value"], one["limit"]) for one in gate["numbers"]}
    worst = order.seen.position_lots + order.side.sign * (order.seen.open_lots + order.quantity)
    assert numbers["MAX_POSITION"] == (worst, 7)
    assert numbers["PREDICTION_AGE"] == (pytest.approx(0.04), 0.5)
    assert gate["seen"]["bid_ticks"] < gate["seen"]["ask_ticks"]


def test_a_quote_that_rests_says_how_many_lots_stood_ahead(kept: Kept) -> None:
    _, state_dir = kept("market_maker")
    first = records(state_dir, "SubmitOrder")[0]

    story = explain(state_dir, first.client_order_id)

    book_lots = story["gate"]["seen"]["bid_lots" if first.side == "BUY" else "ask_lots"]
    assert story["result"]["queue_ahead"] == book_lots  # 0.5 ticks from the mid is the best price
    assert story["decision"] is None
    assert any(line.startswith("decision:") for line in story["missing"])


def test_the_legs_of_a_bracket_name_each_other(kept: Kept) -> None:
    _, state_dir = kept("breakout", settings=MainConfig())
    orders = records(state_dir, "SubmitOrder")
    if not orders:  # two minutes may be too quiet for a breakout
        pytest.skip("no breakout in this market")
    entry = next(one for one in orders if not one.parent_id)

    story = explain(state_dir, entry.client_order_id)

    assert {one["order_id"] for one in story["legs"]} == {one.client_order_id for one in orders if one.parent_id == entry.client_order_id}


def test_a_denied_order_has_the_code_and_numbers_of_the_gate(kept: Kept) -> None:
    settings = MainConfig(risk=RiskLimits(max_prediction_age_s=0.01))
    _, state_dir = kept("ml_futures", has_ml=True, settings=settings)
    denied = next(one for one in records(state_dir, "OrderUpdated") if one.status is OrderStatus.DENIED)

    story = explain(state_dir, denied.client_order_id)

    assert (story["gate"]["verdict"], story["gate"]["code"]) == ("DENIED", "PREDICTION_AGE")
    assert story["gate"]["detail"] == "age_s=0.040 limit=0.01"
    assert story["decision"]["decision_id"] == denied.decision_id
    assert story["result"] == {"status": "DENIED", "filled_lots": 0}


def test_the_page_and_the_json_say_the_same(kept: Kept, verb: Verb) -> None:
    _, state_dir = kept("ml_futures", has_ml=True)
    name = next(one for one in records(state_dir, "SubmitOrder") if one.as_of_ns is not None).client_order_id

    code, page, err = verb(name, "--state-dir", str(state_dir))
    _, line, _ = verb(name, "--state-dir", str(state_dir), "--json")

    assert (code, err) == (0, "")
    found = json.loads(line)
    places = [
        page.index(words) for words in (f"order {name}", "strategy ml_futures", "decision ml_futures-d", "prediction r", "gate: passed")
    ]
    assert places == sorted(places)
    assert f"filled {found['result']['filled_lots']} of {found['order']['quantity']}" in page


@pytest.mark.parametrize("name", ["ml_futures-99999", "nobody-1", "ml_futures", "r9-1"])
def test_an_id_that_nobody_has_is_refused_in_one_line_with_the_nearest(kept: Kept, verb: Verb, name: str) -> None:
    _, state_dir = kept("ml_futures", has_ml=True)

    code, out, err = verb(name, "--state-dir", str(state_dir))

    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "nearest: " in err


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 129, "../../etc", "%", "'; DROP TABLE records", "ml\x00", "\x1b[31m", "ünï"])
def test_garbage_for_an_id_is_refused(kept: Kept, name: str) -> None:
    _, state_dir = kept("book_imbalance")

    with pytest.raises(ConfigError):
        explain(state_dir, name)


def test_an_empty_state_directory_says_that_nothing_ran(verb: Verb, tmp_path: Path) -> None:
    code, out, err = verb("ml_futures-1", "--state-dir", str(tmp_path))

    assert (code, out) == (3, "")
    assert "no journal" in err


def test_a_journal_without_orders_and_predictions_says_so(verb: Verb, tmp_path: Path) -> None:
    Journal(tmp_path / "journal.sqlite").close()

    code, _, err = verb("ml_futures-1", "--state-dir", str(tmp_path))

    assert code == 2
    assert "it holds neither" in err


def test_what_an_older_journal_did_not_record_is_said(kept: Kept, tmp_path: Path) -> None:
    _, state_dir = kept("book_imbalance")
    first = records(state_dir, "SubmitOrder")[0]
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append("SubmitOrder", msgspec.structs.replace(first, seen=None), key=first.client_order_id, durable=True)
    journal.close()

    story = explain(tmp_path, first.client_order_id)

    assert [line.partition(":")[0] for line in story["missing"]] == ["decision", "book at the gate", "acknowledgement"]
    assert story["result"]["status"] == "open"
    assert story["run"] is None


def test_a_damaged_record_is_refused_by_number(kept: Kept, tmp_path: Path) -> None:
    _, state_dir = kept("book_imbalance")
    first = records(state_dir, "SubmitOrder")[0]
    journal = Journal(state_dir / "journal.sqlite")
    journal._db.execute("UPDATE records SET body = x'00' WHERE kind = 'SubmitOrder' AND record_key = ?", (first.client_order_id,))
    journal.close()

    with pytest.raises(IntegrityError, match=r"record \d+ \(SubmitOrder\)"):
        explain(state_dir, first.client_order_id)


def test_an_update_that_only_mentions_an_id_is_not_its_denial(kept: Kept) -> None:
    _, state_dir = kept("book_imbalance")
    first = records(state_dir, "SubmitOrder")[0]
    journal = Journal(state_dir / "journal.sqlite")
    journal.append("OrderUpdated", _denial(first, "book_imbalance-77"))
    journal.close()

    with pytest.raises(ConfigError):
        explain(state_dir, "book_imbalance-7")  # a part of -77, and never sent itself


def _denial(order: SubmitOrder, name: str) -> OrderUpdated:
    return OrderUpdated(
        client_order_id=name,
        strategy_id=order.strategy_id,
        instrument_id=order.instrument_id,
        ts_event=order.ts_event,
        side=order.side,
        quantity=1,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=None,
        status=OrderStatus.DENIED,
        reason="MAX_POSITION worst=21 limit=20",
    )


def test_after_a_kill_the_story_ends_where_the_journal_does(tmp_path: Path) -> None:
    settings = tmp_path / "off.yaml"
    settings.write_text("ml_service:\n  mode: 'off'\n")
    state_dir = tmp_path / "state"
    base = [sys.executable, str(HOME / "main.py")]
    deploy = [*base, "deploy-strategy", "--config", str(HOME / "config/strategies/book_imbalance.yaml"), "--state-dir", str(state_dir)]
    subprocess.run(deploy, check=True, capture_output=True, timeout=60)
    start = [*base, "start", "--config", str(settings), "--speed", "max", "--state-dir", str(state_dir), "--headless"]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("Closing position" in line for line in running.stderr)
        running.send_signal(signal.SIGKILL)
        running.wait(30)

    last = records(state_dir, "SubmitOrder")[-1]
    story = explain(state_dir, last.client_order_id)

    assert story["run"]["ended"] == "it runs, or was killed"
    assert story["order"]["sent_ns"] == last.ts_event
    assert story["gate"]["numbers"]
