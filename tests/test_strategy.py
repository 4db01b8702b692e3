"""The strategy base on the real bus: hooks, verbs, sights, the mission's decision flow, and loading by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import StrategyFile
from framework.errors import ConfigError, OffTickPrice
from framework.inference.analyzer import AnalyzerSettings, NotDue, OrderFlowAnalyzer, Requested
from framework.inference.decision import Cell
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    Action,
    Bar,
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    DecisionMade,
    DomUpdated,
    FailureReason,
    Filled,
    Message,
    OrderUpdated,
    PositionChanged,
    SessionChanged,
    SubmitOrder,
    TradeTick,
)
from framework.model import FlowType, Instrument, Liquidity, OrderStatus, OrderType, Side
from framework.strategy import (
    IdSequence,
    MLStrategy,
    Recovered,
    Strategy,
    StrategyActor,
    StrategyContext,
    load_strategy,
    load_strategy_class,
    read_parameters,
)
from framework.wire import PredictReply

START_NS = 1_700_000_000_000_000_000
S = 1_000_000_000
TIDE = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(20))


class Listener(Actor):
    """Keeps what it is sent."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard: list[Any] = []

    def handle(self, message: Message) -> None:
        self.heard.append(message)


class View:
    """A DOM view whose numbers the test sets."""

    def __init__(self) -> None:
        self.row_count = 100
        self.total_rows = 100
        self.book: BookSnapshot | None = None

    def mid_ticks(self) -> float | None:
        return 1_000.0

    def window(self, rows: int) -> Any:
        class Cut:
            as_of_ns = self.book.ts_event if self.book else START_NS
            as_of_sequence = self.book.sequence if self.book else 0

        return Cut()

    def rows_since(self, total: int) -> Any:
        raise NotImplementedError


class Client:
    """An `MLClient` that answers when the test says so."""

    def __init__(self) -> None:
        self.on_outcome: Callable[[Any, str], None] | None = None

    def request_prediction(self, window: Any, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Any, str], None]) -> str:
        self.window, self.on_outcome = window, on_outcome
        return "p1"

    def answer(self, flow_type: str = "BUY", confidence: float = 0.75) -> None:
        assert self.on_outcome is not None
        self.on_outcome(
            PredictReply(
                version=1,
                request_id="p1",
                flow_type=flow_type,
                confidence=confidence,
                p_down=0.1,
                p_flat=0.15,
                p_up=0.75,
                model_version="v1",
                is_calibrated=True,
                horizon_rows=20,
                as_of_ns=self.window.as_of_ns,
                as_of_sequence=self.window.as_of_sequence,
                regime=0,
                shock_score=0.0,
                compute_us=1.0,
            ),
            "",
        )

    def fail(self, reason: FailureReason) -> None:
        assert self.on_outcome is not None
        self.on_outcome(reason, "")


