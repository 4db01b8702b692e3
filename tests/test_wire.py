"""The binary wire: what goes in comes out, and what may not come in is refused before it costs anything."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from framework import wire
from framework.errors import ErrorCode, WireError
from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, ROW_SCHEMA_HASH, Rows, Window
from framework.wire import FeedbackItem, PredictRequest, Reply, Request
from ml_actor import window_check

LEVEL = np.arange(LEVELS, dtype=np.int32)


def make_window(rows: int = 5, bars: int = 3, **changes: Any) -> Window:
    draw = np.random.default_rng(3)
    best = 100 + draw.integers(-1, 2, rows).cumsum()[:, None].astype(np.int32)
    columns: dict[str, Any] = {
        "ts_event": np.arange(rows, dtype=np.int64) * 100 + 1_700_000_000_000_000_000,
        "sequence": np.arange(rows, dtype=np.int64) + 1,
        "segment": np.zeros(rows, np.int64),
        "bid_ticks": best - LEVEL,
        "bid_sizes": draw.integers(1, 9, (rows, LEVELS)).astype(np.float32),
        "ask_ticks": best + 1 + LEVEL,
        "ask_sizes": draw.integers(1, 9, (rows, LEVELS)).astype(np.float32),
        "flow": draw.normal(size=(rows, len(FLOW_COLUMNS))).astype(np.float32),
    }
    return Window(
        instrument_id="TIDE.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(**(columns | changes)),
        bars=draw.normal(size=(bars, len(BAR_COLUMNS))),
    )


def request_of(window: Window, **changes: Any) -> PredictRequest:
    return msgspec.structs.replace(wire.predict_request(window, request_id="r-1", timeout_ms=100.0), **changes)


def refusal(call: Any, *arguments: Any) -> WireError:
    with pytest.raises(WireError) as refused:
        call(*arguments)
    return refused.value


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "bars"), [(1, 0), (5, 3), (100, 100), (wire.MAX_WINDOW_ROWS, wire.MAX_BARS)])
def test_a_window_comes_out_as_it_went_in(rows: int, bars: int) -> None:
    window = make_window(rows, bars)

    payload = wire.encode_window(window)
    decoded = wire.decode_window(request_of(window), payload)

    assert len(payload) == rows * 244 + bars * 48 <= wire.MAX_FRAME_BYTES
    assert np.array_equal(decoded.bars, window.bars)
    for field in dataclasses.fields(Rows):
        assert np.array_equal(getattr(decoded.rows, field.name), getattr(window.rows, field.name)), field.name
    assert (decoded.instrument_id, decoded.tick_size, decoded.has_trades) == ("TIDE.SIM", 0.25, True)


def test_the_payload_is_laid_out_as_the_specification_says() -> None:
    window = make_window(2, 1)
    rows = window.rows

    payload = wire.encode_window(window)

    ends = np.cumsum([0, 16, 16, 80, 80, 80, 80, 2 * 17 * 4, 48])
    kinds = ("<i8", "<i8", "<i4", "<i4", "<f4", "<f4", "<f4", "<f8")
    parts = (rows.ts_event, rows.sequence, rows.bid_ticks, rows.ask_ticks, rows.bid_sizes, rows.ask_sizes, rows.flow, window.bars)
    assert ends[-1] == len(payload)
    for start, end, kind, part in zip(ends, ends[1:], kinds, parts, strict=False):
        assert np.array_equal(np.frombuffer(payload[start:end], kind), part.ravel())


def test_decoding_does_not_copy_and_what_it_gives_cannot_be_written_to() -> None:
    window = make_window()

    decoded = wire.decode_window(request_of(window), wire.encode_window(window))

    assert not decoded.rows.bid_ticks.flags.owndata
    assert not decoded.rows.bid_ticks.flags.writeable


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"row_count": 0}, ErrorCode.BAD_FIELD),
        ({"row_count": -1}, ErrorCode.BAD_FIELD),
        ({"row_count": 1 << 62}, ErrorCode.BAD_FIELD),
        ({"row_count": 6}, ErrorCode.BAD_FIELD),
        ({"bar_count": -1}, ErrorCode.BAD_FIELD),
        ({"bar_count": 1_001}, ErrorCode.BAD_FIELD),
        ({"tick_size": 0.0}, ErrorCode.BAD_FIELD),
        ({"tick_size": math.nan}, ErrorCode.BAD_FIELD),
        ({"tick_size": math.inf}, ErrorCode.BAD_FIELD),
        ({"schema_hash": "0" * 16}, ErrorCode.SCHEMA_MISMATCH),
    ],
)
def test_counts_and_lengths_are_checked_before_any_array_is_made(changes: dict[str, Any], code: ErrorCode) -> None:
    window = make_window()

    assert refusal(wire.decode_window, request_of(window, **changes), wire.encode_window(window)).code is code


def crossed(rows: int = 5) -> dict[str, Any]:
    return {"ask_ticks": np.tile(90 + LEVEL, (rows, 1))}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bid_sizes": np.full((5, LEVELS), np.nan, np.float32)}, "finite"),
        ({"ask_sizes": np.full((5, LEVELS), np.inf, np.float32)}, "finite"),
        ({"ask_sizes": np.full((5, LEVELS), -1, np.float32)}, "negative"),
        ({"flow": np.full((5, len(FLOW_COLUMNS)), -np.inf, np.float32)}, "finite"),
        ({"ts_event": np.array([1, 2, 3, 2, 5])}, "backwards"),
        ({"ts_event": np.array([-1, 2, 3, 4, 5])}, "backwards"),
        ({"ts_event": np.array([0, 2, 3, 4, -(1 << 63)])}, "backwards"),
        ({"sequence": np.array([5, 4, 3, 2, 1])}, "backwards"),
        ({"bid_ticks": np.tile(90 + LEVEL, (5, 1))}, "sorted"),
        ({"ask_ticks": np.tile(200 - LEVEL, (5, 1))}, "sorted"),
        ({"bid_ticks": np.tile(np.int32(90), (5, LEVELS))}, "sorted"),
        (crossed(), "below best ask"),
    ],
)
def test_numbers_that_no_market_has_are_refused(changes: dict[str, Any], words: str) -> None:
    window = make_window(**changes)

    error = refusal(wire.decode_window, request_of(window), wire.encode_window(window))

    assert error.code is ErrorCode.BAD_FIELD
    assert words in error.message


def missing(side: str, first: int) -> dict[str, Any]:
    """Return a side whose levels from `first` on are missing."""
    window = make_window()
    ticks, sizes = getattr(window.rows, f"{side}_ticks").copy(), getattr(window.rows, f"{side}_sizes").copy()
    ticks[:, first:], sizes[:, first:] = 0, 0
    return {f"{side}_ticks": ticks, f"{side}_sizes": sizes}


@pytest.mark.parametrize("first", [0, 1, 5])
def test_missing_levels_and_empty_sides_are_sound(first: int) -> None:
    window = make_window(**missing("bid", first))

    wire.decode_window(request_of(window), wire.encode_window(window))


def test_a_level_behind_a_missing_one_is_refused() -> None:
    changes = missing("ask", 3)
    changes["ask_sizes"][2, 5] = 1

    window = make_window(**changes)

    assert "without gaps" in refusal(wire.decode_window, request_of(window), wire.encode_window(window)).message


SMALL = st.integers(-2, 3)


@given(
    times=arrays.arrays(np.int64, (2, 3), elements=SMALL),
    ticks=arrays.arrays(np.int32, (2, 3, LEVELS), elements=SMALL),
    sizes=arrays.arrays(
        np.float32, (2, 3, LEVELS), elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, math.nan, -math.inf]), fill=st.just(1.0)
    ),
    bars=arrays.arrays(np.float64, (6,), elements=st.sampled_from([0.0, math.inf]), fill=st.just(0.0)),
    is_ladder=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_the_compiled_check_finds_what_the_plain_one_finds(times: Any, ticks: Any, sizes: Any, bars: Any, is_ladder: bool) -> None:
    if is_ladder:
        times = np.sort(np.abs(times), axis=1)
        ticks = np.sort(ticks + np.arange(LEVELS, dtype=np.int32) * 6, axis=2)
        ticks[0] = -ticks[0]
    floats = np.append(sizes, np.zeros(3 * len(FLOW_COLUMNS), np.float32))
    payload = b"".join(part.tobytes() for part in (times, ticks, floats, bars))

    assert window_check.find_fault(payload, 3, 1) == wire.find_fault(times, ticks, sizes, floats, bars)


# --- headers ---------------------------------------------------------------------------------------------------------

BeforeHorizons = msgspec.defstruct(
    "BeforeHorizons",
    [(name, Any) for name in wire.PredictReply.__struct_fields__ if name != "horizons"],
    array_like=True,
    tag="prediction",
)

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False)
HORIZONS = st.builds(HorizonPrediction, st.integers(0, 1 << 40), FINITE, FINITE, FINITE, st.sampled_from(FlowType), FINITE)


def messages(union: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of every struct of a union with every field drawn by its type."""
    return st.one_of([st.builds(kind, **{name: field_of(kind, name) for name in kind.__struct_fields__}) for kind in get_args(union)])


