from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import BookSnapshot, Message, TradeTick, TradingStateChanged
from framework.model import TradingState


def trade(sequence: int, instrument_id: str = "A.X") -> TradeTick:
    return TradeTick(instrument_id=instrument_id, ts_event=0, ts_recv=0, sequence=sequence, price_ticks=1, size=1, aggressor=None)


def book(sequence: int, instrument_id: str = "A.X") -> BookSnapshot:
    return BookSnapshot(
        instrument_id=instrument_id,
        ts_event=0,
        ts_recv=0,
        sequence=sequence,
        bid_ticks=(1,),
        bid_sizes=(1,),
        ask_ticks=(2,),
        ask_sizes=(1,),
    )


class Listener(Actor):
    def __init__(self, name: str, react: Callable[[Message], None] = lambda _: None) -> None:
        super().__init__(name)
        self.got: list[Message] = []
        self._react = react

    def handle(self, message: Message) -> None:
        self.got.append(message)
        self._react(message)


def bus_with(*actors: Actor, control_max: int = 10_000) -> EventBus:
    bus = EventBus(control_max=control_max)
    for actor in actors:
        bus.register(actor)
        bus.subscribe(actor.name, TradeTick)
        bus.subscribe(actor.name, BookSnapshot)
    return bus


def test_subscribers_of_another_instrument_or_type_hear_nothing() -> None:
    everything, only_b = Listener("everything"), Listener("only-b")
    bus = EventBus()
    for actor in (everything, only_b):
        bus.register(actor)
    bus.subscribe("everything", TradeTick)
    bus.subscribe("only-b", TradeTick, "B.X")

    bus.publish(trade(1, "A.X"))
    bus.publish(trade(2, "B.X"))
    bus.publish(book(3, "B.X"))
    bus.drain()

    assert [m.sequence for m in everything.got] == [1, 2]  # type: ignore[attr-defined]
    assert [m.sequence for m in only_b.got] == [2]  # type: ignore[attr-defined]


def test_messages_without_an_instrument_reach_their_subscribers() -> None:
    listener = Listener("risk")
    bus = EventBus()
    bus.register(listener)
    bus.subscribe("risk", TradingStateChanged)

    bus.publish(TradingStateChanged(ts_event=1, state=TradingState.HALTED, reason="test"))
    bus.drain()

    assert len(listener.got) == 1


def test_control_is_handled_before_data() -> None:
    listener = Listener("one")
    bus = bus_with(listener)

    bus.publish(book(1))
    bus.publish(trade(2))
    bus.drain()

    assert [type(m) for m in listener.got] == [TradeTick, BookSnapshot]


def test_the_newest_book_of_an_instrument_replaces_older_ones_and_they_are_counted() -> None:
    listener = Listener("one")
    bus = bus_with(listener)

    for message in (book(1, "A.X"), book(2, "B.X"), book(3, "A.X"), book(4, "A.X")):
        bus.publish(message)
    bus.drain()

    assert [(m.instrument_id, m.sequence) for m in listener.got] == [("A.X", 4), ("B.X", 2)]  # type: ignore[attr-defined]
    assert bus.stats()["conflated"] == 2


def test_mail_sent_while_draining_is_handled_in_the_same_drain() -> None:
    bus = EventBus()
    second = Listener("second")
    first = Listener("first", lambda m: bus.tell("second", m))
    for actor in (first, second):
        bus.register(actor)

    bus.tell("first", trade(1))
    handled = bus.drain()

    assert handled == 2
    assert second.got == [trade(1)]


def test_an_unknown_name_is_a_counted_dead_letter() -> None:
    bus = EventBus()

    bus.tell("nobody", trade(1))

    assert bus.stats()["dead_letters"] == 1


def test_a_fault_names_its_actor_and_message_and_the_others_go_on() -> None:
    faults: list[tuple[str, Message | None]] = []

    def explode(_: Message) -> None:
        raise ValueError("boom")

    broken, sound = Listener("broken", explode), Listener("sound")
    bus = bus_with(broken, sound)
    bus.on_fault = lambda actor, message, _: faults.append((actor.name, message))

    bus.publish(trade(1))
    bus.drain()

    assert faults == [("broken", trade(1))]
    assert sound.got == [trade(1)]


def test_without_a_fault_handler_what_a_handler_raises_leaves_drain_and_the_bus_still_works() -> None:
    def explode(_: Message) -> None:
        raise ValueError("boom")

    bus = bus_with(Listener("broken", explode))
    bus.publish(trade(1))

    with pytest.raises(ValueError, match="boom"):
        bus.drain()
    bus.publish(trade(2))
    with pytest.raises(ValueError, match="boom"):
        bus.drain()


