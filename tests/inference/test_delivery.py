from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from framework.clock import EventClock
from framework.inference.delivery import Delivery
from framework.inference.outbox import OutboxSettings
from framework.messages import Action, BookSnapshot, DecisionMade, Feedback
from framework.model import NS_PER_S, Instrument
from framework.wire import FeedbackItem

BOOK = BookSnapshot(instrument_id="A.X", ts_event=1, ts_recv=1, sequence=1, bid_ticks=(1,), bid_sizes=(1,), ask_ticks=(2,), ask_sizes=(1,))


class Client:
    """Keeps what was sent, and the callbacks that answer it."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.answers: list[Callable[[tuple[str, ...]], None]] = []

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: Callable[[tuple[str, ...]], None]) -> None:
        self.sent.append([item.feedback_id for item in items])
        self.answers.append(on_ack)


def feedback(name: str) -> Feedback:
    decision = DecisionMade(
        decision_id=name,
        strategy_id="s",
        instrument_id="A.X",
        ts_event=1,
        action=Action.ABSTAIN,
        reason="test",
        prediction_id=None,
        flow_type=None,
        confidence=None,
        model_version=None,
        position_lots=0,
        book=BOOK,
    )
    return Feedback(
        feedback_id=name,
        decision=decision,
        trade_executed=False,
        trade_outcome=None,
        pnl=None,
        markouts_ticks={},
        last_bar=None,
        closed_ns=1,
    )


def make(batch_size: int = 2) -> tuple[EventClock, Client, Delivery]:
    clock, client = EventClock(), Client()
    delivery = Delivery(
        Instrument(instrument_id="A.X", tick_size=Decimal(1)),
        OutboxSettings(batch_size=batch_size, send_interval_s=60.0),
        clock=clock,
        client=client,
        forget=lambda _ids: None,
        on_ack=lambda ids: delivery.acknowledge(ids),
    )
    delivery.start(())
    return clock, client, delivery


def test_hours_of_market_time_do_not_send_again_what_is_under_way() -> None:
    clock, client, delivery = make()
    for name in ("a", "b", "c"):
        delivery.put(feedback(name))

    clock.advance_to(10 * 3_600 * NS_PER_S)

    assert client.sent == [["a", "b"]]


def test_a_batch_that_came_to_nothing_is_sent_again_at_the_next_interval() -> None:
    clock, client, delivery = make()
    for name in ("a", "b"):
        delivery.put(feedback(name))
    client.answers[0](())
    sent_before = len(client.sent)

    clock.advance_to(60 * NS_PER_S)

    assert sent_before == 1
    assert client.sent == [["a", "b"], ["a", "b"]]
    client.answers[1](("a", "b"))
    assert (len(delivery), delivery.acknowledged) == (0, 2)
