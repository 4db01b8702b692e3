"""The verb and what stands behind it: journal, decision, orders, outcome; ids that nobody has; a journal that is being written."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from framework.cli.door import enter
from framework.cli.explain import view
from framework.errors import ConfigError, IntegrityError, StartRefused, StorageError
from framework.messages import PredictionReceived
from framework.research.explaining import explain
from framework.trading.journal import Journal
from framework.trading.journal_view import view_journal

Verb = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.timeout(300)  # a child compiles its features the first time


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Verb:
    def run(state_dir: Path, *arguments: str) -> tuple[int, str, str]:
        code = enter(["explain", *arguments, "--state-dir", str(state_dir)], lambda _: pytest.fail("nothing is started here"))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def told(made: Any) -> dict[str, Any]:
    return explain(made.state_dir, "r1-1")


def test_an_explanation_has_everything_from_window_to_outcome(told: dict[str, Any], made: Any) -> None:
    assert told["missing"] == []
    assert told["prediction"]["model_version"] == made.version
    assert told["decision"]["action"] == "BUY"
    assert told["decision"]["age_s"] == pytest.approx(0.005)
    order = told["orders"][0]
    assert (order["filled_lots"], order["side"], len(order["fills"])) == (3, "BUY", 2)
    assert order["average_ticks"] == pytest.approx(sum(one["lots"] * one["ticks"] for one in order["fills"]) / 3)
    assert told["outcome"]["trade_outcome"] == "LOSS"
    assert told["outcome"]["markouts_ticks"] == {"1": 0.5, "5": -1.0}
    assert told["probabilities"]["largest_difference"] == 0.0


def test_the_page_says_it_in_the_order_in_which_it_happened(told: dict[str, Any]) -> None:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(view(told, top=5))
    text = console.export_text()
    console.file.close()

    places = [text.index(words) for words in ("prediction r1-1", "version v", "window of", "Contributions", "decision mine-d1", "next:")]
    assert places == sorted(places)
    assert text.count("the same as was served") == 2
    assert "over 30 rows" in text
    assert "on its test slice: log-loss" in text
    assert "age at use 5.0 ms" in text
    assert "filled 3 at" in text
    assert "outcome: closed, LOSS, PnL -3.30" in text


def test_the_verb_prints_one_line_of_json(verb: Verb, made: Any) -> None:
    code, out, err = verb(made.state_dir, "r1-11", "--json")

    assert code == 0, err
    found = json.loads(out)
    assert found["prediction_id"] == "r1-11"
    assert found["decision"] is None
    assert found["contributions"]["items"]


def test_an_unknown_id_is_refused_with_the_nearest(made: Any) -> None:
    with pytest.raises(ConfigError, match=r"no prediction or order r1-10 in the journal; nearest: r1-11, r1-12, r1-2"):
        explain(made.state_dir, "r1-10")
    with pytest.raises(ConfigError, match="nearest: r1-"):
        explain(made.state_dir, "zebra")


@pytest.mark.parametrize("garbage", ["", "a b", "x" * 200, "../../etc/passwd", "r1-1'; DROP TABLE records", "\x1b[31m"])
def test_what_is_no_id_is_refused(made: Any, garbage: str) -> None:
    with pytest.raises(ConfigError, match=r"^ID: found"):
        explain(made.state_dir, garbage)


def test_part_of_an_id_is_not_that_id(made: Any) -> None:
    with pytest.raises(ConfigError, match="nearest"):
        explain(made.state_dir, "r1")


def test_a_prediction_that_failed_says_why(made: Any) -> None:
    found = explain(made.state_dir, "r1-3")

    assert found["failure"]["reason"] == "TIMEOUT"
    assert "never came" in found["missing"][0]


def test_an_empty_state_directory_is_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="there is no journal"):
        explain(tmp_path, "r1-1")


def test_a_file_that_is_no_journal_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"nothing of the kind" * 100)

    with pytest.raises(IntegrityError):
        explain(tmp_path, "r1-1")

    (tmp_path / "journal.sqlite").unlink()
    sqlite3.connect(tmp_path / "journal.sqlite").execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(IntegrityError, match="not a journal"):
        explain(tmp_path, "r1-1")


def test_a_record_that_cannot_be_read_is_an_integrity_error(own: Any) -> None:
    with sqlite3.connect(own.state_dir / "journal.sqlite") as database:
        database.execute("UPDATE records SET body = substr(body, 1, length(body) - 4) WHERE kind = 'PredictionReceived'")

    with pytest.raises(IntegrityError, match="record 1 "):
        explain(own.state_dir, "r1-1")


def test_the_exit_codes_are_those_of_the_manual(verb: Verb, own: Any, tmp_path: Path) -> None:
    unknown, nobody = verb(own.state_dir, "r1-10"), verb(tmp_path / "none", "r1-1")
    (own.state_dir / "training_data.parquet" / "_manifest.json").write_text("{")
    damaged = verb(own.state_dir, "r1-1")

    assert (unknown[0], nobody[0], damaged[0]) == (2, 3, 6)
    assert len(unknown[2].splitlines()) == 1
    assert len(nobody[2].splitlines()) == 1
    # What the journal knows is told all the same.
    assert "decision mine-d1: BUY (ENTER_LONG)" in damaged[1]
    assert "missing: rows and model" in damaged[1]


# --- a journal that somebody writes -------------------------------------------------------------------------------------------


def test_a_reader_sees_what_a_running_writer_committed_and_keeps_nobody_from_writing(own: Any) -> None:
    path = own.state_dir / "journal.sqlite"
    journal = Journal(path)
    late = own.prediction(77, 5_200)
    journal.append("PredictionReceived", PredictionReceived(strategy_id="mine", prediction=late))
    with view_journal(path) as journal_view:
        assert journal_view.mentioning(PredictionReceived, "r1-77") == []
        journal.flush()
        assert [one.prediction for one in journal_view.mentioning(PredictionReceived, "r1-77")] == [late]
        journal.append("PredictionReceived", PredictionReceived(strategy_id="mine", prediction=own.prediction(78, 5_300)), durable=True)
    assert journal.is_healthy
    journal.verify()
    journal.close()


def test_a_reader_changes_nothing(own: Any) -> None:
    path = own.state_dir / "journal.sqlite"
    before = path.read_bytes()

    with view_journal(path) as journal_view, pytest.raises(StorageError, match="readonly"):
        journal_view._rows("DELETE FROM records", ())

    assert path.read_bytes() == before