def field_of(kind: type, name: str) -> st.SearchStrategy[Any]:
    by_name: dict[str, st.SearchStrategy[Any]] = {
        "version": st.just(wire.PROTOCOL_VERSION),
        "items": st.just(()),
        "feedback_ids": st.lists(TEXT, max_size=3).map(tuple),
        "versions": st.lists(st.dictionaries(TEXT, FINITE | TEXT | st.booleans(), max_size=3), max_size=3).map(tuple),
        "status": st.dictionaries(TEXT, st.integers(0, 1 << 40) | TEXT, max_size=3),
        "facts": st.dictionaries(TEXT, st.integers(0, 1 << 40) | TEXT, max_size=3),
        "horizons": st.lists(HORIZONS, max_size=wire.MAX_HORIZONS).map(tuple),
    }
    by_type = {"str": TEXT, "float": FINITE, "int": st.integers(-(1 << 63), (1 << 63) - 1), "bool": st.booleans(), "Id": TEXT, "Text": TEXT}
    annotations: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        annotations |= getattr(base, "__annotations__", {})
    return by_name[name] if name in by_name else by_type[annotations[name]]


@given(messages(Request))
def test_every_request_comes_out_as_it_went_in(message: Request) -> None:
    assert wire.decode_request(wire.encode(message)) == message


