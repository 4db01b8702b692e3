"""The JSON wire: the mission's structures as written, and the same structs behind them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import wire, wire_json
from framework.errors import ErrorCode, WireError
from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import FLOW_COLUMNS, LEVELS, Window
from framework.wire_json import iso_utc, to_ns


def window_of(**request: Any) -> Window:
    window = wire_json.decode_request(json.dumps(request).encode()).window
    assert window is not None
    return window


def book(bid: float = 100.0, ask: float = 100.25, bid_size: float = 5, ask_size: float = 3, **more: Any) -> dict[str, Any]:
    return {"bids": [[bid, bid_size]], "asks": [[ask, ask_size]], **more}


# --- windows ---------------------------------------------------------------------------------------------------------


def test_a_request_with_the_book_alone_is_a_window_of_one_row() -> None:
    window = window_of(order_book={"bids": [[18520.0, 5], [18519.75, 7]], "asks": [[18520.25, 3]]})

    assert len(window.rows) == 1
    assert window.tick_size == 0.25
    assert window.rows.bid_ticks[0, :3].tolist() == [74080, 74079, 0]
    assert window.rows.bid_sizes[0, :3].tolist() == [5.0, 7.0, 0.0]
    assert not window.has_trades
    assert not window.rows.flow.any()


def test_the_history_comes_before_the_book_and_times_order_the_rows() -> None:
    history = [book(timestamp="2024-01-15T10:30:13Z"), book(timestamp="2024-01-15T10:30:14Z")]

    window = window_of(order_book_history=history, order_book=book(timestamp="2024-01-15T10:30:15Z"))

    assert [iso_utc(int(ns))[-3:-1] for ns in window.rows.ts_event] == ["13", "14", "15"]
    assert window.rows.sequence.tolist() == [1, 2, 3]


def test_a_book_without_a_time_gets_that_of_the_last_bar() -> None:
    bars = {"timestamp": ["2024-01-15T10:30:15Z"], "open": [100], "high": [101], "low": [99], "close": [100.5], "volume": [7]}

    window = window_of(order_book=book(), market_data=bars)

    assert iso_utc(window.as_of_ns) == "2024-01-15T10:30:15Z"
    assert window.bars.tolist() == [[1705314615.0, 400.0, 404.0, 396.0, 402.0, 7.0]]


@pytest.mark.parametrize(
    ("prices", "tick_size"),
    [((18520.0, 18520.25), 0.25), ((100.01, 100.02), 0.01), ((1.0, 2.0), 0.25), ((1.00005, 1.0001), 0.00005), ((65000.1, 65000.2), 0.05)],
)
def test_a_tick_size_that_is_not_given_is_the_largest_part_of_a_quarter_that_fits(prices: tuple[float, float], tick_size: float) -> None:
    window = window_of(order_book=book(*prices))

    assert window.tick_size == tick_size
    assert [window.rows.bid_ticks[0, 0] * tick_size, window.rows.ask_ticks[0, 0] * tick_size] == pytest.approx(prices)


def test_levels_beyond_the_tenth_and_levels_of_no_size_are_left_out() -> None:
    bids = [[100 - n, 0 if n == 3 else 1] for n in range(30)]

    window = window_of(order_book={"bids": bids, "asks": []}, tick_size=1.0)

    assert window.rows.bid_ticks[0].tolist() == [100, 99, 98, 96, 95, 94, 93, 92, 91, 90]


def test_flow_is_told_from_two_books_in_a_row() -> None:
    """Cont, Kukanov and Stoikov (2014), eq. 10, by hand: resize, better bid, worse ask."""
    history = [book(100.0, 101.0, 5, 3), book(100.0, 101.0, 7, 2), book(100.5, 101.0, 4, 2)]

    window = window_of(order_book_history=history, order_book=book(100.5, 101.5, 4, 6), tick_size=0.5)

    first = FLOW_COLUMNS.index("ofi_1")
    bid_events, ask_events = FLOW_COLUMNS.index("bid_events"), FLOW_COLUMNS.index("ask_events")
    assert window.rows.flow[:, first].tolist() == [0, (7 - 5) - (2 - 3), 4, 2]
    assert window.rows.flow[:, bid_events].tolist() == [0, 1, 1, 0]
    assert window.rows.flow[:, ask_events].tolist() == [0, 1, 0, 1]
    assert not window.rows.flow[:, :5].any()


def test_flow_that_comes_with_a_book_is_used() -> None:
    flow = [float(n) for n in range(len(FLOW_COLUMNS))]

    assert window_of(order_book=book(flow=flow)).rows.flow[0].tolist() == flow


@given(
    rows=st.lists(
        st.tuples(st.integers(-1_000, 1_000), st.integers(1, 5), st.lists(st.integers(1, 99), min_size=0, max_size=LEVELS)),
        min_size=1,
        max_size=6,
    ),
    tick_size=st.sampled_from([0.25, 0.01, 0.00005, 5.0]),
)
def test_any_window_comes_out_of_json_as_it_went_in(rows: list[tuple[int, int, list[int]]], tick_size: float) -> None:
    books = []
    for number, (best, spread, sizes) in enumerate(rows):
        bids = [[(best - level) * tick_size, size] for level, size in enumerate(sizes)]
        asks = [[(best + spread + level) * tick_size, size] for level, size in enumerate(sizes)]
        books.append({"bids": bids, "asks": asks, "timestamp": number, "sequence": number})
    window = window_of(order_book_history=books[:-1], order_book=books[-1], tick_size=tick_size, instrument_id="A.B")

    frame = wire_json.encode_predict(window, request_id="r", timeout_ms=100.0)
    again = wire_json.decode_request(frame).window

    assert again is not None
    for name in type(window.rows).__slots__:
        assert np.array_equal(getattr(again.rows, name), getattr(window.rows, name)), name


# --- times -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 4_102_444_800 * 10**9))
def test_a_time_as_text_comes_back_to_the_nanosecond(ns: int) -> None:
    assert to_ns(iso_utc(ns)) == ns


@pytest.mark.parametrize(
    ("stamp", "ns"),
    [
        ("2024-01-15T10:30:15Z", 1705314615000000000),
        ("2024-01-15T10:30:15", 1705314615000000000),
        ("2024-01-15 10:30:15.5+00:00", 1705314615500000000),
        ("2024-01-15T11:30:15.000000001+01:00", 1705314615000000001),
        (1705314615, 1705314615000000000),
        (1705314615.25, 1705314615250000000),
        (1705314615000, 1705314615000000000),
        (1705314615000000, 1705314615000000000),
        (1705314615000000001, 1705314615000000001),
        (0, 0),
    ],
)
def test_times_are_text_or_numbers_of_any_unit(stamp: str | float, ns: int) -> None:
    assert to_ns(stamp) == ns


@pytest.mark.parametrize(
    "stamp", ["noon", "", "2024-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "٢٠٢٤-01-15T10:30:15Z", -1, 1e30, float("nan"), "x" * 1_000]
)
def test_what_is_no_time_is_refused(stamp: str | float) -> None:
    with pytest.raises(ValueError, match=r"time|month|1970"):
        to_ns(stamp)


# --- messages --------------------------------------------------------------------------------------------------------


REPLIES = [
    wire.Pong(version=1, request_id="r", state="SERVING", model_version="v1", is_training=False, predictions=3, trainings=1),
    wire.TrainReply(version=1, request_id="r", job_id="job-1", is_new=True),
    wire.FeedbackReply(version=1, request_id="r", feedback_ids=("a", "b")),
    wire.StatusReply(version=1, request_id="r", status={"state": "SERVING"}),
    wire.ModelsReply(version=1, request_id="r", champion="v1", versions=({"version": "v1"},)),
    wire.ErrorReply(version=1, request_id="r", code=ErrorCode.NO_MODEL, message="no model yet"),
    wire.PredictReply(
        version=1, request_id="r", flow_type="STRONG_SELL", confidence=0.8, p_down=0.8, p_flat=0.1, p_up=0.1, model_version="v1",
        is_calibrated=True, horizon_rows=20, as_of_ns=1705314615123456789, as_of_sequence=9, regime=2, shock_score=0.3,
        compute_us=180.5, instrument_id="TIDE.SIM", horizons=(HorizonPrediction(5, 0.25, 0.5, 0.25, FlowType.NEUTRAL, 0.5),),
    ),
]  # fmt: skip

REQUESTS = [
    wire.Ping(version=1, request_id="r"),
    wire.TrainRequest(version=1, request_id="r", reason="drift"),
    wire.StatusRequest(version=1, request_id="r"),
    wire.ModelsRequest(version=1, request_id="r", action="promote", version_id="v1"),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_comes_out_of_json_as_it_went_in(reply: wire.Reply) -> None:
    assert wire_json.decode_reply(wire_json.encode_reply(reply)) == reply


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_every_request_comes_out_of_json_as_it_went_in(request_: wire.Request) -> None:
    assert wire_json.decode_request(wire_json.encode_request(request_)).request == request_


def test_a_prediction_is_told_in_the_mission_s_words() -> None:
    reply = json.loads(wire_json.encode_reply(REPLIES[-1]))

    assert (reply["prediction_flow_type"], reply["prediction_confidence"], reply["signal"]) == ("STRONG_SELL", 0.8, "sell")
    assert reply["probabilities"] == {"down": 0.8, "flat": 0.1, "up": 0.1}
    assert reply["as_of"] == "2024-01-15T10:30:15.123456789Z"
    (further,) = reply["horizons"]
    assert (further["horizon_rows"], further["prediction_flow_type"], further["signal"]) == (5, "NEUTRAL", "hold")
    assert further["probabilities"] == {"down": 0.25, "flat": 0.5, "up": 0.25}


@pytest.mark.parametrize("horizons", [7, [7], [{}], [{"horizon_rows": 5, "prediction_flow_type": "MAYBE"}]])
def test_further_horizons_that_are_none_are_refused(horizons: Any) -> None:
    reply = json.loads(wire_json.encode_reply(REPLIES[-1])) | {"horizons": horizons}

    with pytest.raises(WireError) as refused:
        wire_json.decode_reply(json.dumps(reply).encode())
    assert refused.value.code is ErrorCode.BAD_FIELD


def test_feedback_goes_out_and_comes_in_with_every_field() -> None:
    items = tuple(
        wire.FeedbackItem(
            timestamp="2024-01-15T10:30:15Z", prediction_flow_type="BUY", prediction_confidence=0.75, trade_executed=True,
            trade_outcome="PROFIT", market_data_snapshot={"close": 1.5}, dom_data_snapshot={"spread": None, "bid_levels": 10},
            feedback_id=f"d-{n}", pnl=-12.5, markouts_ticks={"1": 0.5, "30": -2.0}, ts_event=1705314615123456789,
        )
        for n in range(3)
    )  # fmt: skip
    request = wire.FeedbackRequest(version=1, request_id="r", items=items)

    assert wire_json.decode_request(wire_json.encode_request(request)).request == request


def test_the_id_of_feedback_without_one_is_a_digest_of_what_it_says() -> None:
    said = {
        "timestamp": "2024-01-15T10:30:15Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.75,
        "trade_executed": True,
        "trade_outcome": None,
        "market_data_snapshot": {"open": 1.0, "close": 2.0},
        "dom_data_snapshot": {},
    }
    reordered = said | {"market_data_snapshot": {"close": 2.0, "open": 1.0}}

    ids = [
        wire_json.decode_request(json.dumps(one).encode()).request.items[0].feedback_id for one in (said, reordered, said | {"pnl": 1.0})
    ]  # type: ignore[union-attr]

    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("sha256-")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{", ErrorCode.DECODE),
        (b"[]", ErrorCode.DECODE),
        (b'{"type": "\xff"}', ErrorCode.DECODE),
        (b'{"type": "ping", "request_id": "\\ud800"}', ErrorCode.DECODE),
        (b'{"type": "ping", "request_id": 7}', ErrorCode.BAD_FIELD),
        (b'{"type": ["ping"]}', ErrorCode.UNKNOWN_TYPE),
        (b'{"type": "pong"}', ErrorCode.BAD_FIELD),
        (b'{"order_book": {"bids": [[1, 1]], "asks": []}, "timeout": "soon"}', ErrorCode.BAD_FIELD),
        (b'{"type": "feedback", "items": {}}', ErrorCode.BAD_FIELD),
        (b'{"a": 1' + b"0" * 5_000 + b"}", ErrorCode.DECODE),
        (b"{" + b" " * wire.MAX_FRAME_BYTES + b"}", ErrorCode.DECODE),
    ],
)
def test_what_is_no_request_is_refused_with_its_code(frame: bytes, code: ErrorCode) -> None:
    with pytest.raises(WireError) as refused:
        wire_json.decode_request(frame)

    assert refused.value.code is code


@given(st.binary(max_size=60).map(lambda tail: b"{" + tail))
def test_a_reply_of_any_bytes_is_a_reply_or_refused(frame: bytes) -> None:
    try:
        wire_json.decode_reply(frame)
    except WireError:
        return
