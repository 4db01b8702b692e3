"""The analyzer: asks when it is due, tells exactly once, at the promised market time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import MainConfig, MLServiceConfig, ReplayConfig, StrategyFile, StrategyMLService, TrainingConfig
from framework.inference.analyzer import AnalyzerSettings, NotDue, OrderFlowAnalyzer, Outcome, Requested, hold_time_for
from framework.inference.decision import Cell, Cooldown
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.messages import FailureReason, Message, PredictionFailed, PredictionReceived
from framework.model import FlowType
from framework.window import Window
from framework.wire import PredictReply

MS = 1_000_000


class MemoryClient:
    """An `MLClient` that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Window, float, Callable[[Outcome, str], None]]] = []

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Outcome, str], None]) -> str:
        self.asked.append((window, timeout_s, on_outcome))
        return f"{strategy_id}-p{len(self.asked)}"

    def answer(self, outcome: Outcome | None = None, detail: str = "", *, request: int = -1) -> None:
        window, _, on_outcome = self.asked[request]
        on_outcome(outcome or reply(as_of_sequence=window.as_of_sequence), detail)


def reply(**changes: Any) -> PredictReply:
    base = PredictReply(
        version=1,
        request_id="r1",
        flow_type="BUY",
        confidence=0.75,
        p_down=0.1,
        p_flat=0.15,
        p_up=0.75,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=0,
        as_of_sequence=50,
        regime=2,
        shock_score=0.5,
        compute_us=30.0,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
def clock(start_ns: int) -> EventClock:
    return EventClock(start_ns)


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient()


@pytest.fixture
def make(client: MemoryClient, bus: Any, clock: EventClock) -> Callable[..., OrderFlowAnalyzer]:
    def build(*, deliver_at: Any = None, catch_up: Any = None, **settings: Any) -> OrderFlowAnalyzer:
        return OrderFlowAnalyzer(
            strategy_id="s",
            instrument_id="TIDE.SIM",
            settings=AnalyzerSettings(**({"cooldown_s": 1.0} | settings)),
            client=client,
            bus=bus,
            clock=clock,
            log=logging.getLogger("YourFuturesStrategy"),
            deliver_at=deliver_at,
            catch_up=catch_up,
        )

    return build


def test_a_request_cuts_the_last_rows_and_returns_at_once(make: Any, client: MemoryClient, dom: Any, bus: Any, start_ns: int) -> None:
    answer = make(window_rows=20, timeout_s=0.5).request(dom, start_ns)

    window, timeout_s, _ = client.asked[0]
    assert answer == Requested("s-p1")
    assert len(window.rows) == 20
    assert window.as_of_sequence == 50
    assert timeout_s == 0.5
    assert bus.told == []


def test_the_answer_becomes_a_message_with_the_age_of_the_window(make: Any, client: MemoryClient, dom: Any, bus: Any, clock: Any) -> None:
    make().request(dom, clock.now_ns())
    clock.advance_to(clock.now_ns() + 3 * MS)

    client.answer()

    [(actor, message)] = bus.told
    assert actor == "s"
    assert isinstance(message, PredictionReceived)
    prediction = message.prediction
    assert prediction.prediction_id == "s-p1"
    assert prediction.flow_type is FlowType.BUY
    assert prediction.as_of_ns == clock.now_ns() - 3 * MS
    assert prediction.as_of_sequence == 50
    assert prediction.as_of_total_rows == dom.total_rows
    assert prediction.received_ns == clock.now_ns()
    assert prediction.round_trip_us == 3_000


@pytest.mark.parametrize("reason", list(FailureReason))
def test_a_failed_request_becomes_one_message_with_its_reason(
    reason: FailureReason, make: Any, client: MemoryClient, dom: Any, bus: Any, clock: Any
) -> None:
    analyzer = make()
    analyzer.request(dom, clock.now_ns())

    client.answer(reason, "why")

    [(_, message)] = bus.told
    assert message == PredictionFailed(
        prediction_id="s-p1", strategy_id="s", instrument_id="TIDE.SIM", ts_event=clock.now_ns(), reason=reason, detail="why"
    )
    assert analyzer.stats()[f"failed_{reason.lower()}"] == 1


@pytest.mark.parametrize("wrong", [{"flow_type": "MAYBE"}, {"as_of_sequence": 49}])
def test_an_answer_that_makes_no_sense_is_a_failure(wrong: Any, make: Any, client: MemoryClient, dom: Any, bus: Any, start_ns: int) -> None:
    make().request(dom, start_ns)

    client.answer(reply(**wrong))

    assert bus.told[0][1].reason is FailureReason.BAD_REPLY


def test_nothing_is_asked_during_the_cooldown_and_again_from_its_end_on(make: Any, client: MemoryClient, dom: Any, clock: Any) -> None:
    analyzer = make(cooldown_s=1.0)
    start_ns = clock.now_ns()
    analyzer.request(dom, start_ns)
    client.answer()

    assert analyzer.cooldown(start_ns + 999 * MS) is Cooldown.COOLING
    assert analyzer.request(dom, start_ns + 999 * MS) == NotDue(Cell.COOLDOWN)
    assert analyzer.request(dom, start_ns + 1_000 * MS) == Requested("s-p2")


def test_only_one_request_is_in_flight(make: Any, client: MemoryClient, dom: Any, start_ns: int) -> None:
    analyzer = make(cooldown_s=0.0)
    analyzer.request(dom, start_ns)

    assert analyzer.request(dom, start_ns + 60_000 * MS) == NotDue(Cell.PREDICTION_PENDING)
    client.answer()
    assert analyzer.request(dom, start_ns) == Requested("s-p2")


def test_too_few_rows_of_the_segment_are_not_sent(make: Any, client: MemoryClient, dom: Any, start_ns: int) -> None:
    dom.segment_start = 41

    assert make(min_dom_samples=10).request(dom, start_ns) == NotDue(Cell.INSUFFICIENT_DOM)
    assert make(min_dom_samples=9).request(dom, start_ns) == Requested("s-p1")
    assert len(client.asked[0][0].rows) == 9


def test_an_invalid_or_one_sided_book_is_not_sent(make: Any, dom: Any, book: Any, start_ns: int) -> None:
    analyzer = make()
    analyzer.is_book_sound = False
    assert analyzer.request(dom, start_ns) == NotDue(Cell.BOOK_INVALID)

    analyzer.is_book_sound = True
    dom.append(msgspec.structs.replace(book(start_ns, 51), bid_ticks=(), bid_sizes=()))
    assert analyzer.request(dom, start_ns) == NotDue(Cell.BOOK_INVALID)


def test_an_outcome_after_the_stop_is_dropped_and_counted(make: Any, client: MemoryClient, dom: Any, bus: Any, start_ns: int) -> None:
    analyzer = make()
    analyzer.request(dom, start_ns)
    analyzer.stop()

    client.answer()

    assert bus.told == []
    assert analyzer.stats() == {"requested": 1, "received": 0, "late_dropped": 1}


def test_a_second_outcome_of_a_request_is_dropped_and_counted(make: Any, client: MemoryClient, dom: Any, bus: Any, start_ns: int) -> None:
    analyzer = make()
    analyzer.request(dom, start_ns)

    client.answer()
    client.answer(FailureReason.TIMEOUT)

    assert len(bus.told) == 1
    assert analyzer.stats()["late_dropped"] == 1


def test_a_request_that_raises_leaves_nothing_in_flight_and_holds_no_time(make: Any, client: MemoryClient, dom: Any, start_ns: int) -> None:
    held: list[int] = []

    def deliver_at(when_ns: int, deliver: Callable[[], None]) -> Callable[[], None]:
        held.append(when_ns)
        return lambda: None

    analyzer = make(deliver_at=deliver_at)
    client.asked = None  # type: ignore[assignment]

    with pytest.raises(AttributeError):
        analyzer.request(dom, start_ns)

    assert held == []
    assert analyzer.cooldown(start_ns) is Cooldown.READY


def test_market_time_is_brought_up_to_date_before_a_paced_delivery(make: Any, client: MemoryClient, dom: Any, bus: Any, clock: Any) -> None:
    start_ns = clock.now_ns()
    told_before: list[int] = []

    def catch_up() -> None:
        told_before.append(len(bus.told))
        clock.advance_to(start_ns + 7 * MS)

    make(catch_up=catch_up).request(dom, start_ns)
    client.answer()

    assert told_before == [0]
    assert bus.told[0][1].prediction.received_ns == start_ns + 7 * MS


def test_the_missions_lines_are_logged_once_per_request(
    make: Any, client: MemoryClient, dom: Any, start_ns: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make().request(dom, start_ns)
    client.answer()

    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("YourFuturesStrategy", "Requesting ML prediction for trading decision..."),
        ("YourFuturesStrategy", "ML prediction received: BUY with confidence 0.75"),
    ]


def test_a_failure_that_repeats_is_logged_once_per_spell(
    make: Any, client: MemoryClient, dom: Any, start_ns: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    analyzer = make(cooldown_s=0.0)
    for outcome in (FailureReason.ML_DOWN, FailureReason.ML_DOWN, None, FailureReason.ML_DOWN):
        analyzer.request(dom, start_ns)
        client.answer(outcome)

    assert len(caplog.records) == 2


class MemoryPacer:
    """Runs the timers of a clock the way `Pacer` does at full speed: time stops at a hold until it is done."""

    def __init__(self, clock: EventClock) -> None:
        self.clock = clock
        self.holds: list[tuple[int, asyncio.Future[None]]] = []

    def hold(self, when_ns: int, done: asyncio.Future[None]) -> None:
        self.holds.append((when_ns, done))

    def run_to(self, when_ns: int) -> None:
        """Run as far as the holds allow."""
        limits = [held_ns for held_ns, done in self.holds if not done.done()]
        self.clock.advance_to(max(self.clock.now_ns(), min([when_ns, *limits])))


async def test_in_lockstep_an_early_answer_waits_for_request_time_plus_latency(
    make: Any, client: MemoryClient, dom: Any, bus: Any, clock: EventClock
) -> None:
    pacer = MemoryPacer(clock)
    start_ns = clock.now_ns()
    make(deliver_at=hold_time_for(pacer, clock), lockstep_latency_ms=5.0).request(dom, start_ns)

    client.answer()
    pacer.run_to(start_ns + 5 * MS - 1)
    assert bus.told == []
    pacer.run_to(start_ns + 60_000 * MS)

    [(_, message)] = bus.told
    assert message.prediction.received_ns == start_ns + 5 * MS


async def test_in_lockstep_market_time_waits_for_a_late_answer(
    make: Any, client: MemoryClient, dom: Any, bus: Any, clock: EventClock
) -> None:
    pacer = MemoryPacer(clock)
    start_ns = clock.now_ns()
    make(deliver_at=hold_time_for(pacer, clock), lockstep_latency_ms=5.0).request(dom, start_ns)

    pacer.run_to(start_ns + 60_000 * MS)
    assert clock.now_ns() < start_ns + 5 * MS
    assert bus.told == []
    client.answer(FailureReason.TIMEOUT)
    pacer.run_to(start_ns + 60_000 * MS)

    [(_, message)] = bus.told
    assert message.ts_event == start_ns + 5 * MS


@settings(max_examples=60, deadline=None)
@given(latency_ms=st.integers(0, 20), answered_after_ms=st.integers(0, 40), step_ms=st.integers(1, 9))
def test_in_lockstep_the_delivery_does_not_depend_on_when_the_answer_comes(latency_ms: int, answered_after_ms: int, step_ms: int) -> None:
    """Every schedule of answers and timers gives the same message at the same market time, in the same place among timers."""

    async def run(after_ms: int) -> list[tuple[int, str]]:
        clock, client, seen = EventClock(START), MemoryClient(), list[tuple[int, str]]()
        pacer = MemoryPacer(clock)

        class Bus:
            def tell(self, actor_name: str, message: object) -> None:
                seen.append((clock.now_ns(), type(message).__name__))

        analyzer = OrderFlowAnalyzer(
            strategy_id="s",
            instrument_id="TIDE.SIM",
            settings=AnalyzerSettings(lockstep_latency_ms=latency_ms),
            client=client,
            bus=Bus(),
            clock=clock,
            log=logging.getLogger("quiet"),
            deliver_at=hold_time_for(pacer, clock),
        )

        def tick() -> None:
            seen.append((clock.now_ns(), "tick"))
            clock.call_at(clock.now_ns() + MS, tick)

        tick()
        analyzer.request(one_book_view(), START)
        for wall_ms in range(0, 100, step_ms):
            if wall_ms >= after_ms and len(client.asked) == 1:
                client.answer(reply(as_of_sequence=7))
                client.asked.append(client.asked[0])
            pacer.run_to(START + wall_ms * MS)
        pacer.run_to(START + 120 * MS)
        return seen

    answered_at_once, answered_late = asyncio.run(run(0)), asyncio.run(run(answered_after_ms))

    assert answered_at_once == answered_late
    assert [when for when, what in answered_late if what == "PredictionReceived"] == [START + latency_ms * MS]


@pytest.mark.parametrize("wall_delay_s", [0.0, 0.02])
async def test_the_real_pacer_delivers_at_request_time_plus_latency_whatever_the_wall_clock_does(
    wall_delay_s: float, client: MemoryClient, dom: Any, start_ns: int
) -> None:
    clock, bus = EventClock(start_ns), EventBus()
    pacer = Pacer(clock, bus, speed=None)
    seen: list[tuple[float, str]] = []

    class Asker(Actor):
        def handle(self, message: Message) -> None:
            seen.append(((clock.now_ns() - start_ns) / MS, type(message).__name__))

    bus.register(Asker("s"))
    analyzer = OrderFlowAnalyzer(
        strategy_id="s",
        instrument_id="TIDE.SIM",
        settings=AnalyzerSettings(cooldown_s=0.0, lockstep_latency_ms=5.0),
        client=client,
        bus=bus,
        clock=clock,
        log=logging.getLogger("quiet"),
        deliver_at=hold_time_for(pacer, clock),
    )

    def tick() -> None:
        seen.append(((clock.now_ns() - start_ns) / MS, "tick"))
        if isinstance(analyzer.request(dom, clock.now_ns()), Requested):
            asyncio.get_running_loop().call_later(wall_delay_s, client.answer)

    for n in range(4):
        clock.call_at(start_ns + 3 * n * MS, tick)
    await pacer.run()

    assert seen == [
        (0.0, "tick"),
        (3.0, "tick"),
        (5.0, "PredictionReceived"),
        (6.0, "tick"),
        (9.0, "tick"),
        (11.0, "PredictionReceived"),
    ]


START = 1_700_000_000_000_000_000


def one_book_view() -> Any:
    class View:
        row_count, total_rows = 10, 10

        def mid_ticks(self) -> float:
            return 1.0

        def window(self, rows: int) -> Any:
            class Cut:
                as_of_ns, as_of_sequence = START, 7

            return Cut()

    return View()


def test_settings_of_a_strategy_override_those_of_the_main_file() -> None:
    main = MainConfig(
        ml_service=MLServiceConfig(timeout=4.0),
        training=TrainingConfig(window_rows=200),
        replay=ReplayConfig(prediction_latency_ms=8.0),
    )
    file = StrategyFile(name="s", strategy="m:C", instrument_id="TIDE.SIM", prediction_cooldown_seconds=0.25, max_dom_history=150)

    own = StrategyFile(name="s", strategy="m:C", instrument_id="TIDE.SIM", ml_service=StrategyMLService(timeout=0.2))

    assert AnalyzerSettings.of(file, main) == AnalyzerSettings(
        cooldown_s=0.25, min_dom_samples=10, window_rows=150, timeout_s=4.0, lockstep_latency_ms=8.0
    )
    assert AnalyzerSettings.of(own, main).timeout_s == 0.2