@given(messages(Reply))
def test_every_reply_comes_out_as_it_went_in(message: Reply) -> None:
    assert wire.decode_reply(wire.encode(message)) == message


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", ErrorCode.DECODE),
        (b"\xc1", ErrorCode.DECODE),
        (b"\x80\x04\x95pickle", ErrorCode.BAD_FIELD),
        (msgspec.msgpack.encode(["shutdown", 1, "r"]), ErrorCode.UNKNOWN_TYPE),
        (msgspec.msgpack.encode(["ping", 2, "r"]), ErrorCode.UNSUPPORTED_VERSION),
        (msgspec.msgpack.encode(["ping", 1, "r" * 129]), ErrorCode.BAD_FIELD),
        (msgspec.msgpack.encode(["ping", "1", "r"]), ErrorCode.BAD_FIELD),
        (msgspec.msgpack.encode(["ping"]), ErrorCode.BAD_FIELD),
        (msgspec.msgpack.encode(["predict", 1, "r", 1 << 63]), ErrorCode.BAD_FIELD),
        (msgspec.msgpack.encode(["train", 1, "r", msgspec.msgpack.Ext(5, b"x")]), ErrorCode.BAD_FIELD),
        (b"\x91" * 100_000, ErrorCode.BAD_FIELD),
        (b"\x00" * (wire.MAX_FRAME_BYTES + 1), ErrorCode.DECODE),
    ],
)
def test_a_header_that_is_none_is_refused_with_its_code(frame: bytes, code: ErrorCode) -> None:
    assert refusal(wire.decode_request, frame).code is code


def test_a_newer_peer_may_append_fields() -> None:
    known = wire.Ping(version=1, request_id="r")
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(wire.encode(known)), "a field of tomorrow"])

    assert wire.decode_request(newer) == known


