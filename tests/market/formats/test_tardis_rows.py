"""Blocks of Tardis changes as rows are what the source makes of the same lines one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.errors import ConfigError
from framework.market.formats import columns
from framework.market.formats.recording import events_in
from framework.market.formats.tardis import TardisBookSource
from framework.messages import MarketEvent

HEAD = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 50]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from(["bid"] * 10 + ["ask"] * 10 + ["both"]),
        st.integers(0, 15),
        st.sampled_from([0, 0, 1, 5]),
    ),
    min_size=1,
    max_size=60,
)


def written(folder: str, drawn: list[tuple[int, bool, str, int, int]]) -> Path:
    path = Path(folder) / "book.csv"
    at = 1_720_000_000_000_000
    lines = []
    for step, is_snapshot, side, place, lots in drawn:
        at += step
        # Bids mostly below the offers; where they meet the book is crossed.
        price = 60_000 + 0.1 * (place if side == "bid" else place + 13)
        lines.append(f"binance-futures,BTCUSDT,{at - 3},{at},{str(is_snapshot).lower()},{side},{price:.1f},{lots / 1000:.3f}\n")
    path.write_text(HEAD + "".join(lines))
    return path


def one_by_one(source: TardisBookSource) -> tuple[list[MarketEvent], str]:
    events: list[MarketEvent] = []
    try:
        for event in source.events(5):
            events.append(event)
    except ConfigError as exc:
        return events, str(exc)
    return events, ""


def in_rows(source: TardisBookSource) -> tuple[list[MarketEvent], str]:
    events: list[MarketEvent] = []
    try:
        for rows in source.rows(5):
            events += events_in(rows.batch)
    except ConfigError as exc:
        return events, str(exc)
    return events, ""


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 70))
def test_rows_are_the_events_of_single_lines(drawn: list[tuple[int, bool, str, int, int]], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path = written(folder, drawn)
        whole, alone = TardisBookSource(path), TardisBookSource(path)
        # Small blocks: `max_rows` of the reader.
        real = columns.read_columns
        patched.setattr("framework.market.formats.tardis.read_columns", lambda *given, **_: real(*given, max_rows=size))

        events, refused = one_by_one(alone)
        found, also_refused = in_rows(whole)

    assert also_refused == refused
    if refused:
        assert found == events[: len(found)]
    else:
        assert found == events
        assert (whole.next_sequence, whole.notes) == (alone.next_sequence, alone.notes)
