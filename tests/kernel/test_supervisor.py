from __future__ import annotations

import pytest

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.supervisor import Policy, Supervisor
from framework.messages import BookRecovered, Message


class Fragile(Actor):
    def __init__(self, name: str, story: list[str]) -> None:
        super().__init__(name)
        self._story = story

    def on_start(self) -> None:
        self._story.append(f"start {self.name}")

    def handle(self, message: Message) -> None:
        if isinstance(message, BookRecovered) and message.instrument_id == "bad":
            raise ValueError("boom")
        self._story.append(f"{self.name} heard")

    def on_stop(self) -> None:
        self._story.append(f"stop {self.name}")


def event(instrument_id: str = "good") -> BookRecovered:
    return BookRecovered(instrument_id=instrument_id, ts_event=0)


def make(story: list[str]) -> tuple[EventBus, Supervisor]:
    bus = EventBus()
    supervisor = Supervisor(
        bus,
        now_ns=lambda: 0,
        on_quarantine=lambda name, reason: story.append(f"quarantined {name}: {reason}"),
        on_escalate=lambda name, reason: story.append(f"escalated {name}: {reason}"),
        max_restarts=2,
    )
    return bus, supervisor


def test_actors_start_in_order_and_stop_in_reverse() -> None:
    story: list[str] = []
    _, supervisor = make(story)

    for name in ("journal", "execution", "strategy"):
        supervisor.start(Fragile(name, story))
    supervisor.stop_all()

    assert story == ["start journal", "start execution", "start strategy", "stop strategy", "stop execution", "stop journal"]


def test_a_strategy_that_raises_is_quarantined_and_named_and_the_others_go_on() -> None:
    story: list[str] = []
    bus, supervisor = make(story)
    for name in ("one", "two"):
        supervisor.start(Fragile(name, story), policy=Policy.QUARANTINE)
        bus.subscribe(name, BookRecovered)

    bus.tell("one", event("bad"))
    bus.drain()
    bus.publish(event())
    bus.drain()

    assert "quarantined one: ValueError: boom on BookRecovered" in story
    assert story[-1] == "two heard"
    assert supervisor.quarantined == {"one": "ValueError: boom on BookRecovered"}
    assert supervisor.running() == ("two",)


def test_a_restarted_actor_is_fresh_and_its_budget_ends_in_escalation() -> None:
    story: list[str] = []
    bus, supervisor = make(story)
    supervisor.start(Fragile("feedback", story), policy=Policy.RESTART, factory=lambda: Fragile("feedback", story))

    for _ in range(3):
        bus.tell("feedback", event("bad"))
        bus.drain()

    assert story.count("start feedback") == 3
    assert supervisor.restarts == 2
    assert story[-1] == "escalated feedback: restart budget is spent (2); last: ValueError: boom on BookRecovered"


def test_an_actor_without_a_policy_escalates() -> None:
    story: list[str] = []
    bus, supervisor = make(story)
    supervisor.start(Fragile("execution", story))

    bus.tell("execution", event("bad"))
    bus.drain()

    assert story[-1] == "escalated execution: ValueError: boom on BookRecovered"


def test_a_strategy_that_raises_at_its_start_is_quarantined() -> None:
    class Broken(Fragile):
        def on_start(self) -> None:
            raise RuntimeError("no")

    story: list[str] = []
    _, supervisor = make(story)

    supervisor.start(Broken("one", story), policy=Policy.QUARANTINE)

    assert story == ["quarantined one: RuntimeError: no"]


def test_a_restarted_actor_keeps_its_place_in_the_order_of_stopping_and_of_draining() -> None:
    story: list[str] = []
    bus, supervisor = make(story)
    for name in ("one", "two"):
        supervisor.start(Fragile(name, story), policy=Policy.RESTART, factory=lambda name=name: Fragile(name, story))  # type: ignore[misc]

    bus.tell("one", event("bad"))
    bus.drain()
    story.clear()
    for name in ("two", "one"):
        bus.tell(name, event())
    bus.drain()
    supervisor.stop_all()

    assert story == ["one heard", "two heard", "stop two", "stop one"]


def test_restarting_without_a_factory_is_refused_at_the_start() -> None:
    _, supervisor = make([])

    with pytest.raises(KernelError, match="'one' cannot be restarted without a factory"):
        supervisor.start(Fragile("one", []), policy=Policy.RESTART)


def test_a_factory_that_fails_escalates() -> None:
    story: list[str] = []
    bus, supervisor = make(story)

    def broken() -> Actor:
        raise OSError("no disk")

    supervisor.start(Fragile("one", story), policy=Policy.RESTART, factory=broken)
    bus.tell("one", event("bad"))
    bus.drain()

    assert story[-1] == "escalated one: no fresh one could be made (OSError: no disk) after ValueError: boom on BookRecovered"
    assert bus.stats()["faults"] == 1


def test_an_actor_that_fails_at_every_start_spends_its_budget_at_once() -> None:
    class Broken(Fragile):
        def on_start(self) -> None:
            super().on_start()
            raise RuntimeError("no")

    story: list[str] = []
    _, supervisor = make(story)

    supervisor.start(Broken("one", story), policy=Policy.RESTART, factory=lambda: Broken("one", story))

    assert story == ["start one"] * 3 + ["escalated one: restart budget is spent (2); last: RuntimeError: no"]


def test_the_budget_comes_back_with_time() -> None:
    story: list[str] = []
    now_ns = [0]
    bus = EventBus()
    supervisor = Supervisor(
        bus,
        now_ns=lambda: now_ns[0],
        on_quarantine=lambda *_: None,
        on_escalate=lambda name, _: story.append(f"escalated {name}"),
        max_restarts=1,
        window_ns=10,
    )
    supervisor.start(Fragile("one", story), policy=Policy.RESTART, factory=lambda: Fragile("one", story))

    for now_ns[0] in (0, 10, 20, 25):
        bus.tell("one", event("bad"))
        bus.drain()

    assert supervisor.restarts == 3
    assert story[-1] == "escalated one"


def test_one_actor_that_fails_to_stop_does_not_keep_the_others_from_it() -> None:
    class Stubborn(Fragile):
        def on_stop(self) -> None:
            raise RuntimeError("no")

    story: list[str] = []
    _, supervisor = make(story)
    for actor in (Fragile("one", story), Stubborn("two", story), Fragile("three", story)):
        supervisor.start(actor)

    supervisor.stop_all()

    assert story[-2:] == ["stop three", "stop one"]


def test_a_stopped_actor_leaves_the_bus_and_an_unknown_one_is_no_fault() -> None:
    story: list[str] = []
    bus, supervisor = make(story)
    supervisor.start(Fragile("one", story))

    supervisor.stop("one")
    supervisor.stop("nobody")
    bus.tell("one", event())
    bus.drain()

    assert story == ["start one", "stop one"]
    assert bus.stats()["dead_letters"] == 1
    assert supervisor.running() == ()
