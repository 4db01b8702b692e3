"""The DOM buffer: every row as it was, flow by the published formula, segments at every joint, memory as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.market.dom import DomBuffer, DomBufferActor
from framework.messages import Bar, BookInvalid, BookSnapshot, DomUpdated, SessionChanged
from framework.model import NS_PER_S, Instrument, Side
from framework.window import FLOW_COLUMNS, LEVELS, Rows

ES = Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"))
OFI_1 = FLOW_COLUMNS.index("ofi_1")


def flow_of(buffer: DomBuffer) -> dict[str, float]:
    return dict(zip(FLOW_COLUMNS, buffer.rows_since(buffer.total_rows - 1).flow[0].tolist(), strict=True))


def make_bar(number: int) -> Bar:
    return Bar(
        instrument_id="ESH4.GLBX", ts_event=number * NS_PER_S, interval_s=1.0, open_ticks=number, high_ticks=number + 2,
        low_ticks=number - 2, close_ticks=number + 1, volume=7, buy_volume=3, sell_volume=4,
    )  # fmt: skip


# --- rows ----------------------------------------------------------------------------------------------------------------


def test_a_row_holds_the_book_and_missing_levels_are_empty(book: Any) -> None:
    buffer = DomBuffer(ES, 10)
    buffer.append(book(3))

    rows = buffer.window(1).rows
    assert (rows.ts_event[0], rows.sequence[0], rows.segment[0]) == (book(3).ts_event, 3, 0)
    assert rows.bid_ticks[0].tolist() == [100, 99, *[0] * 8]
    assert rows.bid_sizes[0].tolist() == [5, 7, *[0] * 8]
    assert rows.ask_ticks[0].tolist() == [101, 102, *[0] * 8]
    assert rows.ask_sizes[0].tolist() == [6, 8, *[0] * 8]


def test_rows_have_the_types_and_the_layout_that_the_wire_needs(book: Any) -> None:
    buffer = DomBuffer(ES, 10)
    for number in range(14):
        buffer.append(book(number))

    rows = buffer.window(10).rows
    assert [getattr(rows, name).dtype.str for name in Rows.__slots__] == ["<i8", "<i8", "<i8", "<i4", "<f4", "<i4", "<f4", "<f4"]
    assert [getattr(rows, name).shape[1:] for name in Rows.__slots__] == [(), (), (), (10,), (10,), (10,), (10,), (17,)]
    assert all(getattr(rows, name).flags.c_contiguous for name in Rows.__slots__)


@given(max_rows=st.integers(1, 7), appended=st.integers(0, 30), asked=st.integers(0, 12))
def test_a_window_is_the_last_rows_wherever_the_ring_stands(max_rows: int, appended: int, asked: int) -> None:
    buffer = DomBuffer(ES, max_rows)
    for number in range(appended):
        buffer.append(
            BookSnapshot(
                instrument_id="ESH4.GLBX",
                ts_event=number,
                ts_recv=number,
                sequence=number,
                bid_ticks=(number,),
                bid_sizes=(1,),
                ask_ticks=(number + 1,),
                ask_sizes=(1,),
            )
        )

    expected = list(range(appended))[-max_rows:]
    assert buffer.row_count == len(expected)
    assert buffer.window(asked).rows.sequence.tolist() == expected[len(expected) - min(asked, len(expected)) :]
    assert buffer.rows_since(asked).bid_ticks[:, 0].tolist() == [number for number in expected if number >= asked]


def test_a_window_is_a_copy_that_later_rows_do_not_touch(book: Any) -> None:
    buffer = DomBuffer(ES, 4)
    for number in range(4):
        buffer.append(book(number))
    window = buffer.window(4)
    for number in range(4, 9):
        buffer.append(book(number))

    assert window.rows.sequence.tolist() == [0, 1, 2, 3]
    assert window.as_of_sequence == 3
    window.rows.bid_sizes[:] = -1
    assert buffer.window(4).rows.bid_sizes[0, 0] == 5


def test_the_window_carries_the_facts_of_the_instrument() -> None:
    no_trades = Instrument(instrument_id="CN.SGX", tick_size=Decimal(5), has_trades=False)
    window = DomBuffer(no_trades, 4).window(4)

    assert (window.instrument_id, window.tick_size, window.has_trades, len(window.rows)) == ("CN.SGX", 5.0, False, 0)


def test_the_mid_is_that_of_the_last_row_and_none_while_a_side_is_empty(book: Any) -> None:
    buffer = DomBuffer(ES, 4)
    assert buffer.mid_ticks() is None
    buffer.append(book(0))
    assert buffer.mid_ticks() == 100.5
    buffer.append(book(1, ask_ticks=(), ask_sizes=()))
    assert buffer.mid_ticks() is None


# --- flow ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "ofi_1"),
    [
        ({}, 0),
        ({"bid_sizes": (9, 7)}, 4),
        ({"bid_sizes": (2, 7)}, -3),
        ({"bid_ticks": (101, 99), "ask_ticks": (102, 103)}, 5 + 6),
        ({"bid_ticks": (99, 98)}, -5),
        ({"ask_sizes": (10, 8)}, -4),
        ({"ask_ticks": (102, 103)}, 6),
        ({"ask_ticks": (101, 102), "bid_ticks": (98, 97), "bid_sizes": (30, 30)}, -5),
        ({"bid_ticks": (), "bid_sizes": ()}, -5),
        ({"ask_ticks": (), "ask_sizes": ()}, 6),
    ],
)
def test_order_flow_imbalance_follows_the_published_cases(book: Any, change: dict[str, Any], ofi_1: float) -> None:
    buffer = DomBuffer(ES, 4)
    buffer.append(book(0))
    buffer.append(book(1, **change))

    assert flow_of(buffer)["ofi_1"] == ofi_1


def ofi_by_the_paper(before: BookSnapshot, after: BookSnapshot, level: int) -> float:
    """Cont, Kukanov, Stoikov (2014), eq. 10, as printed; a missing level is an empty queue at the worst price there is."""

    def at(ticks: tuple[int, ...], sizes: tuple[int, ...], worst: float) -> tuple[float, float]:
        return (ticks[level], sizes[level]) if level < len(ticks) else (worst, 0)

    bid, bid_size = at(after.bid_ticks, after.bid_sizes, -math.inf)
    bid_0, bid_size_0 = at(before.bid_ticks, before.bid_sizes, -math.inf)
    ask, ask_size = at(after.ask_ticks, after.ask_sizes, math.inf)
    ask_0, ask_size_0 = at(before.ask_ticks, before.ask_sizes, math.inf)
    return (bid >= bid_0) * bid_size - (bid <= bid_0) * bid_size_0 - (ask <= ask_0) * ask_size + (ask >= ask_0) * ask_size_0


def levels(first: int, step: int) -> st.SearchStrategy[tuple[tuple[int, ...], tuple[int, ...]]]:
    return st.lists(st.tuples(st.integers(1, 3), st.integers(1, 500)), max_size=LEVELS).map(
        lambda pairs: (
            tuple(first + step * sum(gap for gap, _ in pairs[: place + 1]) for place in range(len(pairs))),
            tuple(size for _, size in pairs),
        )
    )


@st.composite
def books(draw: st.DrawFn) -> BookSnapshot:
    middle = draw(st.integers(-5, 5))  # negative prices exist (spreads, oil in 2020)
    bid_ticks, bid_sizes = draw(levels(middle, -1))
    ask_ticks, ask_sizes = draw(levels(middle, 1))
    return BookSnapshot(
        instrument_id="ESH4.GLBX", ts_event=0, ts_recv=0, sequence=0,
        bid_ticks=bid_ticks, bid_sizes=bid_sizes, ask_ticks=ask_ticks, ask_sizes=ask_sizes,
    )  # fmt: skip


@settings(deadline=None)
@given(before=books(), after=books())
def test_order_flow_imbalance_equals_the_formula_on_every_level(before: BookSnapshot, after: BookSnapshot) -> None:
    buffer = DomBuffer(ES, 4)
    buffer.append(before)
    buffer.append(after)

    found = buffer.window(1).rows.flow[0, OFI_1:].tolist()

    assert found == [ofi_by_the_paper(before, after, level) for level in range(LEVELS)]


@settings(deadline=None)
@given(before=books(), after=books())
def test_events_count_the_levels_that_changed(before: BookSnapshot, after: BookSnapshot) -> None:
    buffer = DomBuffer(ES, 4)
    buffer.append(before)
    buffer.append(after)

    def changed(ticks_0: Any, sizes_0: Any, ticks: Any, sizes: Any) -> int:
        old, new = dict(enumerate(zip(ticks_0, sizes_0, strict=True))), dict(enumerate(zip(ticks, sizes, strict=True)))
        return sum(old.get(level) != new.get(level) for level in range(LEVELS))

    flow = flow_of(buffer)
    assert flow["bid_events"] == changed(before.bid_ticks, before.bid_sizes, after.bid_ticks, after.bid_sizes)
    assert flow["ask_events"] == changed(before.ask_ticks, before.ask_sizes, after.ask_ticks, after.ask_sizes)


def test_trades_count_by_aggressor_into_the_next_row_only(book: Any, trade: Any) -> None:
    buffer = DomBuffer(ES, 4)
    buffer.append(book(0))
    for size, aggressor in ((3, Side.BUY), (4, Side.BUY), (5, Side.SELL), (9, None)):
        buffer.add_trade(trade(1, size=size, aggressor=aggressor))
    buffer.append(book(1))

    flow = flow_of(buffer)
    assert [flow[name] for name in FLOW_COLUMNS[:5]] == [7, 5, 9, 2, 1]
    buffer.append(book(2))
    assert not any(flow_of(buffer).values())


def test_the_first_row_of_a_segment_has_no_flow_and_forgets_trades_from_before(book: Any, trade: Any) -> None:
    buffer = DomBuffer(ES, 4)
    buffer.add_trade(trade(0))
    buffer.append(book(0))
    assert not any(flow_of(buffer).values())

    buffer.add_trade(trade(1))
    buffer.break_segment()
    buffer.add_trade(trade(2))
    buffer.append(book(2, bid_sizes=(50, 7)))
    assert not any(flow_of(buffer).values())


# --- segments and bars -----------------------------------------------------------------------------------------------------


def test_a_window_never_crosses_a_joint_and_rows_since_does(book: Any) -> None:
    buffer = DomBuffer(ES, 10)
    for number in range(3):
        buffer.append(book(number))
    buffer.break_segment()
    assert (buffer.row_count, len(buffer.window(5).rows)) == (0, 0)

    buffer.append(book(3))
    buffer.append(book(4))
    assert buffer.row_count == 2
    assert buffer.window(5).rows.sequence.tolist() == [3, 4]
    assert buffer.rows_since(0).segment.tolist() == [0, 0, 0, 1, 1]


def test_breaks_without_rows_between_them_are_one_joint(book: Any) -> None:
    buffer = DomBuffer(ES, 10)
    buffer.break_segment()
    buffer.append(book(0))
    buffer.break_segment()
    buffer.break_segment()
    buffer.append(book(1))

    assert buffer.rows_since(0).segment.tolist() == [0, 1]


def test_the_last_hundred_bars_are_kept_in_order() -> None:
    buffer = DomBuffer(ES, 4)
    assert buffer.window(1).bars.shape == (0, 6)
    for number in range(130):
        buffer.add_bar(make_bar(number))

    bars = buffer.window(1).bars
    assert bars[:, 0].tolist() == list(range(30, 130))
    assert bars[-1].tolist() == [129, 129, 131, 127, 130, 7]


def test_memory_is_what_is_promised_and_claimed_once(book: Any) -> None:
    """160 B a row of book (the mission's 16 kB per 100 rows), 68 B of flow, 28 B of time, sequence, segment and alignment."""
    buffer = DomBuffer(ES, 100)
    assert buffer.memory_bytes == 100 * 256 + 100 * 6 * 8
    assert buffer.memory_bytes <= 1.2 * 100 * (160 + 4 * len(FLOW_COLUMNS)) + 100 * 6 * 8

    for number in range(250):
        buffer.append(book(number))
        buffer.add_bar(make_bar(number))
    assert buffer.memory_bytes == 100 * 256 + 100 * 6 * 8


@dataclass
class Model:
    """The buffer as plain lists."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    segment: int = 0
    is_new: bool = True


@given(st.lists(st.sampled_from(["book", "break"]), max_size=40), st.integers(1, 6))
def test_segments_and_counts_agree_with_a_plain_list(steps: list[str], max_rows: int) -> None:
    buffer, model = DomBuffer(ES, max_rows), Model()
    for number, step in enumerate(steps):
        if step == "break":
            buffer.break_segment()
            model.segment += not model.is_new
            model.is_new = True
        else:
            buffer.append(
                BookSnapshot(
                    instrument_id="ESH4.GLBX",
                    ts_event=0,
                    ts_recv=0,
                    sequence=number,
                    bid_ticks=(),
                    bid_sizes=(),
                    ask_ticks=(),
                    ask_sizes=(),
                )
            )
            model.rows.append((number, model.segment))
            model.is_new = False
        kept = model.rows[-max_rows:]
        found = buffer.rows_since(0)
        assert list(zip(found.sequence.tolist(), found.segment.tolist(), strict=True)) == kept
        current = [row for row in kept if row[1] == model.segment and not model.is_new]
        assert buffer.row_count == len(current)
        assert buffer.total_rows == len(model.rows)


# --- the actor ---------------------------------------------------------------------------------------------------------------


def test_the_actor_writes_and_says_so(rig: Any, book: Any, trade: Any) -> None:
    actor = DomBufferActor(rig.bus, DomBuffer(ES, 10))
    rig.bus.register(actor)
    actor.on_start()
    rig.send(book(0), trade(1), book(1), book(2, instrument_id="NQH4.GLBX"))

    updates = rig.listener.of(DomUpdated)
    assert actor.name == "dom:ESH4.GLBX"
    assert [(one.sequence, one.ts_event, one.book) for one in updates] == [
        (number, book(number).ts_event, book(number)) for number in (0, 1)
    ]
    assert updates[0].dom is actor.buffer
    assert flow_of(actor.buffer)["buy_volume"] == 1


@pytest.mark.parametrize(
    "joint",
    [
        SessionChanged(instrument_id="ESH4.GLBX", ts_event=0, is_open=True, reason="gap"),
        BookInvalid(instrument_id="ESH4.GLBX", ts_event=0, reason="crossed"),
    ],
)
def test_a_session_change_and_an_invalid_book_start_a_segment(rig: Any, book: Any, joint: Any) -> None:
    actor = DomBufferActor(rig.bus, DomBuffer(ES, 10))
    rig.bus.register(actor)
    actor.on_start()
    rig.send(book(0))
    rig.bus.publish(joint)
    rig.bus.drain()
    rig.send(book(1))

    assert actor.buffer.rows_since(0).segment.tolist() == [0, 1]


def test_bars_reach_the_buffer_over_the_bus(rig: Any) -> None:
    actor = DomBufferActor(rig.bus, DomBuffer(ES, 10))
    rig.bus.register(actor)
    actor.on_start()
    rig.bus.publish(make_bar(5))
    rig.bus.drain()

    np.testing.assert_array_equal(actor.buffer.window(1).bars, [[5, 5, 7, 3, 6, 7]])


def test_rows_that_nobody_can_see_any_more_can_be_skipped(book: Any) -> None:
    whole, skipped = DomBuffer(ES, 4), DomBuffer(ES, 4)
    for number in range(20):
        whole.append(book(number))
    skipped.append(book(0))
    skipped.skip(14)
    for number in range(15, 20):
        skipped.append(book(number))

    assert (skipped.total_rows, skipped.row_count) == (whole.total_rows, whole.row_count)
    for name in ("ts_event", "sequence", "bid_ticks", "flow"):
        assert np.array_equal(getattr(skipped.window(4).rows, name), getattr(whole.window(4).rows, name))