def test_a_client_of_before_there_were_further_horizons_reads_an_answer_that_has_them() -> None:
    said = {name: 0.25 for name in ("confidence", "p_down", "p_flat", "p_up", "shock_score", "compute_us")}
    about = {"is_calibrated": True, "horizon_rows": 20, "as_of_ns": 1, "as_of_sequence": 2, "regime": 1}
    reply = wire.PredictReply(version=1, request_id="r", flow_type="BUY", model_version="v1", **said, **about)  # type: ignore[arg-type]
    newer = msgspec.structs.replace(reply, horizons=(HorizonPrediction(100, 0.5, 0.25, 0.25, FlowType.SELL, 0.6),))

    before: Any = msgspec.msgpack.decode(wire.encode(newer), type=BeforeHorizons)
    assert before.wants_training == ""
    assert wire.decode_reply(wire.encode(newer)) == newer
    # And a client of today reads an answer of before.
    assert wire.decode_reply(msgspec.msgpack.encode(msgspec.msgpack.decode(wire.encode(newer))[:-1])) == reply


def test_no_answer_has_more_horizons_than_the_wire_allows() -> None:
    one = [5, 0.5, 0.25, 0.25, "BUY", 0.6]
    head = ["prediction", 1, "r", "BUY", 0.5, 0.2, 0.3, 0.5, "v1", True, 20, 1, 2, 1, 0.5, 1.0, "ES.SIM", ""]

    assert len(wire.decode_reply(msgspec.msgpack.encode([*head, [one] * wire.MAX_HORIZONS])).horizons) == wire.MAX_HORIZONS  # type: ignore[union-attr]
    assert refusal(wire.decode_reply, msgspec.msgpack.encode([*head, [one] * (wire.MAX_HORIZONS + 1)])).code is ErrorCode.BAD_FIELD


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_the_request_id_of_any_bytes_is_a_text(frame: bytes) -> None:
    assert isinstance(wire.request_id_of(frame), str)


@pytest.mark.parametrize(
    ("timeout_ms", "code"),
    [(0.0, ErrorCode.EXPIRED), (-1.0, ErrorCode.EXPIRED), (60_001.0, ErrorCode.BAD_FIELD), (math.nan, ErrorCode.BAD_FIELD)],
)
def test_a_deadline_lies_within_the_next_minute(timeout_ms: float, code: ErrorCode) -> None:
    assert refusal(wire.check_timeout, timeout_ms).code is code


def test_the_schema_of_the_rows_has_not_changed_unnoticed() -> None:
    """Both processes and every stored model and dataset are bound to this layout: a change needs a migration."""
    assert ROW_SCHEMA_HASH == "9568b8dee26126a2"


# --- feedback --------------------------------------------------------------------------------------------------------


def item(**changes: Any) -> FeedbackItem:
    fields: dict[str, Any] = {
        "timestamp": "2024-01-15T10:30:15Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.75,
        "trade_executed": True,
        "trade_outcome": "PROFIT",
        "market_data_snapshot": {"close": 18520.0},
        "dom_data_snapshot": {"bid_levels": 10},
    }
    return FeedbackItem(**(fields | changes))


@pytest.mark.parametrize("changes", [{}, {"prediction_flow_type": None, "prediction_confidence": None, "trade_outcome": None}, {"pnl": -3}])
def test_feedback_as_the_mission_has_it_is_sound(changes: dict[str, Any]) -> None:
    wire.check_feedback([item(**changes)])


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction_flow_type": "UP"},
        {"trade_outcome": "WON"},
        {"prediction_confidence": 1.1},
        {"prediction_confidence": math.nan},
        {"pnl": math.inf},
        {"markouts_ticks": {"5": math.nan}},
        {"market_data_snapshot": {"close": math.nan}},
        {"dom_data_snapshot": {"n": 1 << 63}},
        {"ts_event": 1 << 63},
    ],
)
def test_feedback_that_says_what_cannot_be_is_refused_with_its_place(changes: dict[str, Any]) -> None:
    error = refusal(wire.check_feedback, [item(), item(**changes)])

    assert error.code is ErrorCode.BAD_FIELD
    assert "$.items[1]" in error.message
