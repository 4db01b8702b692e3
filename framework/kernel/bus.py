"""The event bus: direct, synchronous dispatch through bounded mailboxes and one run queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol, runtime_checkable

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.mailbox import Mailbox
from framework.messages import Lane, Message

FaultHandler = Callable[[Actor, Message | None, Exception], None]
Tap = Callable[[Any], None]
_BY_RANK = attrgetter("rank")


@runtime_checkable
class TapByType(Protocol):
    """A tap that wants some types of message only: it is asked once for each type, and costs the others nothing."""

    def tap_of(self, kind: type[Message]) -> Tap | None:
        """Return what sees the messages of a type, None for nothing."""


class _Route:
    """Where messages of one type and instrument go: resolved once, then used for every message.

    `count` is what was sent and is not booked yet; `is_busy` says that the receivers of CONTROL are to be woken; `tap` sees it first.
    """

    __slots__ = ("boxes", "count", "is_busy", "is_data", "key", "put", "puts", "tap")

    def __init__(self, boxes: tuple[Mailbox, ...], kind: type[Message], instrument_id: str | None, tap: Tap | None) -> None:
        self.boxes = boxes
        self.tap = tap
        self.is_data = kind.lane is Lane.DATA
        # A string knows its hash: every DATA message is stored under this key.
        self.key = f"{kind.__module__}.{kind.__qualname__} {instrument_id}"
        self.puts = tuple(box.control.append for box in boxes)
        self.put = self.puts[0] if len(boxes) == 1 else None
        self.count = 0
        self.is_busy = False

    def book(self) -> int:
        """Book what was sent to the mailboxes; return and forget it."""
        sent, self.count = self.count, 0
        for box in self.boxes:
            if self.is_data:
                box.data_put += sent
            else:
                box.control_put += sent
        return sent


class EventBus:
    """Deliver messages to actors in a fixed order.

    `publish` goes to the subscribers of exactly the message's type, `tell` to one actor; neither waits or suspends. Mail is
    handled by `drain` in rounds: every actor that has mail handles a bounded batch, in the order of registering, until all is
    quiet. Between one sender and one receiver the control lane keeps its order. Delivery is at most once: mail for an actor
    that is removed is dropped and counted, mail for an unknown name is a counted dead letter.

    `schedule` (for example `loop.call_soon`) is called with a callback when mail arrives outside a drain; without it the
    owner drains by hand. `on_fault` gets what a handler raises; without it, the exception leaves `drain`. `tap` sees every
    message once, before any handler (of the types that it wants, if it is a `TapByType`).
    """

    def __init__(
        self,
        *,
        on_fault: FaultHandler | None = None,
        control_max: int = 10_000,
        schedule: Callable[[Callable[[], None]], object] | None = None,
        tap: Callable[[Message], None] | None = None,
    ) -> None:
        self.on_fault = on_fault
        self._tap = tap
        self._taps: dict[type[Message], Tap | None] = {}
        self._control_max = control_max
        self._schedule = schedule
        self._boxes: dict[str, Mailbox] = {}
        self._ranks: dict[str, int] = {}
        self._subscriptions: dict[type[Message], list[tuple[str, str | None]]] = {}
        self._routes: dict[type[Message], dict[str | None, _Route]] = {}
        self._groups: dict[tuple[Mailbox, ...], tuple[Mailbox, ...]] = {}
        self._busy_routes: list[_Route] = []
        self._note_busy = self._busy_routes.append
        self._fresh: dict[str, Message] = {}
        self._fresh_for: tuple[Mailbox, ...] = ()
        self._awake: list[Mailbox] = []
        self._removed: list[Mailbox] = []
        self._is_draining = False
        self._is_scheduled = False
        self._told = 0
        self._counts: Counter[str] = Counter()
        # One look per message instead of three: is somebody to be asked to drain, who was not asked yet?
        self._may_ask = schedule is not None

    # --- who listens -------------------------------------------------------------------------------------------------

    def register(self, actor: Actor) -> None:
        """Give `actor` a mailbox; a name that was removed gets its old place. Raises `KernelError` if the name is taken."""
        if actor.name in self._boxes:
            raise KernelError(f"an actor named {actor.name!r} is registered already")
        rank = self._ranks.setdefault(actor.name, len(self._ranks))
        self._boxes[actor.name] = Mailbox(actor, rank=rank, control_max=self._control_max)

    def remove(self, actor_name: str) -> None:
        """Forget an actor with its subscriptions; its mail is dropped and counted. Safe inside a handler."""
        box = self._boxes.pop(actor_name, None)
        if box is None:
            return
        for subscribers in self._subscriptions.values():
            subscribers[:] = [entry for entry in subscribers if entry[0] != actor_name]
        self._forget_routes()
        box.clear()
        self._removed.append(box)

    def subscribe(self, actor_name: str, message_type: type[Message], instrument_id: str | None = None) -> None:
        """Deliver messages of `message_type` to the actor, of one instrument or (None) of all. Twice is once."""
        if actor_name not in self._boxes:
            raise KernelError(f"no actor named {actor_name!r} is registered")
        if instrument_id is not None and "instrument_id" not in message_type.__struct_fields__:
            raise KernelError(f"{message_type.__name__} is about no instrument: subscribe {actor_name!r} to it without one")
        subscribers = self._subscriptions.setdefault(message_type, [])
        if (actor_name, instrument_id) not in subscribers:
            subscribers.append((actor_name, instrument_id))
            self._forget_routes()

    def has_actor(self, actor_name: str) -> bool:
        """Return whether an actor of this name is registered."""
        return actor_name in self._boxes

    # --- sending -------------------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:  # noqa: C901 (in one piece: every call more costs each message of a run)
        """Put `message` into the mailbox of each subscriber of its type (and instrument). Never waits."""
        try:
            route = self._routes[type(message)][message.instrument_id]  # type: ignore[attr-defined]
        except (KeyError, AttributeError):
            route = self._route(type(message), getattr(message, "instrument_id", None))
        route.count += 1
        if route.is_data:
            if route.boxes is not self._fresh_for:
                self._hand_out(route.boxes)
            self._fresh[route.key] = message
        else:
            if not route.is_busy:
                route.is_busy = True
                self._note_busy(route)
            if route.put is not None:  # one receiver is common, and a loop costs as much as the put itself
                route.put(message)
            else:
                for put in route.puts:
                    put(message)
        if route.tap is not None:
            route.tap(message)
        if self._may_ask:
            self._ask_for_drain()

    def tell(self, actor_name: str, message: Message) -> None:
        """Put `message` into one actor's control lane. An unknown name is a counted dead letter."""
        box = self._boxes.get(actor_name)
        self._told += 1
        if box is None:
            self._counts["dead_letters"] += 1
        else:
            box.control.append(message)
            box.control_put += 1
            if not box.is_awake:
                self._wake(box)
        kind = type(message)
        tap = self._taps[kind] if kind in self._taps else self._tap_for(kind)
        if tap is not None:
            tap(message)
        if self._may_ask:
            self._ask_for_drain()

    # --- delivering ----------------------------------------------------------------------------------------------------

    def drain(self, max_messages: int = 100_000) -> int:
        """Handle mail until all mailboxes are empty or about `max_messages` were handled; return how many were.

        A call from inside a handler does nothing: the drain that runs will come to that mail.
        """
        if self._is_draining or not (self._busy_routes or self._fresh or self._awake):
            return 0
        self._is_draining, self._may_ask = True, False
        handled = 0
        try:
            while handled < max_messages and (self._busy_routes or self._fresh or self._awake):
                handled += self._round()
        finally:
            self._is_draining = False
            self._may_ask = self._schedule is not None and not self._is_scheduled
            if self._may_ask and (self._busy_routes or self._fresh or self._awake):
                self._ask_for_drain()
        return handled

    @property
    def is_draining(self) -> bool:
        """Return whether a handler is running."""
        return self._is_draining

    def stats(self) -> dict[str, int]:
        """Return counters: published, told, delivered, conflated, dropped, dead_letters, overflows, faults, waiting.

        Per receiver, what was sent is what was delivered, conflated, dropped or waits. Exact outside of a drain.
        """
        self._hand_out(())
        self._book_routes()
        boxes, counts = (*self._boxes.values(), *self._removed), self._counts
        return {
            "published": counts["published"],
            "told": self._told,
            "delivered": sum(box.delivered for box in boxes) + counts["delivered"],
            "conflated": sum(box.conflated for box in boxes) + counts["conflated"],
            "dropped": sum(box.dropped for box in boxes) + counts["dropped"],
            "dead_letters": counts["dead_letters"],
            "overflows": sum(box.overflows for box in boxes) + counts["overflows"],
            "faults": counts["faults"],
            "waiting": sum(len(box) for box in boxes),
        }

    def _round(self) -> int:
        """Let every actor that has mail handle a batch; return how many messages they handled."""
        handled = 0
        order = iter(self._take_awake())
        try:
            for box in order:
                before = box.delivered
                try:
                    handled += box.run()
                # The actor loop is one of the named boundaries: what a handler raises is that actor's fault, not the bus's.
                except Exception as exc:  # noqa: BLE001
                    handled += box.delivered - before
                    self._blame(box, exc)
                if box.control or box.slots:
                    self._wake(box)
        finally:
            for box in order:  # only after a fault that nobody took: the others keep their turn
                self._wake(box)
        return handled

    def _blame(self, box: Mailbox, exc: Exception) -> None:
        """Count a fault and report it, or raise it where nobody takes reports."""
        self._counts["faults"] += 1
        self._wake(box)
        message, box.failed_on = box.failed_on, None
        if self.on_fault is None:
            raise exc
        self.on_fault(box.actor, message, exc)

    def _take_awake(self) -> list[Mailbox]:
        """Return the mailboxes with mail in their fixed order."""
        if self._fresh:
            self._hand_out(())
        if self._busy_routes:
            self._wake_receivers()
        awake, self._awake = self._awake, []
        for box in awake:
            box.is_awake = False
        if len(awake) > 1:
            awake.sort(key=_BY_RANK)
        return awake

    def _wake_receivers(self) -> None:
        """Note who has CONTROL."""
        for route in self._busy_routes:
            route.is_busy = False
            for box in route.boxes:
                if not box.is_awake:
                    box.is_awake = True
                    self._awake.append(box)
        self._busy_routes.clear()

    def _hand_out(self, next_boxes: tuple[Mailbox, ...]) -> None:
        """Give the newest DATA to its receivers, and begin to collect for others.

        Messages in a row for the same receivers are collected before they are handed out: books of many instruments, or many
        books of one, then cost the same for one receiver and for a hundred.
        """
        fresh, boxes = self._fresh, self._fresh_for
        self._fresh_for = next_boxes
        if not fresh:
            return
        if len(fresh) == 1:  # common outside of bursts, and cheaper than a dict for each receiver
            key, message = fresh.popitem()
            for box in boxes:
                box.slots[key] = message
                if not box.is_awake:
                    box.is_awake = True
                    self._awake.append(box)
            return
        self._fresh = {}
        for box in boxes:
            box.take(fresh if box is boxes[-1] else fresh.copy())
            if not box.is_awake:
                box.is_awake = True
                self._awake.append(box)

    def _wake(self, box: Mailbox) -> None:
        if not box.is_awake:
            box.is_awake = True
            self._awake.append(box)

    def _tap_for(self, kind: type[Message]) -> Tap | None:
        tap = self._tap.tap_of(kind) if isinstance(self._tap, TapByType) else self._tap
        self._taps[kind] = tap
        return tap

    def _ask_for_drain(self) -> None:
        if self._schedule is not None:
            self._is_scheduled, self._may_ask = True, False
            self._schedule(self._scheduled_drain)

    def _scheduled_drain(self) -> None:
        self._is_scheduled, self._may_ask = False, not self._is_draining
        self.drain()

    def _route(self, kind: type[Message], instrument_id: str | None) -> _Route:
        table = self._routes.setdefault(kind, {})
        if instrument_id not in table:
            wanted = {name for name, only in self._subscriptions.get(kind, ()) if only is None or only == instrument_id}
            boxes = tuple(sorted((box for name, box in self._boxes.items() if name in wanted), key=_BY_RANK))
            table[instrument_id] = _Route(self._groups.setdefault(boxes, boxes), kind, instrument_id, self._tap_for(kind))
        return table[instrument_id]

    def _book_routes(self) -> None:
        self._counts["published"] += sum(route.book() for table in self._routes.values() for route in table.values())
        if not self._is_draining:  # until then a run may still count for a mailbox that its own handler removed
            for box in self._removed:
                gone = {"delivered": box.delivered, "conflated": box.conflated, "dropped": box.dropped, "overflows": box.overflows}
                self._counts.update(gone)
            self._removed.clear()

    def _forget_routes(self) -> None:
        self._hand_out(())
        self._wake_receivers()
        self._book_routes()
        self._routes.clear()
        self._groups.clear()
