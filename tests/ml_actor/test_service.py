"""`MLService` without sockets: every message ends as an answer or a counted drop."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from framework import wire, wire_json
from framework.errors import ErrorCode, IntegrityError
from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window
from framework.wire import PROTOCOL_VERSION, FeedbackItem
from ml_actor.answered import Answered, Claim
from ml_actor.registry import UnknownVersion
from ml_actor.service import MLService, Slow

HEAD = {"version": PROTOCOL_VERSION}


@dataclass(frozen=True, kw_only=True)
class Scores:
    p_down: float = 0.2
    p_flat: float = 0.3
    p_up: float = 0.5
    flow_type: FlowType = FlowType.BUY
    confidence: float = 0.5
    regime: int = 1
    shock_score: float = 0.25
    horizons: tuple[HorizonPrediction, ...] = ()


class FakePredictor:
    window_rows = 100
    horizon_rows = 20
    is_calibrated = True

    def __init__(self, version: str = "v1", scores: Scores | Exception = Scores()) -> None:
        self.version = version
        self.scores = scores
        self.asked = 0

    def predict(self, window: Window) -> Scores:
        self.asked += 1
        if isinstance(self.scores, Exception):
            raise self.scores
        return self.scores


class FakeModels:
    def __init__(self) -> None:
        self.loaded = FakePredictor("v2")
        self.acts: list[str] = []
        self.fault: Exception | None = None
        self.known: tuple[dict[str, Any], ...] = ({"version": "v2"}, {"version": "v1"})

    def load_champion(self) -> FakePredictor:
        return self.loaded

    def champion(self) -> str:
        return self.loaded.version

    def versions(self) -> tuple[dict[str, Any], ...]:
        return self.known

    def decisions(self) -> tuple[Any, ...]:
        return ()

    def promote(self, version: str, *, reason: str = "") -> None:
        self.acts.append(f"promote {version} {reason}".strip())
        if self.fault:
            raise self.fault

    def rollback(self, *, reason: str = "") -> str:
        self.acts.append(f"rollback {reason}".strip())
        return "v1"

    def pin(self, version: str, *, reason: str = "") -> None:
        self.acts.append(f"pin {version} {reason}".strip())


class FakeTrainer:
    is_running = False

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.refits: list[str] = []

    def start(self, reason: str, refit: str = "") -> tuple[str, bool]:
        self.reasons.append(reason)
        self.refits.append(refit)
        return "job-1", len(self.reasons) == 1

    def status(self) -> dict[str, Any]:
        return {"state": "IDLE"}


class FakeStore:
    def __init__(self) -> None:
        self.items: dict[str, FeedbackItem] = {}

    @property
    def count(self) -> int:
        return len(self.items)

    def add(self, items: Any, *, received_ns: int) -> int:
        before = len(self.items)
        self.items |= {item.feedback_id: item for item in items}
        return len(self.items) - before


class Bench:
    def __init__(self, predictor: FakePredictor | None = None) -> None:
        self.models, self.trainer, self.store = FakeModels(), FakeTrainer(), FakeStore()
        self.service = MLService(self.models, self.trainer, self.store, wall_ns=lambda: 123, timer=lambda: 0.0)
        self.service.use(predictor)

    def raw(self, frames: list[bytes], now_s: float = 0.0, received_s: float | None = None) -> list[bytes] | None:
        answer = self.service.handle(frames, now_s, received_s)
        return answer.finish(answer.run()) if isinstance(answer, Slow) else answer

    def ask(self, *frames: bytes, now_s: float = 0.0, received_s: float | None = None) -> Any:
        answer = self.raw(list(frames), now_s, received_s)
        assert answer is not None
        return wire.decode_reply(answer[0])

    def ask_json(self, request: Any) -> dict[str, Any]:
        answer = self.raw([request if isinstance(request, bytes) else json.dumps(request).encode()])
        assert answer is not None
        decoded = msgspec.json.decode(answer[0])
        assert isinstance(decoded, dict)
        return decoded

    def counts(self) -> dict[str, int]:
        return self.service.status(0.0)["counts"]


def make_window(rows: int = 3) -> Window:
    level = np.arange(LEVELS, dtype=np.int32)
    return Window(
        instrument_id="TIDE.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(
            ts_event=np.arange(rows, dtype=np.int64) + 1_000,
            sequence=np.arange(rows, dtype=np.int64) + 5,
            segment=np.zeros(rows, np.int64),
            bid_ticks=np.tile(100 - level, (rows, 1)),
            bid_sizes=np.ones((rows, LEVELS), np.float32),
            ask_ticks=np.tile(101 + level, (rows, 1)),
            ask_sizes=np.ones((rows, LEVELS), np.float32),
            flow=np.zeros((rows, len(FLOW_COLUMNS)), np.float32),
        ),
        bars=np.zeros((0, len(BAR_COLUMNS))),
    )


def predict_frames(request_id: str = "p1", timeout_ms: float = 100.0, rows: int = 3) -> list[bytes]:
    window = make_window(rows)
    return [wire.encode(wire.predict_request(window, request_id=request_id, timeout_ms=timeout_ms)), wire.encode_window(window)]


MISSION_REQUEST = {
    "order_events": [],
    "market_data": {
        "timestamp": ["2024-01-15T10:30:14Z", "2024-01-15T10:30:15Z"],
        "open": [18500.0, 18501.0],
        "high": [18525.0, 18525.0],
        "low": [18495.0, 18495.0],
        "close": [18520.0, 18520.25],
        "volume": [1500.0, 10],
    },
    "order_book": {"bids": [[18520.0, 5], [18519.75, 7]], "asks": [[18520.25, 3], [18520.5, 2]]},
}

MISSION_FEEDBACK = {
    "timestamp": "2024-01-15T10:30:15Z",
    "prediction_flow_type": "BUY",
    "prediction_confidence": 0.75,
    "trade_executed": True,
    "trade_outcome": "PROFIT",
    "market_data_snapshot": {
        "timestamp": "2024-01-15T10:30:15Z",
        "open": 18500.0,
        "high": 18525.0,
        "low": 18495.0,
        "close": 18520.0,
        "volume": 1500.0,
    },
    "dom_data_snapshot": {"timestamp": "2024-01-15T10:30:15Z", "spread": 2.5, "mid_price": 18520.0, "bid_levels": 10, "ask_levels": 10},
}


# --- predictions -----------------------------------------------------------------------------------------------------


def test_a_prediction_says_what_it_is_about_and_who_made_it() -> None:
    reply = Bench(FakePredictor()).ask(*predict_frames())

    assert (reply.request_id, reply.flow_type, reply.confidence, reply.model_version) == ("p1", "BUY", 0.5, "v1")
    assert (reply.instrument_id, reply.as_of_ns, reply.as_of_sequence, reply.horizon_rows) == ("TIDE.SIM", 1_002, 7, 20)


def test_without_a_model_the_answer_says_so() -> None:
    reply = Bench().ask(*predict_frames())

    assert (reply.code, reply.message) == (ErrorCode.NO_MODEL, "no model yet; strategies use their default behaviour")


@pytest.mark.parametrize("timeout_ms", [0.0, -5.0])
def test_a_request_whose_deadline_is_over_is_not_computed(timeout_ms: float) -> None:
    predictor = FakePredictor()

    reply = Bench(predictor).ask(*predict_frames(timeout_ms=timeout_ms))

    assert reply.code == ErrorCode.EXPIRED
    assert predictor.asked == 0


def test_a_request_that_waited_beyond_its_deadline_is_not_computed() -> None:
    predictor = FakePredictor()
    bench = Bench(predictor)

    in_time = bench.ask(*predict_frames("a"), now_s=10.0625, received_s=10.0)
    too_late = bench.ask(*predict_frames("b"), now_s=10.125, received_s=10.0)

    assert isinstance(in_time, wire.PredictReply)
    assert too_late.code == ErrorCode.EXPIRED
    assert predictor.asked == 1


@pytest.mark.parametrize("timeout_ms", [60_001.0, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(timeout_ms: float) -> None:
    assert Bench(FakePredictor()).ask(*predict_frames(timeout_ms=timeout_ms)).code == ErrorCode.BAD_FIELD


@pytest.mark.parametrize(
    "scores",
    [
        Scores(p_up=float("nan")),
        Scores(p_up=0.6),
        Scores(p_up=1.2, p_down=-0.5),
        Scores(confidence=float("nan")),
        Scores(shock_score=float("inf")),
        Scores(horizons=(HorizonPrediction(5, 0.5, float("nan"), 0.5, FlowType.SELL, 0.5),)),
        Scores(horizons=(HorizonPrediction(5, 0.5, 0.0, 0.5, FlowType.SELL, 1.5),)),
    ],
)
def test_numbers_that_are_no_probabilities_never_leave_the_service(scores: Scores) -> None:
    bench = Bench(FakePredictor(scores=scores))

    reply = bench.ask(*predict_frames())

    assert reply.code == ErrorCode.INTERNAL
    assert bench.counts()["bad_predictions"] == 1


def test_a_model_that_raises_costs_one_answer_and_tells_no_details() -> None:
    bench = Bench(FakePredictor(scores=RuntimeError("secret path /home/x")))

    reply = bench.ask(*predict_frames())

    assert reply.code == ErrorCode.INTERNAL
    assert "secret" not in reply.message
    assert isinstance(bench.ask(wire.encode(wire.Ping(**HEAD, request_id="p"))), wire.Pong)


def test_a_model_is_swapped_between_two_requests() -> None:
    bench = Bench(FakePredictor("v1"))
    first = bench.ask(*predict_frames("a"))

    bench.service.use(FakePredictor("v2"))
    second = bench.ask(*predict_frames("b"))

    assert (first.model_version, second.model_version) == ("v1", "v2")


# --- ids -------------------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_carried_out_once_and_gets_the_same_answer() -> None:
    predictor = FakePredictor()
    bench = Bench(predictor)

    first = bench.raw(predict_frames("same", timeout_ms=100.0))
    again = bench.raw(predict_frames("same", timeout_ms=60.0))

    assert first == again
    assert predictor.asked == 1


def test_an_id_that_comes_with_another_request_is_a_conflict() -> None:
    bench = Bench(FakePredictor())
    bench.ask(*predict_frames("same", rows=3))

    assert bench.ask(*predict_frames("same", rows=4)).code == ErrorCode.ID_CONFLICT
    assert bench.ask(wire.encode(wire.TrainRequest(**HEAD, request_id="same", reason="r"))).code == ErrorCode.ID_CONFLICT


def test_a_repeat_of_a_request_that_still_runs_is_answered_by_the_one_that_runs() -> None:
    bench = Bench()
    frames = [wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="rollback"))]
    running = bench.service.handle(frames, 0.0)
    assert isinstance(running, Slow)

    assert bench.service.handle(frames, 0.0) is None
    answer = running.finish(running.run())

    assert bench.raw(frames) == answer
    assert bench.models.acts == ["rollback"]


def test_reading_requests_are_not_remembered() -> None:
    bench = Bench()
    ping = wire.encode(wire.Ping(**HEAD, request_id="1"))

    assert bench.ask(ping).model_version == ""
    bench.service.use(FakePredictor("v9"))

    assert bench.ask(ping).model_version == "v9"


def test_what_was_answered_is_forgotten_by_count_bytes_and_age() -> None:
    answered = Answered(max_answers=3, max_bytes=10, kept_s=60.0)
    for number in range(4):
        answered.claim(str(number), 1, 0.0)
    assert answered.claim("0", 2, 0.0) is Claim.NEW  # forgotten by count

    answered.store("3", b"x" * 11)
    answered.claim("5", 1, 0.0)
    assert answered.claim("3", 1, 0.0) is Claim.NEW  # forgotten by bytes

    assert answered.claim("3", 1, 59.0) is Claim.RUNNING
    assert answered.claim("3", 1, 60.0) is Claim.NEW  # forgotten by age


# --- the other requests ----------------------------------------------------------------------------------------------


def test_train_answers_at_once_with_the_job() -> None:
    bench = Bench()

    first = bench.ask(wire.encode(wire.TrainRequest(**HEAD, request_id="a", reason="drift")))
    second = bench.ask(wire.encode(wire.TrainRequest(**HEAD, request_id="b", reason="again")))

    assert (first.job_id, first.is_new, second.job_id, second.is_new) == ("job-1", True, "job-1", False)
    assert bench.ask(wire.encode(wire.Ping(**HEAD, request_id="p"))).trainings == 1


def test_how_to_refit_travels_with_the_request_and_other_words_are_refused() -> None:
    bench = Bench()

    bench.ask(wire.encode(wire.TrainRequest(**HEAD, request_id="a", reason="r", refit="warm")))
    bench.ask_json({"type": "train", "request_id": "b", "refit": "full"})
    bench.ask_json({"type": "train", "request_id": "c"})
    assert bench.trainer.refits == ["warm", "full", ""]

    assert bench.ask(wire.encode(wire.TrainRequest(**HEAD, request_id="d", reason="r", refit="hot"))).code == ErrorCode.BAD_FIELD
    assert len(bench.trainer.refits) == 3


def test_promoting_swaps_the_model_and_lists_the_versions() -> None:
    bench = Bench(FakePredictor("v1"))

    reply = bench.ask(wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="promote", version_id="v2")))

    assert (reply.champion, bench.service.model_version, bench.models.acts) == ("v2", "v2", ["promote v2"])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (UnknownVersion("no version 'v9'"), ErrorCode.NOT_FOUND),
        (IntegrityError("signature does not hold"), ErrorCode.REFUSED),
        (RuntimeError("bug"), ErrorCode.INTERNAL),
    ],
)
def test_a_promotion_that_fails_keeps_the_model_that_serves(fault: Exception, code: ErrorCode) -> None:
    bench = Bench(FakePredictor("v1"))
    bench.models.fault = fault

    reply = bench.ask(wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="promote", version_id="v9")))

    assert reply.code == code
    assert bench.service.model_version == "v1"


def test_an_unknown_action_is_refused_with_the_known_ones() -> None:
    reply = Bench().ask(wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="delete")))

    assert reply.code == ErrorCode.BAD_FIELD
    assert "list, show, compare, promote, rollback, pin, unpin" in reply.message


def test_more_versions_than_a_frame_holds_are_cut_to_the_newest() -> None:
    bench = Bench()
    bench.models.known = tuple({"version": f"v{n}", "facts": "x" * 60_000} for n in range(200, 0, -1))

    reply = bench.ask(wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="list")))

    assert 1 <= len(reply.versions) < 20
    assert reply.versions[0]["version"] == "v200"


def test_the_status_document_has_its_keys() -> None:
    reply = Bench(FakePredictor()).ask(wire.encode(wire.StatusRequest(**HEAD, request_id="s")))

    assert set(reply.status) == {
        "state",
        "model_version",
        "is_calibrated",
        "window_rows",
        "horizon_rows",
        "uptime_s",
        "compute_us",
        "counts",
        "training",
        "learning",
        "feedback_stored",
        "rim",
    }


def test_overload_is_answered_with_the_request_s_id() -> None:
    bench = Bench()

    answer = bench.service.refuse_overload(predict_frames("x"))

    assert answer is not None
    reply = wire.decode_reply(answer[0])
    assert (reply.request_id, getattr(reply, "code", "")) == ("x", ErrorCode.OVERLOADED)


# --- JSON: the mission's structures ------------------------------------------------------------------------------------


def test_the_mission_s_request_as_written_is_answered_with_a_signal_and_confidence() -> None:
    reply = Bench(FakePredictor()).ask_json(MISSION_REQUEST)

    assert reply["prediction_flow_type"] == "BUY"
    assert reply["prediction_confidence"] == 0.5
    assert reply["signal"] == "buy"
    assert reply["probabilities"] == {"down": 0.2, "flat": 0.3, "up": 0.5}
    assert reply["as_of"] == "2024-01-15T10:30:15Z"
    assert (reply["model_version"], reply["is_calibrated"], reply["horizon_rows"]) == ("v1", True, 20)


def test_the_mission_s_feedback_as_written_is_stored_once_and_acknowledged() -> None:
    bench = Bench()

    first = bench.ask_json(MISSION_FEEDBACK)
    again = bench.ask_json(MISSION_FEEDBACK)
    batch = bench.ask_json({"type": "feedback", "items": [MISSION_FEEDBACK, MISSION_FEEDBACK | {"trade_outcome": None}]})

    assert first["feedback_ids"] == again["feedback_ids"] == batch["feedback_ids"][:1]
    assert len(bench.store.items) == 2


def test_json_verbs_are_answered_in_json() -> None:
    bench = Bench(FakePredictor())

    kinds = {kind: bench.ask_json({"type": kind, "request_id": f"r-{kind}"}) for kind in ("ping", "status", "train", "models")}

    assert [reply["type"] for reply in kinds.values()] == ["pong", "status_reply", "train_accepted", "models_reply"]
    assert all(reply["request_id"] == f"r-{kind}" for kind, reply in kinds.items())


@pytest.mark.parametrize(
    ("request_body", "code", "words"),
    [
        (b'{"type": "predict", "order_book": {"bids": [[NaN, 1]], "asks": []}}', "DECODE", ""),
        (b'{"order_book": {"bids": [[1e999, 1]], "asks": []}}', "DECODE", ""),
        (b'{"order_book": ' + b"[" * 100_000, "DECODE", ""),
        ({"type": "shutdown"}, "UNKNOWN_TYPE", "shutdown"),
        ({"hello": "world"}, "UNKNOWN_TYPE", "`type`"),
        ({"type": "ping", "version": 2}, "UNSUPPORTED_VERSION", "version 2"),
        ({"market_data": {}}, "BAD_FIELD", "$.order_book"),
        ({"order_book": {"bids": [[100.1, 1]], "asks": [[100.2, 1]]}, "tick_size": 0.25}, "BAD_FIELD", "$.order_book.bids"),
        ({"order_book": {"bids": [[101, 1]], "asks": [[100, 1]]}}, "BAD_FIELD", "best bid"),
        ({"order_book": {"bids": [[99, 1], [100, 1]], "asks": [[101, 1]]}}, "BAD_FIELD", "sorted"),
        ({"order_book": {"bids": [[99, -1]], "asks": [[101, 1]]}}, "BAD_FIELD", "must not be negative"),
        ({"order_book": {"bids": [["99", 1]], "asks": []}}, "BAD_FIELD", "$.order_book.bids[0][0]"),
        ({"order_book": {"bids": [[99, 1]] * 1_001, "asks": []}}, "BAD_FIELD", "at most 1000"),
        ({"order_book": {"bids": [], "asks": []}, "market_data": {"timestamp": [1], "open": []}}, "BAD_FIELD", "$.market_data.open"),
        ({"order_book": {"bids": [], "asks": []}, "market_data": {"timestamp": ["noon"]}}, "BAD_FIELD", "$.market_data.timestamp[0]"),
        ({"order_book": {"bids": [], "asks": []}, "timeout": 0}, "EXPIRED", ""),
        ({"order_book": {"bids": [], "asks": []}, "timeout": 61}, "BAD_FIELD", "timeout"),
        (MISSION_FEEDBACK | {"prediction_flow_type": "UP"}, "BAD_FIELD", "prediction_flow_type"),
        (MISSION_FEEDBACK | {"trade_outcome": "WON"}, "BAD_FIELD", "trade_outcome"),
        (MISSION_FEEDBACK | {"prediction_confidence": 1.5}, "BAD_FIELD", "prediction_confidence"),
        (MISSION_FEEDBACK | {"dom_data_snapshot": {"deep": {"er": 1}}}, "BAD_FIELD", "dom_data_snapshot"),
        (MISSION_FEEDBACK | {"dom_data_snapshot": {"big": 1 << 64}}, "BAD_FIELD", "64 bits"),
    ],
)
def test_a_request_that_cannot_be_used_is_answered_with_what_and_where(request_body: Any, code: str, words: str) -> None:
    reply = Bench(FakePredictor()).ask_json(request_body)

    assert reply["error"]["code"] == code
    assert words in reply["error"]["message"]


def test_json_and_binary_give_the_model_the_same_rows() -> None:
    window = make_window()
    frame = wire_json.encode_predict(window, request_id="j", timeout_ms=100.0)

    decoded = wire_json.decode_request(frame).window

    assert decoded is not None
    for name in Rows.__slots__:
        assert np.array_equal(getattr(decoded.rows, name), getattr(window.rows, name)), name


# --- garbage ---------------------------------------------------------------------------------------------------------


def test_wrong_frame_counts_are_dropped_or_refused() -> None:
    bench = Bench(FakePredictor())
    ping = wire.encode(wire.Ping(**HEAD, request_id="p"))

    assert bench.raw([]) is None
    assert bench.raw([b""]) is None
    assert bench.raw([ping] * 9) is None
    assert bench.ask(ping, b"extra").code == ErrorCode.BAD_FIELD
    assert bench.ask(predict_frames()[0]).code == ErrorCode.BAD_FIELD
    assert bench.counts()["dropped"] == 3


def seeds() -> list[list[bytes]]:
    json_predict = wire_json.encode_predict(make_window(), request_id="j", timeout_ms=100.0)
    return [
        predict_frames(),
        [wire.encode(wire.Ping(**HEAD, request_id="p"))],
        [wire.encode(wire.TrainRequest(**HEAD, request_id="t", reason="r"))],
        [wire.encode(wire.ModelsRequest(**HEAD, request_id="m", action="promote", version_id="v1"))],
        [wire.encode(wire_json.decode_request(json.dumps(MISSION_FEEDBACK).encode()).request)],
        [json_predict],
        [json.dumps(MISSION_REQUEST).encode()],
        [json.dumps(MISSION_FEEDBACK).encode()],
        [json.dumps({"type": "models", "request_id": "m"}).encode()],
    ]


def mutated(frames: list[bytes], rng: random.Random) -> list[bytes]:
    frames = list(frames)
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(frames)) if frames else 0
        content = bytearray(frames[position]) if frames else bytearray()
        at = rng.randrange(len(content) + 1)
        match rng.randrange(7):
            case 0 if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
            case 1:
                content[at:at] = rng.randbytes(rng.randint(1, 9))
            case 2:
                del content[at : at + rng.randint(1, 30)]
            case 3 if content:
                content[at % len(content)] = rng.choice([0, 0x7F, 0x80, 0xC1, 0xC7, 0xD9, 0xFF])
            case 4:
                frames.append(rng.randbytes(rng.randint(0, 20)))
            case 5 if len(content) >= 8:
                at = at % (len(content) - 7)
                content[at : at + 8] = rng.choice([b"\xff" * 8, b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x00\x00\xc0\x7f" * 2, b"\x00" * 8])
            case _:
                frames.reverse()
        if frames and position < len(frames):
            frames[position] = bytes(content)
    return frames


def assert_answered_or_dropped(bench: Bench, frames: list[bytes]) -> None:
    counted = bench.counts().get("dropped", 0) + bench.counts().get("repeated", 0)
    answer = bench.raw(frames)
    if answer is None:
        assert bench.counts().get("dropped", 0) + bench.counts().get("repeated", 0) == counted + 1
        return
    (frame,) = answer
    reply = wire_json.decode_reply(frame) if wire_json.is_json(frame) else wire.decode_reply(frame)
    assert len(frame) <= wire.MAX_FRAME_BYTES
    assert getattr(reply, "code", "") != ErrorCode.INTERNAL


def test_twenty_thousand_mutated_messages_end_as_answers_or_counted_drops() -> None:
    rng = random.Random(20_241_122)
    bench = Bench(FakePredictor())
    corpus = seeds()

    for _ in range(20_000):
        assert_answered_or_dropped(bench, mutated(rng.choice(corpus), rng))


@given(st.lists(st.binary(max_size=200), max_size=10))
@example([b"\x93\xa4ping\x01\xa1p"])
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_as_an_answer_or_a_counted_drop(frames: list[bytes]) -> None:
    assert_answered_or_dropped(Bench(FakePredictor()), frames)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


@given(base=st.sampled_from([MISSION_REQUEST, MISSION_FEEDBACK, {"type": "feedback", "items": [MISSION_FEEDBACK]}]), data=st.data())
@settings(max_examples=500, deadline=None)
def test_the_mission_s_structures_with_any_value_anywhere_end_as_an_answer(base: dict[str, Any], data: st.DataObject) -> None:
    request = json.loads(json.dumps(base))
    where: Any = request
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(where[key], dict | list) and where[key] and data.draw(st.booleans()):
            where = where[key]
            continue
        where[key] = data.draw(JSON_VALUES)
        break

    assert_answered_or_dropped(Bench(FakePredictor()), [json.dumps(request).encode()])


def test_answers_to_garbage_carry_the_request_id_where_it_can_be_read() -> None:
    bench = Bench()

    assert bench.ask(msgspec.msgpack.encode(["nonsense", 1, "id-7"])).request_id == "id-7"
    assert bench.ask(msgspec.msgpack.encode(["predict", 1, "id-8", "not a number"])).request_id == "id-8"
    assert bench.ask_json({"type": "nonsense", "request_id": "id-9"})["request_id"] == "id-9"
