"""Records by their ids: found through an index, and in journals from before predictions had keys by reading them through."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from framework.messages import FailureReason, PredictionFailed
from framework.trading.journal import Journal
from framework.trading.journal_view import view_journal
from framework.trading.store import OF_IDS, OF_ORDERS


def failed(number: int) -> PredictionFailed:
    return PredictionFailed(
        prediction_id=f"r1-{number}", strategy_id="s1", instrument_id="TIDE.SIM", ts_event=number, reason=FailureReason.TIMEOUT, detail=""
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with ten failures under their ids."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    for number in range(1, 11):
        journal.append("PredictionFailed", failed(number), key=f"r1-{number}")
    journal.close()
    return path


def test_an_id_finds_its_record_and_no_other(path: Path) -> None:
    with view_journal(path) as view:
        assert view.identified(PredictionFailed, "r1-1") == [(1, failed(1))]
        assert view.identified(PredictionFailed, "r1-11") == []


def test_a_journal_without_keys_is_read_through(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE records SET record_key = ''")
    database.commit()
    database.close()

    with view_journal(path) as view:
        assert view.identified(PredictionFailed, "r1-7") == [(7, failed(7))]


@pytest.mark.parametrize("kinds", [OF_IDS, OF_ORDERS], ids=["ids", "orders"])
def test_a_lookup_by_key_goes_through_an_index(path: Path, kinds: tuple[str, ...]) -> None:
    database = sqlite3.connect(path)
    query = f"EXPLAIN QUERY PLAN SELECT seq, body FROM records WHERE kind IN {kinds} AND kind = ? AND record_key = ? ORDER BY seq"
    [(*_, plan)] = database.execute(query, (kinds[0], "r1-7")).fetchall()
    database.close()

    assert plan.startswith("SEARCH records USING INDEX records_")
    assert "(record_key=?)" in plan


def test_a_search_near_a_record_looks_no_farther(path: Path) -> None:
    with view_journal(path) as view:
        assert view.mentioning(PredictionFailed, "r1-7", near=5, within=2) == [failed(7)]
        assert view.mentioning(PredictionFailed, "r1-8", near=5, within=2) == []