class House:
    """One strategy on a real bus, with an execution that only listens."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self.clock = EventClock(START_NS)
        self.dom = View()
        self.client = Client()
        self.execution, self.decisions = Listener("execution"), Listener("decisions")
        self.sequence = 0
        for actor in (self.execution, self.decisions):
            self.bus.register(actor)
        self.bus.subscribe("decisions", DecisionMade)

    def run(
        self,
        strategy_class: type[Strategy],
        *,
        with_ml: bool = True,
        recovered: Recovered | None = None,
        is_book_sound: bool = True,
        **keys: Any,
    ) -> Any:
        file = StrategyFile(name="s1", strategy="m:C", instrument_id="TIDE.SIM", **keys)
        analyzer = OrderFlowAnalyzer(
            strategy_id="s1",
            instrument_id="TIDE.SIM",
            settings=AnalyzerSettings(cooldown_s=1.0),
            client=self.client,
            bus=self.bus,
            clock=self.clock,
            log=logging.getLogger(strategy_class.__name__),
        )
        context = StrategyContext(
            file=file,
            instrument=TIDE,
            bus=self.bus,
            clock=self.clock,
            dom=self.dom,
            order_ids=IdSequence("s1-", last=7),
            decision_ids=IdSequence("s1-d", last=3),
            analyzer=analyzer if with_ml else None,
            recovered=recovered or Recovered(),
            is_book_sound=is_book_sound,
        )
        self.strategy = strategy_class(context, read_parameters(strategy_class, file))
        self.actor = StrategyActor(self.strategy)
        self.bus.register(self.actor)
        self.actor.on_start()
        return self.strategy

    def publish(self, message: Message) -> None:
        self.bus.publish(message)
        self.bus.drain()

    def drain(self) -> None:
        self.bus.drain()

    def book(self, after_s: float = 0.1, **changes: Any) -> DomUpdated:
        """Let time pass, then publish a new row."""
        self.clock.advance_to(self.clock.now_ns() + round(after_s * S))
        self.sequence += 1
        now_ns = self.clock.now_ns()
        base = BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self.sequence,
            bid_ticks=(999,),
            bid_sizes=(5,),
            ask_ticks=(1_001,),
            ask_sizes=(5,),
        )
        self.dom.book = msgspec.structs.replace(base, **changes)
        self.dom.total_rows += 1
        update = DomUpdated(instrument_id="TIDE.SIM", ts_event=now_ns, sequence=self.sequence, book=self.dom.book, dom=self.dom)
        self.publish(update)
        return update

    def order(self, order: SubmitOrder, status: OrderStatus, *, strategy_id: str = "s1") -> None:
        self.publish(
            OrderUpdated(
                client_order_id=order.client_order_id,
                strategy_id=strategy_id,
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                side=order.side,
                quantity=order.quantity,
                filled_quantity=order.quantity if status is OrderStatus.FILLED else 0,
                average_ticks=None,
                limit_ticks=order.limit_ticks,
                status=status,
                decision_id=order.decision_id,
            )
        )

    def position(self, quantity: int, average_ticks: float = 1_000.0, *, strategy_id: str = "s1") -> None:
        self.publish(
            PositionChanged(
                strategy_id=strategy_id,
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                quantity=quantity,
                average_ticks=average_ticks,
                realized_pnl=Decimal(0),
                fees=Decimal(0),
            )
        )

    def fill_last(self) -> None:
        """Fill the last order in full and move the position by it."""
        order = self.execution.heard[-1]
        self.order(order, OrderStatus.FILLED)
        self.position(self.strategy.position_lots + order.side.sign * order.quantity)

    @property
    def orders(self) -> list[SubmitOrder]:
        return [message for message in self.execution.heard if isinstance(message, SubmitOrder)]

    @property
    def reasons(self) -> list[str]:
        return [decision.reason for decision in self.decisions.heard]


@pytest.fixture
def house() -> House:
    return House()


class Diary(Strategy):
    """Writes down every hook."""

    def on_start(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_dom(self, update: DomUpdated) -> None:
        self.calls.append(("dom", update.sequence))

    def on_order(self, order: OrderUpdated) -> None:
        self.calls.append(("order", order.status))

    def on_fill(self, fill: Filled) -> None:
        self.calls.append(("fill", fill.quantity))

    def on_position(self, position: PositionChanged) -> None:
        self.calls.append(("position", self.position_lots))

    def on_book_invalid(self, event: BookInvalid) -> None:
        self.calls.append(("invalid", self.is_book_sound))

    def on_book_recovered(self, event: BookRecovered) -> None:
        self.calls.append(("recovered", self.is_book_sound))

    def on_session(self, session: SessionChanged) -> None:
        self.calls.append(("session", session.is_open))

    def on_stop(self) -> None:
        self.calls.append(("stop", None))


class Prints(Diary):
    """Wants trade ticks and bars as well."""

    def on_trade_tick(self, tick: TradeTick) -> None:
        self.calls.append(("tick", tick.size))

    def on_bar(self, bar: Bar) -> None:
        self.calls.append(("bar", bar.volume))


# --- hooks and sights ----------------------------------------------------------------------------------------------------


def test_hooks_run_after_the_state_they_tell_of_was_applied(house: House) -> None:
    strategy = house.run(Diary)

    house.book()
    house.publish(BookInvalid(instrument_id="TIDE.SIM", ts_event=1, reason="crossed"))
    house.publish(BookRecovered(instrument_id="TIDE.SIM", ts_event=2))
    house.publish(SessionChanged(instrument_id="TIDE.SIM", ts_event=3, is_open=False, reason="break"))
    house.position(3)
    house.actor.on_stop()

    assert strategy.calls == [("dom", 1), ("invalid", False), ("recovered", True), ("session", False), ("position", 3), ("stop", None)]
    assert strategy.book.sequence == 1


def test_other_instruments_and_other_strategies_are_not_heard(house: House) -> None:
    strategy = house.run(Diary)
    other = SubmitOrder(
        client_order_id="s2-1",
        strategy_id="s2",
        instrument_id="TIDE.SIM",
        side=Side.BUY,
        quantity=1,
        order_type=OrderType.MARKET,
        limit_ticks=None,
        time_in_force="DAY",  # type: ignore[arg-type]
        ts_event=0,
    )

    house.order(other, OrderStatus.ACCEPTED, strategy_id="s2")
    house.position(5, strategy_id="s2")
    house.publish(fill(strategy_id="s2"))
    house.publish(BookInvalid(instrument_id="EBB.SIM", ts_event=1, reason="crossed"))

    assert strategy.calls == []
    assert strategy.position_lots == 0
    assert not strategy.open_orders


def fill(strategy_id: str = "s1") -> Filled:
    return Filled(
        client_order_id=f"{strategy_id}-8",
        trade_id="t1",
        strategy_id=strategy_id,
        instrument_id="TIDE.SIM",
        ts_event=START_NS,
        side=Side.BUY,
        quantity=2,
        price_ticks=1_001,
        fee=Decimal(0),
        liquidity=Liquidity.TAKER,
    )


def test_trade_ticks_and_bars_come_only_to_strategies_that_override_the_hook(house: House) -> None:
    strategy = house.run(Prints)

    house.publish(TradeTick(instrument_id="TIDE.SIM", ts_event=1, ts_recv=1, sequence=1, price_ticks=1_000, size=4, aggressor=Side.BUY))
    house.publish(fill())

    assert strategy.calls == [("tick", 4), ("fill", 2)]


def test_a_strategy_without_those_hooks_is_not_subscribed_to_them(house: House) -> None:
    house.run(Diary)
    before = house.bus.stats()["delivered"]

    house.publish(TradeTick(instrument_id="TIDE.SIM", ts_event=1, ts_recv=1, sequence=1, price_ticks=1_000, size=4, aggressor=Side.BUY))

    assert house.bus.stats()["delivered"] == before


def test_what_a_hook_raises_goes_up_to_the_bus(house: House) -> None:
    class Broken(Strategy):
        def on_dom(self, update: DomUpdated) -> None:
            raise ZeroDivisionError("user's bug")

    house.run(Broken)

    with pytest.raises(ZeroDivisionError):
        house.book()


def test_a_position_keeps_its_age_while_its_sign_stays(house: House) -> None:
    strategy = house.run(Diary)
    house.book(1.0)
    house.position(1)
    house.book(2.0)
    house.position(2)
    house.book(3.0)

    assert strategy.position_age_s == 5.0
    house.position(-1)
    house.book(0.5)
    assert strategy.position_age_s == 0.5


def test_position_and_orders_of_the_run_before_are_there_at_the_start(house: House) -> None:
    order = OrderUpdated(
        client_order_id="s1-7",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        ts_event=START_NS - S,
        side=Side.BUY,
        quantity=2,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=990,
        status=OrderStatus.UNKNOWN,
    )

    strategy = house.run(Diary, recovered=Recovered(position_lots=-2, average_ticks=1_003.5, open_orders=(order,)))

    assert (strategy.position_lots, strategy.average_ticks) == (-2, 1_003.5)
    assert dict(strategy.open_orders) == {"s1-7": order}
    assert strategy.order_age_s("s1-7") == 1.0
    assert strategy.buy(1) == "s1-8"


def test_a_close_of_the_run_before_is_not_sent_twice(house: House) -> None:
    closing = OrderUpdated(
        client_order_id="s1-7",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        ts_event=START_NS,
        side=Side.SELL,
        quantity=2,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=None,
        status=OrderStatus.UNKNOWN,
    )

    strategy = house.run(Diary, recovered=Recovered(position_lots=2, open_orders=(closing,)))

    assert strategy.is_closing
    assert strategy.close() is None


def test_ids_go_on_after_the_highest_ever_used() -> None:
    used = ["s1-9", "s1-10", "s1-d77", "s1-x-99", "s10-50", "s1-"]

    assert IdSequence.after("s1-", used).next_id() == "s1-11"
    assert IdSequence.after("s1-d", used).next_id() == "s1-d78"
    assert IdSequence.after("new-", used).next_id() == "new-1"


# --- verbs ---------------------------------------------------------------------------------------------------------------


def test_an_order_is_open_from_the_moment_it_is_sent_until_it_is_closed(house: House) -> None:
    strategy = house.run(Diary)

    order_id = strategy.buy(2)
    assert strategy.open_orders[order_id].status is OrderStatus.SUBMITTED
    house.drain()
    house.order(house.orders[0], OrderStatus.ACCEPTED)
    assert strategy.open_orders[order_id].status is OrderStatus.ACCEPTED
    house.order(house.orders[0], OrderStatus.FILLED)

    assert not strategy.open_orders


@pytest.mark.parametrize(
    ("options", "limit_ticks"),
    [
        ({}, None),
        ({"limit_ticks": 1_000}, 1_000),
        ({"limit_price": "250.25"}, 1_001),
        ({"limit_price": Decimal("250.5")}, 1_002),
        ({"limit_price": 250.75}, 1_003),
        ({"limit_price": 250}, 1_000),
    ],
)
def test_a_limit_is_given_in_ticks_or_as_a_price(options: Any, limit_ticks: int | None, house: House) -> None:
    strategy = house.run(Diary)

    strategy.sell(3, decision_id="d9", **options)
    house.drain()

    [order] = house.orders
    assert (order.side, order.quantity, order.limit_ticks, order.decision_id) == (Side.SELL, 3, limit_ticks, "d9")
    assert order.order_type is (OrderType.MARKET if limit_ticks is None else OrderType.LIMIT)


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "2"])
def test_a_quantity_that_is_no_number_of_lots_is_refused(quantity: Any, house: House) -> None:
    with pytest.raises(ValueError, match="whole number of lots"):
        house.run(Diary).buy(quantity)


def test_a_price_between_ticks_and_two_limits_are_refused(house: House) -> None:
    strategy = house.run(Diary)

    with pytest.raises(OffTickPrice):
        strategy.buy(1, limit_price="250.1")
    with pytest.raises(ValueError, match="not both"):
        strategy.buy(1, limit_price="250", limit_ticks=1_000)
    assert not strategy.open_orders


def test_close_cancels_what_is_open_and_leaves_at_market_once(house: House) -> None:
    strategy = house.run(Diary, recovered=Recovered(position_lots=3, average_ticks=1_000.0))
    resting = strategy.buy(1, limit_ticks=990)

    first, second = strategy.close(), strategy.close()
    house.drain()

    assert second is None
    cancel, order = house.execution.heard[1:]
    assert isinstance(cancel, CancelOrder)
    assert cancel.client_order_id == resting
    assert (order.client_order_id, order.side, order.quantity, order.reduce_only) == (first, Side.SELL, 3, True)


def test_close_when_flat_does_nothing_and_after_a_denial_tries_again(house: House) -> None:
    strategy = house.run(Diary)
    assert strategy.close() is None
    house.position(-2)
    strategy.close()
    house.drain()
    house.order(house.orders[0], OrderStatus.DENIED)

    assert strategy.close() is not None


def test_a_close_waits_for_an_order_that_leaves_the_position_too(house: House) -> None:
    strategy = house.run(Diary, recovered=Recovered(position_lots=2, average_ticks=1_000.0))
    strategy.sell(2, limit_ticks=1_010)
    house.drain()
    [target] = house.orders

    assert strategy.close(decision_id="d9") is None
    assert strategy.is_closing
    house.book()
    assert len(house.orders) == 1
    house.order(target, OrderStatus.CANCELED)
    house.book()

    order = house.orders[-1]
    assert (order.side, order.quantity, order.limit_ticks, order.reduce_only, order.decision_id) == (Side.SELL, 2, None, True, "d9")
    assert strategy.is_closing


def test_a_waiting_close_ends_when_the_other_order_closed_or_turned_the_position(house: House) -> None:
    strategy = house.run(Diary, recovered=Recovered(position_lots=2, average_ticks=1_000.0))
    strategy.sell(3)
    house.drain()
    strategy.close()
    house.order(house.orders[0], OrderStatus.FILLED)
    house.position(-1)
    house.book()

    assert len(house.orders) == 1
    assert not strategy.is_closing


def test_a_cancel_is_sent_once_and_again_after_the_venue_refused_it(house: House) -> None:
    strategy = house.run(Diary)
    order_id = strategy.buy(1, limit_ticks=990)

    assert [strategy.cancel(order_id), strategy.cancel(order_id), strategy.cancel("nobody")] == [True, False, False]
    house.drain()
    house.order(house.orders[0], OrderStatus.ACCEPTED)
    assert strategy.cancel_all() == 1


def test_a_decision_is_published_with_the_book_it_was_made_on(house: House) -> None:
    strategy = house.run(Diary)
    update = house.book()

    decision_id = strategy.next_decision_id()
    order_id = strategy.buy(1, decision_id=decision_id)
    strategy.record_decision(Action.BUY, "BECAUSE", decision_id=decision_id, client_order_ids=(order_id,))
    house.drain()

    [decision] = house.decisions.heard
    assert decision.decision_id == house.orders[0].decision_id == "s1-d4"
    assert decision.book == update.book
    assert decision.prediction_id is None
    assert strategy.stats()["decisions_because"] == 1


def test_a_decision_before_the_first_book_is_refused(house: House) -> None:
    with pytest.raises(ValueError, match="needs a book"):
        house.run(Diary).record_decision(Action.ABSTAIN, "TOO_EARLY")


def test_reasons_without_end_share_one_counter(house: House) -> None:
    strategy = house.run(Diary)
    house.book()

    for n in range(500):
        strategy.record_decision(Action.ABSTAIN, f"price {n}")

    assert len(strategy.stats()) <= 105
    assert strategy.stats()["decisions_other"] == 400


def test_without_any_ml_process_a_request_says_so(house: House) -> None:
    assert house.run(Diary, with_ml=False).request_prediction() == NotDue(Cell.ML_DOWN)


def test_an_invalid_book_stops_requests_until_it_recovers(house: House) -> None:
    strategy = house.run(Diary)
    house.book()

    house.publish(BookInvalid(instrument_id="TIDE.SIM", ts_event=1, reason="crossed"))
    assert strategy.request_prediction() == NotDue(Cell.BOOK_INVALID)
    house.publish(BookRecovered(instrument_id="TIDE.SIM", ts_event=2))
    assert strategy.request_prediction() == Requested("p1")


def test_a_strategy_that_starts_in_a_bad_spell_knows_it(house: House) -> None:
    strategy = house.run(Diary, is_book_sound=False)

    assert not strategy.is_book_sound
    assert strategy.request_prediction() == NotDue(Cell.BOOK_INVALID)


def test_an_outcome_after_the_stop_reaches_nobody(house: House) -> None:
    strategy = house.run(Diary)
    house.book()
    strategy.request_prediction()
    house.actor.on_stop()
    before = list(strategy.calls)

    house.client.answer()
    house.drain()

    assert strategy.calls == before
    assert strategy.stats()["late_dropped"] == 1


# --- the mission's decision flow -------------------------------------------------------------------------------------------


class YourFuturesStrategy(MLStrategy):
    """Buys by default."""

    default = Action.BUY
    leave: str | None = None

    def default_action(self, book: BookSnapshot) -> Action:
        return self.default

    def exit_reason(self, book: BookSnapshot) -> str | None:
        return self.leave


def test_a_confident_buy_is_executed_logged_in_the_missions_words_and_recorded(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house.run(YourFuturesStrategy, parameters={"order_quantity": 2})

    house.book()
    house.client.answer("BUY", 0.75)
    house.drain()

    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("YourFuturesStrategy", "Requesting ML prediction for trading decision..."),
        ("YourFuturesStrategy", "ML prediction received: BUY with confidence 0.75"),
        ("YourFuturesStrategy", "ML prediction: BUY with confidence 0.75"),
        ("YourFuturesStrategy", "Executing buy strategy based on ML signal..."),
    ]
    [order], [decision] = house.orders, house.decisions.heard
    assert (order.side, order.quantity) == (Side.BUY, 2)
    assert (decision.action, decision.reason, decision.confidence, decision.model_version) == (Action.BUY, "ENTER_LONG", 0.75, "v1")
    assert decision.client_order_ids == (order.client_order_id,)
    assert decision.decision_id == order.decision_id
    assert decision.as_of_sequence == 1


def test_one_prediction_per_cooldown_is_asked_for(house: House) -> None:
    strategy = house.run(YourFuturesStrategy)

    for _ in range(25):
        house.book(0.1)
        if house.client.on_outcome is not None:
            house.client.answer("NEUTRAL", 0.9)
            house.client.on_outcome = None
        house.drain()

    assert strategy.stats()["requested"] == 3
    assert house.reasons == ["NEUTRAL"] * 3
    assert house.orders == []


def test_too_few_rows_are_waited_for_and_said_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house.run(YourFuturesStrategy)
    house.dom.row_count = 9

    house.book()
    house.book()

    assert [record.getMessage() for record in caplog.records] == ["Insufficient DOM data for ML analysis. Waiting for more data..."]
    assert house.reasons == []


def test_low_confidence_falls_back_to_the_default_and_is_said_once_per_spell(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house.run(YourFuturesStrategy)

    house.book()
    house.client.answer("SELL", 0.45)
    house.drain()
    house.fill_last()
    house.book(1.0)
    house.client.answer("SELL", 0.45)
    house.drain()

    assert [order.side for order in house.orders] == [Side.BUY]
    assert house.reasons == ["LOW_CONFIDENCE"] * 2
    assert [decision.action for decision in house.decisions.heard] == [Action.DEFAULT] * 2
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("ML prediction confidence 0.45 below threshold 0.6") == 1


def test_a_failure_stands_until_the_next_outcome_and_the_default_runs_at_every_book(house: House) -> None:
    strategy = house.run(YourFuturesStrategy)
    strategy.default = Action.ABSTAIN
    house.book()
    house.client.fail(FailureReason.ML_DOWN)
    house.drain()
    assert house.reasons == ["ML_DOWN"]

    house.book()
    strategy.default = Action.BUY
    house.book()
    house.fill_last()
    house.book()

    assert [order.side for order in house.orders] == [Side.BUY]
    assert house.reasons == ["ML_DOWN", "ML_DOWN"]
    assert house.decisions.heard[1].client_order_ids == ("s1-8",)

    strategy.default = Action.CLOSE
    house.book(1.0)
    house.client.answer("NEUTRAL", 0.9)
    house.drain()
    closed = len(house.orders)
    house.book(0.1)
    house.book(0.1)
    assert len(house.orders) == closed


def test_without_any_ml_process_the_default_runs_from_the_first_book(house: House) -> None:
    house.run(YourFuturesStrategy, with_ml=False)

    house.book()

    assert house.reasons == ["ML_DOWN"]
    assert len(house.orders) == 1


def test_a_prediction_on_a_book_that_moved_on_is_not_used(house: House) -> None:
    house.run(YourFuturesStrategy, max_book_moves=3, max_prediction_age_s=60.0).default = Action.ABSTAIN
    for _ in range(5):
        house.book()

    house.client.answer("BUY", 0.9)
    house.drain()

    assert house.reasons == ["BOOK_MOVED"]
    assert house.orders == []


def test_a_prediction_that_is_too_old_is_not_used(house: House) -> None:
    house.run(YourFuturesStrategy, max_prediction_age_s=1.0).default = Action.ABSTAIN
    house.book()
    house.clock.advance_to(house.clock.now_ns() + S + 1)

    house.client.answer("BUY", 0.9)
    house.drain()

    assert house.reasons == ["PREDICTION_TOO_OLD"]


def test_a_sell_turns_a_long_round_in_one_order(house: House) -> None:
    house.run(YourFuturesStrategy, recovered=Recovered(position_lots=2, average_ticks=1_000.0))
    house.book()

    house.client.answer("STRONG_SELL", 0.9)
    house.drain()

    [order] = house.orders
    assert (order.side, order.quantity, house.reasons) == (Side.SELL, 3, ["REVERSE_TO_SHORT"])


def test_nothing_is_added_while_an_order_is_open(house: House) -> None:
    strategy = house.run(YourFuturesStrategy)
    strategy.buy(1, limit_ticks=990)
    house.book()

    house.client.answer("BUY", 0.9)
    house.drain()

    assert house.reasons == ["ORDER_WORKING"]
    assert len(house.orders) == 1


@pytest.mark.parametrize(
    ("on_sell", "position", "expected"),
    [
        ("short", 0, (Side.SELL, 1)),
        ("short", 1, (Side.SELL, 2)),
        ("short", -1, None),
        ("flat", 0, None),
        ("flat", 1, (Side.SELL, 1)),
        ("flat", -1, None),
        ("ignore", 0, None),
        ("ignore", 1, None),
        ("ignore", -1, None),
    ],
)
def test_on_sell_rules_the_default_behaviour_too(on_sell: str, position: int, expected: tuple[Side, int] | None, house: House) -> None:
    strategy = house.run(YourFuturesStrategy, with_ml=False, recovered=Recovered(position_lots=position), parameters={"on_sell": on_sell})
    strategy.default = Action.SELL

    house.book()

    assert [(order.side, order.quantity) for order in house.orders] == ([] if expected is None else [expected])


def test_an_exit_comes_before_any_prediction_and_is_a_decision_of_its_own(house: House) -> None:
    strategy = house.run(YourFuturesStrategy, recovered=Recovered(position_lots=-2, average_ticks=1_000.0))
    strategy.leave = "STOP_LOSS"

    house.book()
    house.book()

    [order] = house.orders
    assert (order.side, order.quantity, order.reduce_only) == (Side.BUY, 2, True)
    assert house.reasons == ["STOP_LOSS"]
    assert house.decisions.heard[0].client_order_ids == (order.client_order_id,)


def test_a_close_may_go_while_an_order_is_open_and_cancels_it(house: House) -> None:
    strategy = house.run(YourFuturesStrategy, recovered=Recovered(position_lots=1), parameters={"on_sell": "flat"})
    strategy.buy(1, limit_ticks=990)
    house.book()

    house.client.answer("SELL", 0.9)
    house.drain()

    assert [type(message).__name__ for message in house.execution.heard] == ["SubmitOrder", "CancelOrder", "SubmitOrder"]
    assert house.reasons == ["CLOSE_LONG"]


def test_a_refused_order_pauses_what_would_repeat_at_every_book(house: House) -> None:
    strategy = house.run(YourFuturesStrategy, with_ml=False)
    assert strategy.refused_age_s == float("inf")
    house.book()
    house.order(house.orders[-1], OrderStatus.DENIED)

    for _ in range(9):
        house.book(0.1)
    assert len(house.orders) == 1
    house.book(0.1)
    assert len(house.orders) == 2

    house.order(house.orders[-1], OrderStatus.FILLED)
    house.position(1)
    strategy.leave = "STOP_LOSS"
    house.book(0.1)
    house.order(house.orders[-1], OrderStatus.REJECTED)
    house.book(0.9)
    assert len(house.orders) == 3
    house.book(0.1)
    assert len(house.orders) == 4


def test_an_exit_waits_for_a_sound_book(house: House) -> None:
    strategy = house.run(YourFuturesStrategy, recovered=Recovered(position_lots=1))
    strategy.leave = "STOP_LOSS"
    house.publish(BookInvalid(instrument_id="TIDE.SIM", ts_event=1, reason="stale"))

    house.book()

    assert house.orders == []


def test_an_ml_strategy_of_ten_lines_abstains_by_default(house: House) -> None:
    class Plain(MLStrategy):
        pass

    house.run(Plain, with_ml=False)
    house.book()

    assert house.orders == []


EVENTS = st.one_of(
    st.tuples(st.just("book"), st.sampled_from([0.1, 0.6, 1.2])),
    st.tuples(st.just("answer"), st.tuples(st.sampled_from(list(FlowType)), st.sampled_from([0.3, 0.61, 0.99, float("nan")]))),
    st.tuples(st.just("fail"), st.sampled_from(list(FailureReason))),
    st.tuples(st.just("default"), st.sampled_from(list(Action))),
    st.tuples(st.just("leave"), st.sampled_from([None, "STOP_LOSS"])),
    st.tuples(st.just("fill"), st.just(None)),
    st.tuples(st.just("refuse"), st.sampled_from([OrderStatus.DENIED, OrderStatus.REJECTED, OrderStatus.CANCELED])),
    st.tuples(st.just("sound"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, max_size=80), on_sell=st.sampled_from(["short", "flat", "ignore"]), quantity=st.integers(1, 3))
def test_whatever_happens_the_position_stays_within_one_entry_and_on_sell(events: Any, on_sell: str, quantity: int) -> None:
    house = House()
    strategy = house.run(YourFuturesStrategy, parameters={"on_sell": on_sell, "order_quantity": quantity})
    done = 0

    for what, value in events:
        waiting = house.orders[done:]
        if what == "book":
            house.book(value)
        elif what in ("answer", "fail") and house.client.on_outcome is not None:
            house.client.answer(*value) if what == "answer" else house.client.fail(value)
            house.client.on_outcome = None
            house.drain()
        elif what == "default":
            strategy.default = value
        elif what == "leave":
            strategy.leave = value
        elif what == "sound":
            message = BookRecovered if value else BookInvalid
            house.publish(message(instrument_id="TIDE.SIM", ts_event=0, **({} if value else {"reason": "crossed"})))
        elif what in ("fill", "refuse") and waiting:
            done += 1
            house.order(waiting[0], OrderStatus.FILLED if what == "fill" else value)
            if what == "fill":
                house.position(strategy.position_lots + waiting[0].side.sign * waiting[0].quantity)

        assert -quantity <= strategy.position_lots <= quantity
        assert on_sell == "short" or strategy.position_lots >= 0
        assert len(strategy.open_orders) == len(house.orders) - done <= 1
    decided = {decision.decision_id for decision in house.decisions.heard}
    assert {order.decision_id for order in house.orders} <= decided


# --- loading -----------------------------------------------------------------------------------------------------------------


def file_of(strategy: str, **parameters: Any) -> StrategyFile:
    return StrategyFile(name="mine", strategy=strategy, instrument_id="TIDE.SIM", parameters=parameters)


@pytest.fixture
def user_modules(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    return write


def test_a_strategy_is_loaded_by_name_with_its_parameters(house: House) -> None:
    strategy = house.run(Diary)
    file = file_of("strategies.ml_futures:MLFuturesStrategy", order_quantity=3, half_life_s=2)

    loaded = load_strategy(replace_file(strategy.context, file))

    assert type(loaded).__name__ == "MLFuturesStrategy"
    assert loaded.parameters.order_quantity == 3  # type: ignore[attr-defined]
    assert loaded.strategy_id == "mine"


def replace_file(context: StrategyContext, file: StrategyFile) -> StrategyContext:
    import dataclasses

    return dataclasses.replace(context, file=file)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nonsense", "must be module:Class"),
        ("strategies.no_such:Thing", "strategies.no_such does not exist"),
        ("no_such_package.x:Thing", "no_such_package"),
        ("strategies.ml_futures:MLFutureStrategy", "did you mean MLFuturesStrategy?"),
        ("strategies.ml_futures:Side", "not a subclass of framework.strategy.Strategy"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_and_what_is_near(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        load_strategy_class(path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def (:", "SyntaxError"),
        ("import numpyy", "needs numpyy"),
        ("from framework.strategy import Strategi", "ImportError"),
        ("undefined_name", "NameError"),
    ],
)
def test_a_module_that_does_not_import_says_why(source: str, words: str, user_modules: Callable[[str, str], None]) -> None:
    name = f"user_{words.split()[0].lower()}"
    user_modules(name, source)

    with pytest.raises(ConfigError, match=words):
        load_strategy_class(f"{name}:Mine")


def test_wrong_parameters_are_all_named_with_what_is_near() -> None:
    file = file_of("strategies.ml_futures:MLFuturesStrategy", order_quantiy=1, half_life_s="fast", on_sell="avoid")

    with pytest.raises(ConfigError) as refused:
        read_parameters(load_strategy_class(file.strategy), file)

    words = str(refused.value)
    assert "strategy mine" in words
    assert "parameters.order_quantiy is not a parameter; did you mean order_quantity?" in words
    assert "parameters.half_life_s" in words
    assert "'fast'" in words
    assert "parameters.on_sell" in words


# --- the guide -----------------------------------------------------------------------------------------------------------------

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "writing_a_strategy.md"


def test_the_strategies_of_the_guide_run_as_printed(house: House, user_modules: Callable[[str, str], None]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    user_modules("guide", "\n\n".join(blocks))
    strategy = house.run(load_strategy_class("guide:JoinTheBid"), parameters={"quantity": 2})

    house.book()
    house.fill_last()
    house.book(10.0)

    assert [(order.side, order.quantity, order.limit_ticks) for order in house.orders] == [(Side.BUY, 2, 999), (Side.SELL, 2, None)]
    assert strategy.is_closing


def test_the_ml_strategy_of_the_guide_follows_the_model(house: House, user_modules: Callable[[str, str], None]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    user_modules("guide_ml", "\n\n".join(blocks))
    house.run(load_strategy_class("guide_ml:FollowTheModel"))

    house.book()
    house.client.answer("SELL", 0.9)
    house.drain()
    house.fill_last()
    house.book(60.0)

    assert house.reasons == ["ENTER_SHORT", "MINUTE_OVER"]


def test_the_guide_names_every_hook_and_verb() -> None:
    text = GUIDE.read_text()
    public = [name for name in vars(Strategy) if not name.startswith("_") and not name.startswith("apply_")]

    missing = [name for name in public if name not in text and name not in ("Parameters", "stats")]

    assert missing == []
