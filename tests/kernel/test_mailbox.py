"""The mailbox against a model of three lines: a list, a dict, and what is over the bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.mailbox import BATCH
from framework.messages import BookSnapshot, DomUpdated, Message, TradeTick, TradingStateChanged

INSTRUMENTS = ("A.X", "B.X", "C.X")
CONTROL_MAX = 5


def trade(sequence: int, instrument_id: str = "A.X") -> TradeTick:
    return TradeTick(instrument_id=instrument_id, ts_event=0, ts_recv=0, sequence=sequence, price_ticks=1, size=1, aggressor=None)


def book(sequence: int, instrument_id: str = "A.X") -> BookSnapshot:
    sides = {"bid_ticks": (1,), "bid_sizes": (1,), "ask_ticks": (2,), "ask_sizes": (1,)}
    return BookSnapshot(instrument_id=instrument_id, ts_event=0, ts_recv=0, sequence=sequence, **sides)


class Reader(Actor):
    def __init__(self, name: str, react: Callable[[Message], None] = lambda _: None) -> None:
        super().__init__(name)
        self.got: list[Message] = []
        self.react = react

    def handle(self, message: Message) -> None:
        self.got.append(message)
        self.react(message)

    @property
    def sequences(self) -> list[int]:
        return [message.sequence for message in self.got]  # type: ignore[attr-defined]


def house(*readers: Reader, control_max: int = 10_000) -> EventBus:
    bus = EventBus(control_max=control_max)
    for reader in readers:
        bus.register(reader)
        bus.subscribe(reader.name, TradeTick)
        bus.subscribe(reader.name, BookSnapshot)
    return bus


class Model:
    """What one mailbox must do."""

    def __init__(self, wanted: dict[type[Message], set[str]]) -> None:
        self.wanted = wanted
        self.control: deque[Message] = deque()
        self.data: dict[str, Message] = {}
        self.expected: list[Message] = []
        self.sent = self.conflated = self.dropped = self.overflows = 0

    def send(self, message: TradeTick | BookSnapshot) -> None:
        if message.instrument_id not in self.wanted.get(type(message), ()):
            return
        self.sent += 1
        if isinstance(message, TradeTick):
            self.control.append(message)
        else:
            self.conflated += message.instrument_id in self.data
            self.data[message.instrument_id] = message

    def drain(self) -> None:
        over = len(self.control) - CONTROL_MAX
        if over > 0:
            self.overflows += 1
            self.dropped += over
            for _ in range(over):
                self.control.popleft()
        self.expected += [*self.control, *self.data.values()]
        self.control.clear()
        self.data.clear()

    def clear(self) -> None:
        self.dropped += len(self.control) + len(self.data)
        self.control.clear()
        self.data.clear()


class BusMachine(RuleBasedStateMachine):
    """Any order of sending, draining, removing and registering again, for three actors with different tastes."""

    TASTES = (
        ("everything", {TradeTick: set(INSTRUMENTS), BookSnapshot: set(INSTRUMENTS)}),
        ("books of B", {BookSnapshot: {"B.X"}}),
        ("trades of A, books of A and C", {TradeTick: {"A.X"}, BookSnapshot: {"A.X", "C.X"}}),
    )

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Exception] = []
        self.bus = EventBus(control_max=CONTROL_MAX, on_fault=lambda _actor, _message, exc: self.faults.append(exc))
        self.sequence = 0
        self.published = 0
        self.models: dict[str, Model] = {}
        self.readers: dict[str, Reader] = {}
        self.gone: list[Model] = []
        for name, taste in self.TASTES:
            self.add(name, taste)

    def add(self, name: str, taste: dict[type[Message], set[str]]) -> None:
        self.readers[name], self.models[name] = Reader(name), Model(taste)
        self.bus.register(self.readers[name])
        for kind, instrument_ids in taste.items():
            for instrument_id in (None,) if instrument_ids == set(INSTRUMENTS) else sorted(instrument_ids):
                self.bus.subscribe(name, kind, instrument_id)

    @rule(make=st.sampled_from((trade, book)), instrument_id=st.sampled_from(INSTRUMENTS), times=st.integers(1, 4))
    def publish(self, make: Callable[[int, str], TradeTick | BookSnapshot], instrument_id: str, times: int) -> None:
        for _ in range(times):
            self.sequence += 1
            self.published += 1
            message = make(self.sequence, instrument_id)
            self.bus.publish(message)
            for model in self.models.values():
                model.send(message)

    @rule()
    def drain(self) -> None:
        self.bus.drain()
        for model in self.models.values():
            model.drain()

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        self.bus.remove(name)
        model = self.models.pop(name)
        model.clear()
        self.gone.append(model)

    @precondition(lambda self: len(self.models) < len(self.TASTES))
    @rule(data=st.data())
    def register_again(self, data: st.DataObject) -> None:
        name, taste = data.draw(st.sampled_from([(n, t) for n, t in self.TASTES if n not in self.models]))
        self.add(name, taste)

    @invariant()
    def everything_is_delivered_in_order_and_counted(self) -> None:
        for name, model in self.models.items():
            assert self.readers[name].got == model.expected
        every = [*self.models.values(), *self.gone]
        stats = self.bus.stats()
        assert stats["published"] == self.published
        assert stats["delivered"] == sum(len(model.expected) for model in every)
        assert stats["conflated"] == sum(model.conflated for model in every)
        assert stats["overflows"] == len(self.faults) == sum(model.overflows for model in every)
        assert sum(model.sent for model in every) == sum(stats[what] for what in ("delivered", "conflated", "dropped", "waiting"))


TestBusMachine = BusMachine.TestCase


def test_slots_keep_the_order_of_the_first_arrival_across_receivers_of_different_taste() -> None:
    everything, only_b = Reader("everything"), Reader("only-b")
    bus = house(everything)
    bus.register(only_b)
    bus.subscribe("only-b", BookSnapshot, "B.X")

    for sequence, instrument_id in enumerate(("A.X", "B.X", "C.X", "B.X", "A.X")):
        bus.publish(book(sequence, instrument_id))
    bus.drain()

    assert everything.sequences == [4, 3, 2]
    assert only_b.sequences == [3]


@given(st.integers(0, 3 * BATCH), st.integers(0, 3 * BATCH))
def test_more_mail_than_a_batch_is_handled_in_one_drain_and_in_order(trades: int, books: int) -> None:
    reader = Reader("one")
    bus = house(reader)

    for sequence in range(books):
        bus.publish(book(sequence, f"{sequence}.X"))
    for sequence in range(trades):
        bus.publish(trade(sequence))

    assert bus.drain() == trades + books
    assert reader.sequences == [*range(trades), *range(books)]


def test_control_that_a_handler_sends_itself_is_handled_before_the_data_that_waits() -> None:
    bus = EventBus()
    reader = Reader("one", lambda m: bus.tell("one", trade(9)) if m == book(1, "B.X") else None)
    bus.register(reader)
    bus.subscribe("one", BookSnapshot)

    for sequence, instrument_id in enumerate(INSTRUMENTS):
        bus.publish(book(sequence, instrument_id))
    bus.drain()

    assert reader.sequences == [0, 1, 9, 2]
    assert bus.stats()["conflated"] == 0


def fault_on(sequence: int) -> Callable[[Message], None]:
    def react(message: Message) -> None:
        if message.sequence == sequence:  # type: ignore[attr-defined]
            raise ValueError("boom")

    return react


@pytest.mark.parametrize("make", [trade, lambda sequence: book(sequence, f"{sequence}.X")], ids=["control", "data"])
@pytest.mark.parametrize("messages", [3, BATCH + 3])
def test_a_fault_costs_one_message_and_the_others_keep_their_order(make: Callable[[int], Message], messages: int) -> None:
    reader = Reader("one", fault_on(1))
    bus = house(reader)
    faulty: list[Message | None] = []
    bus.on_fault = lambda _actor, message, _exc: faulty.append(message)

    for sequence in range(messages):
        bus.publish(make(sequence))

    assert bus.drain() == messages
    assert reader.sequences == list(range(messages))
    assert faulty == [make(1)]


def test_a_newer_book_replaces_one_that_waits_behind_a_fault() -> None:
    reader = Reader("one", fault_on(0))
    bus = house(reader)
    for sequence, instrument_id in enumerate(INSTRUMENTS):
        bus.publish(book(sequence, instrument_id))

    with pytest.raises(ValueError, match="boom"):
        bus.drain()
    bus.publish(book(7, "B.X"))
    bus.drain()

    assert reader.sequences == [0, 7, 2]
    assert bus.stats()["conflated"] == 1


@pytest.mark.parametrize("make", [trade, lambda sequence: book(sequence, f"{sequence}.X")], ids=["control", "data"])
def test_an_actor_that_removes_itself_in_the_middle_of_a_batch_hears_no_more_and_counts_add_up(make: Callable[[int], Message]) -> None:
    bus = EventBus()
    reader = Reader("one", lambda m: bus.remove("one") if m == make(1) else None)
    bus.register(reader)
    bus.subscribe("one", type(make(0)))

    for sequence in range(5):
        bus.publish(make(sequence))
    bus.drain()
    stats = bus.stats()

    assert reader.sequences == [0, 1]
    assert (stats["delivered"], stats["dropped"], stats["waiting"], stats["conflated"]) == (2, 3, 0, 0)


def test_a_fault_after_an_actor_removed_itself_is_reported() -> None:
    bus = EventBus()

    def leave_and_raise(_: Message) -> None:
        bus.remove("one")
        raise ValueError("boom")

    faults: list[str] = []
    bus.on_fault = lambda actor, _message, exc: faults.append(f"{actor.name}: {exc}")
    bus.register(Reader("one", leave_and_raise))
    bus.tell("one", trade(1))
    bus.drain()

    assert faults == ["one: boom"]


def test_an_overflow_names_no_message_and_the_last_fault_of_a_handler_is_not_blamed_again() -> None:
    reader = Reader("one", fault_on(0))
    bus = house(reader, control_max=2)
    blamed: list[tuple[Message | None, type[Exception]]] = []
    bus.on_fault = lambda _actor, message, exc: blamed.append((message, type(exc)))

    bus.publish(trade(0))
    bus.drain()
    for sequence in range(1, 5):
        bus.publish(trade(sequence))
    bus.drain()

    assert blamed == [(trade(0), ValueError), (None, KernelError)]
    assert reader.sequences == [0, 3, 4]


def test_after_a_fault_that_nobody_takes_the_others_still_get_their_mail() -> None:
    bus = EventBus()
    readers = [Reader("first", fault_on(1)), Reader("second"), Reader("third")]
    for reader in readers:
        bus.register(reader)
        bus.subscribe(reader.name, TradeTick)
    bus.publish(trade(1))

    with pytest.raises(ValueError, match="boom"):
        bus.drain()
    bus.drain()

    assert [reader.sequences for reader in readers] == [[1], [1], [1]]


def test_a_subscription_to_one_instrument_of_a_type_without_instruments_is_refused() -> None:
    bus = house(Reader("one"))

    with pytest.raises(KernelError, match="TradingStateChanged is about no instrument: subscribe 'one' to it without one"):
        bus.subscribe("one", TradingStateChanged, "A.X")
    bus.subscribe("one", DomUpdated, "A.X")
