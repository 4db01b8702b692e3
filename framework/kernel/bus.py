"""The event bus: direct, synchronous dispatch through bounded mailboxes and one run queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.mailbox import Mailbox, SlotKey
from framework.messages import Lane, Message

FaultHandler = Callable[[Actor, Message | None, Exception], None]


class _Route:
    """Where messages of one type and instrument go: resolved once, then used for every message and counted."""

    __slots__ = ("boxes", "count", "is_data", "puts")

    def __init__(self, boxes: tuple[Mailbox, ...], key: SlotKey) -> None:
        self.boxes = boxes
        self.is_data = key[0].lane is Lane.DATA
        self.count = 0
        self.puts: tuple[Callable[[Message], None], ...] = (
            tuple(partial(box.data.__setitem__, key) for box in boxes) if self.is_data else tuple(box.control.append for box in boxes)
        )

    def settle(self) -> int:
        """Book the count to the mailboxes and return it."""
        if self.is_data:
            for box in self.boxes:
                box.data_put += self.count
        count, self.count = self.count, 0
        return count


class EventBus:
    """Deliver messages to actors in a fixed order.

    `publish` goes to the subscribers of exactly the message's type, `tell` to one actor; neither waits or suspends. Mail is
    handled by `drain`, actor by actor in the order of registering, in bounded batches, until all is quiet. Between one
    sender and one receiver the control lane keeps its order. Delivery is at most once: mail for an actor that is removed is
    dropped and counted, mail for an unknown name is a counted dead letter.

    `schedule` (for example `loop.call_soon`) is called with a callback when mail arrives outside a drain; without it the
    owner drains by hand. `on_fault` gets what a handler raises; without it, the exception leaves `drain`. `tap` sees every
    message once, before any handler.
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
        self.tap = tap
        self._control_max = control_max
        self._schedule = schedule
        self._after_sending = self._send_hook()
        self._actors: dict[str, Actor] = {}
        self._boxes: dict[str, Mailbox] = {}
        self._run_order: tuple[Mailbox, ...] = ()
        self._subscriptions: dict[type[Message], list[tuple[str, str | None]]] = {}
        self._routes: dict[type[Message], dict[str | None, _Route]] = {}
        self._is_draining = False
        self._is_scheduled = False
        self._published = 0
        self._told = 0
        self._dead_letters = 0
        self._overflows = 0
        self._faults = 0
        self._delivered_by_removed = 0
        self._conflated_by_removed = 0
        self._dropped_by_removed = 0

    # --- who listens -------------------------------------------------------------------------------------------------

    def register(self, actor: Actor) -> None:
        """Give `actor` a mailbox. Raises `KernelError` if the name is taken."""
        if actor.name in self._actors:
            raise KernelError(f"an actor named {actor.name!r} is registered already")
        self._actors[actor.name] = actor
        self._boxes[actor.name] = Mailbox(actor.handle, control_max=self._control_max)
        self._run_order = tuple(self._boxes.values())
        self._forget_routes()

    def remove(self, actor_name: str) -> None:
        """Forget an actor with its subscriptions; its mail is dropped and counted. Safe inside a handler."""
        if actor_name not in self._boxes:
            return
        self._forget_routes()
        box = self._boxes.pop(actor_name)
        del self._actors[actor_name]
        box.clear()
        self._dropped_by_removed += box.dropped
        self._delivered_by_removed += box.delivered
        self._conflated_by_removed += box.conflated
        for subscribers in self._subscriptions.values():
            subscribers[:] = [entry for entry in subscribers if entry[0] != actor_name]
        self._run_order = tuple(self._boxes.values())

    def subscribe(self, actor_name: str, message_type: type[Message], instrument_id: str | None = None) -> None:
        """Deliver messages of `message_type` to the actor, of one instrument or (None) of all. Twice is once."""
        if actor_name not in self._actors:
            raise KernelError(f"no actor named {actor_name!r} is registered")
        subscribers = self._subscriptions.setdefault(message_type, [])
        if (actor_name, instrument_id) not in subscribers:
            subscribers.append((actor_name, instrument_id))
            self._forget_routes()

    def has_actor(self, actor_name: str) -> bool:
        """Return whether an actor of this name is registered."""
        return actor_name in self._actors

    # --- sending -------------------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Put `message` into the mailbox of each subscriber of its type (and instrument). Never waits."""
        try:
            route = self._routes[type(message)][message.instrument_id]  # type: ignore[attr-defined]
        except (KeyError, AttributeError):
            route = self._route(type(message), getattr(message, "instrument_id", None))
        route.count += 1
        for put in route.puts:
            put(message)
        if self._after_sending is not None:
            self._after_sending(message)

    def tell(self, actor_name: str, message: Message) -> None:
        """Put `message` into one actor's control lane. An unknown name is a counted dead letter."""
        box = self._boxes.get(actor_name)
        self._told += 1
        if box is None:
            self._dead_letters += 1
        else:
            box.control.append(message)
        if self._after_sending is not None:
            self._after_sending(message)

    # --- delivering ----------------------------------------------------------------------------------------------------

    def drain(self, max_messages: int = 100_000) -> int:
        """Handle mail until all mailboxes are empty or about `max_messages` were handled; return how many were.

        A call from inside a handler does nothing: the drain that runs will come to that mail.
        """
        if self._is_draining:
            return 0
        self._is_draining = True
        handled = 0
        try:
            while handled < max_messages:
                in_round = 0
                for box in self._run_order:
                    if box.control or box.data:
                        in_round += self._run(box)
                handled += in_round
                if not in_round:
                    break
        finally:
            self._is_draining = False
        if handled >= max_messages and self._schedule is not None:
            self._schedule_drain()
        return handled

    def stats(self) -> dict[str, int]:
        """Return counters: published, told, delivered, conflated, dropped, dead_letters, overflows, faults, waiting."""
        self._settle_routes()
        boxes = self._boxes.values()
        return {
            "published": self._published,
            "told": self._told,
            "delivered": sum(box.delivered for box in boxes) + self._delivered_by_removed,
            "conflated": sum(box.conflated for box in boxes) + self._conflated_by_removed,
            "dropped": sum(box.dropped for box in boxes) + self._dropped_by_removed,
            "dead_letters": self._dead_letters,
            "overflows": self._overflows,
            "faults": self._faults,
            "waiting": sum(len(box) for box in boxes),
        }

    def _run(self, box: Mailbox) -> int:
        try:
            if box.is_overfull:
                self._overflows += 1
                dropped = box.clear()
                raise KernelError(f"mailbox is full ({self._control_max} messages); {dropped} were dropped")
            return box.run()
        # The actor loop is one of the named boundaries: whatever a handler raises is that actor's fault, not the bus's.
        except Exception as exc:
            self._faults += 1
            name = next((name for name, own in self._boxes.items() if own is box), None)
            if self.on_fault is None:
                raise
            if name is not None:
                self.on_fault(self._actors[name], box.failed_on, exc)
        return 1

    def _send_hook(self) -> Callable[[Message], None] | None:
        # One look per message instead of two: most runs have neither a tap nor a scheduler.
        if self.tap is None and self._schedule is None:
            return None
        return self._tap_and_schedule

    def _tap_and_schedule(self, message: Message) -> None:
        if self.tap is not None:
            self.tap(message)
        if self._schedule is not None and not self._is_scheduled and not self._is_draining:
            self._schedule_drain()

    def _schedule_drain(self) -> None:
        if self._schedule is not None and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(self._scheduled_drain)

    def _scheduled_drain(self) -> None:
        self._is_scheduled = False
        self.drain()

    def _route(self, kind: type[Message], instrument_id: str | None) -> _Route:
        table = self._routes.setdefault(kind, {})
        if instrument_id not in table:
            wanted = {name for name, only in self._subscriptions.get(kind, ()) if only is None or only == instrument_id}
            boxes = tuple(box for name, box in self._boxes.items() if name in wanted)
            table[instrument_id] = _Route(boxes, (kind, instrument_id))
        return table[instrument_id]

    def _settle_routes(self) -> None:
        self._published += sum(route.settle() for table in self._routes.values() for route in table.values())

    def _forget_routes(self) -> None:
        self._settle_routes()
        self._routes.clear()
