"""Blocks of records as rows are what the streams make of the same records one by one: the same events, and the same refusals."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.market.formats import open_source, read_all
from framework.market.formats.databento_rows import Block, OffTick, OrderBlock, block_for, rows_of_all
from framework.market.formats.databento_streams import STREAMS, UNDEFINED_PRICE, UNDEFINED_TIME, rows_of
from framework.market.formats.dbn_records import LAYOUTS, Records
from framework.market.formats.recording import bars_in, events_in
from framework.market.formats.units import OffUnit
from framework.messages import MarketEvent
from framework.model import NS_PER_S, Instrument

pytest.importorskip("databento_dbn")

INSTRUMENTS = {
    1: Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(50)),
    2: Instrument(instrument_id="NQH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(20)),
    3: Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(50)),
}
TICK = 250_000_000
T0 = 1_700_000_000 * NS_PER_S

PRICES = st.one_of(st.integers(-3, 14).map(lambda tick: tick * TICK), st.sampled_from([UNDEFINED_PRICE] * 2 + [TICK + 1]))
STEPS_NS = st.sampled_from([0, 1, 1_000, 400_000_000, 1_500_000_000])
FLAGS = st.sampled_from([0, 0x80, 0x80, 0x80, 0xA0])


@st.composite
def records_of(draw: st.DrawFn, schema: str) -> Records:
    """Draw records of a schema, in order of time."""
    layout = LAYOUTS[schema][1]
    count = draw(st.integers(1, 60))
    records = np.zeros(count, layout)
    now_ns = T0
    for record in records:
        now_ns += draw(STEPS_NS)
        record["instrument_id"] = draw(st.sampled_from([1, 1, 1, 2, 3, 4]))
        record["ts_event"] = now_ns - 5
        for name, values in _fields(schema).items():
            record[name] = draw(values)
        if "ts_recv" in (layout.names or ()):
            record["ts_recv"] = draw(st.sampled_from([now_ns, now_ns, UNDEFINED_TIME]))
        if "levels" in (layout.names or ()):
            for level in record["levels"]:
                level["bid_px"], level["ask_px"] = draw(PRICES), draw(PRICES)
                level["bid_sz"], level["ask_sz"] = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return records


def _fields(schema: str) -> dict[str, st.SearchStrategy[Any]]:
    if schema.startswith("ohlcv"):
        return dict.fromkeys(("open", "high", "low", "close"), PRICES.filter(lambda price: price != UNDEFINED_PRICE)) | {
            "volume": st.integers(0, 9)
        }
    common = {"price": PRICES, "size": st.integers(0, 4), "side": st.sampled_from([b"B", b"A", b"N"]), "flags": FLAGS}
    if schema != "mbo":
        return common | {"action": st.sampled_from([b"T", b"A"])}
    return common | {
        "action": st.sampled_from([b"A"] * 6 + [b"C", b"C", b"M", b"M", b"T", b"T", b"F", b"R"]),
        "order_id": st.integers(0, 12),
    }


def one_by_one(schema: str, records: Records) -> tuple[list[MarketEvent], str]:
    """Return the events of the streams, and the refusal."""
    streams = {number: STREAMS[schema](one, 0) for number, one in INSTRUMENTS.items()}
    events: list[MarketEvent] = []
    for index, (number, row) in enumerate(zip(records["instrument_id"].tolist(), rows_of(schema, records), strict=True)):
        try:
            events += streams[number].take(row, len(events)) if number in streams else ()
        except OffUnit as exc:
            return events, f"{index}: {exc}"
    return events, ""


def in_blocks(schema: str, records: Records, size: int) -> tuple[list[MarketEvent], str]:
    """Return the events of the rows, by instrument, and the refusal."""
    blocks: dict[int, Block] = {number: block_for(schema, one, 0) for number, one in INSTRUMENTS.items()}
    events: list[MarketEvent] = []
    for first in range(0, len(records), size):
        try:
            found = rows_of_all(blocks, records[first : first + size], first, len(events))
        except OffTick as exc:
            return events, f"{exc.number}: {exc}"
        for rows in found:
            events += (bars_in if rows.is_bars else events_in)(rows.batch)
    return events, ""


@pytest.mark.parametrize("schema", ["mbo", "mbp-1", "mbp-10", "trades", "ohlcv-1m"])
def test_rows_are_the_events_of_single_records(schema: str) -> None:
    @settings(max_examples=150 if schema == "mbo" else 30, deadline=None)
    @given(records_of(schema), st.integers(1, 40))
    def check(records: Records, size: int) -> None:
        events, refused = one_by_one(schema, records)
        found, also_refused = in_blocks(schema, records, size)

        assert also_refused == refused
        for name in {one.instrument_id for one in INSTRUMENTS.values()}:
            own = [event for event in events if event.instrument_id == name]
            # Nothing of the block that holds the refused record is handed out.
            also_own = [event for event in found if event.instrument_id == name]
            assert also_own == (own[: len(also_own)] if refused else own)

    check()


def test_the_table_of_orders_grows_and_forgets_as_a_dict_does() -> None:
    rng = np.random.default_rng(5)
    block = OrderBlock(INSTRUMENTS[1])
    records = np.zeros(30_000, LAYOUTS["mbo"][1])
    records["instrument_id"] = 1
    records["ts_event"] = records["ts_recv"] = T0 + np.arange(len(records)) * 1_000
    records["order_id"] = rng.integers(0, 2**63, 3_000)[rng.integers(0, 3_000, len(records))]
    records["action"] = rng.choice([b"A", b"A", b"C", b"M", b"T"], len(records))
    # Bids below 100 and offers above it: nothing crosses.
    records["side"] = rng.choice([b"B", b"A"], len(records))
    records["price"] = (100 + np.where(records["side"] == b"B", -1, 1) * rng.integers(1, 40, len(records))) * TICK
    records["size"] = rng.integers(1, 5, len(records))
    records["flags"] = 0x80
    events, refused = one_by_one("mbo", records)

    found = [event for first in (0, 9_000) for event in events_in(block.take(records[first : first + 9_000], np.arange(9_000)).batch)]

    assert refused == ""
    assert [(one.ts_event, getattr(one, "bid_sizes", one)) for one in found if hasattr(one, "bid_sizes")] == [
        (one.ts_event, one.bid_sizes) for one in events if hasattr(one, "bid_sizes") and one.ts_event < T0 + 18_000_000
    ]
    assert block.unknown_orders > 0


@pytest.mark.recordings
def test_a_recorded_hour_is_the_same_in_rows(recordings: Path) -> None:
    path = recordings / "cme_es_databento" / "esh4-glbx-mdp3-20231225.mbo.dbn.zst"
    (source,), _ = read_all([path])

    found = [event for rows in source.rows(0) for event in events_in(rows.batch)]  # type: ignore[attr-defined]

    assert found == list(open_source(path).events(0))