def test_an_overfull_mailbox_is_a_fault_of_its_receiver_and_memory_stays_bounded() -> None:
    faults: list[str] = []
    slow = Listener("slow")
    bus = bus_with(slow, control_max=10)
    bus.on_fault = lambda actor, _, exc: faults.append(f"{actor.name}: {exc}")

    for sequence in range(1_000):
        bus.publish(trade(sequence))
    waiting = bus.stats()["waiting"]
    bus.drain()

    assert waiting == 11
    assert faults == ["slow: the mailbox of 'slow' is full (10 messages): the oldest were dropped"]
    assert [m.sequence for m in slow.got] == list(range(990, 1_000))  # type: ignore[attr-defined]
    assert (bus.stats()["overflows"], bus.stats()["dropped"]) == (1, 990)


def test_an_actor_removed_by_its_own_message_hears_no_more() -> None:
    bus = EventBus()
    listener = Listener("one", lambda _: bus.remove("one"))
    bus.register(listener)
    bus.subscribe("one", TradeTick)

    for sequence in range(5):
        bus.publish(trade(sequence))
    bus.drain()
    bus.publish(trade(9))
    bus.drain()

    assert listener.got == [trade(0)]
    assert bus.stats()["dropped"] == 4


def test_two_actors_of_one_name_are_refused() -> None:
    bus = bus_with(Listener("one"))

    with pytest.raises(KernelError, match="'one' is registered already"):
        bus.register(Listener("one"))


def test_mail_from_outside_schedules_exactly_one_drain() -> None:
    scheduled: list[Callable[[], None]] = []
    listener = Listener("one")
    bus = EventBus(schedule=scheduled.append)
    bus.register(listener)

    bus.tell("one", trade(1))
    bus.tell("one", trade(2))
    scheduled.pop()()

    assert scheduled == []
    assert len(listener.got) == 2


def test_the_tap_sees_every_message_once_before_any_handler() -> None:
    seen: list[Message] = []
    listener = Listener("one", lambda m: seen.append(m))
    bus = EventBus(tap=seen.append)
    bus.register(listener)
    bus.subscribe("one", TradeTick)

    bus.publish(trade(1))

    assert seen == [trade(1)]


def test_a_tap_by_type_is_asked_once_a_type_and_sees_what_it_wants_told_or_published() -> None:
    asked: list[type[Message]] = []
    seen: list[Message] = []

    class OnlyTrades:
        def tap_of(self, kind: type[Message]) -> Callable[[Message], None] | None:
            asked.append(kind)
            return seen.append if kind is TradeTick else None

        def __call__(self, message: Message) -> None:
            raise AssertionError("nobody calls the whole of it")

    bus = EventBus(tap=OnlyTrades())
    bus.register(Listener("one"))
    for number in (1, 2):
        bus.publish(trade(number))
        bus.publish(book(number))
        bus.tell("one", trade(10 + number))

    assert seen == [trade(1), trade(11), trade(2), trade(12)]
    assert sorted(kind.__name__ for kind in set(asked)) == ["BookSnapshot", "TradeTick"]
    assert len(asked) <= 3  # once for telling, once for each route


operations = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.sampled_from(("A.X", "B.X"))),
        st.tuples(st.just("book"), st.sampled_from(("A.X", "B.X"))),
        st.tuples(st.just("drain"), st.just("")),
    ),
    max_size=80,
)


@given(operations)
def test_everything_sent_is_delivered_conflated_or_waiting_and_keeps_its_order(script: list[tuple[str, str]]) -> None:
    listener = Listener("one")
    bus = bus_with(listener)

    for sequence, (kind, instrument_id) in enumerate(script):
        if kind == "trade":
            bus.publish(trade(sequence, instrument_id))
        elif kind == "book":
            bus.publish(book(sequence, instrument_id))
        else:
            bus.drain()
    before = bus.stats()
    bus.drain()
    after = bus.stats()

    for stats in (before, after):
        assert stats["published"] == stats["delivered"] + stats["conflated"] + stats["waiting"]
    trades = [m.sequence for m in listener.got if isinstance(m, TradeTick)]
    assert trades == [s for s, (kind, _) in enumerate(script) if kind == "trade"]
    for wanted in ("A.X", "B.X"):
        books = [m.sequence for m in listener.got if isinstance(m, BookSnapshot) and m.instrument_id == wanted]
        sent = [s for s, (kind, i) in enumerate(script) if kind == "book" and i == wanted]
        assert books == sorted(books)
        assert books[-1:] == sent[-1:]
