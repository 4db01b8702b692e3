"""Start actors in order, stop them in reverse, and decide by a table what a fault leads to."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum

from framework.errors import KernelError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import Message

log = logging.getLogger("Supervisor")


class Policy(StrEnum):
    """What a fault of an actor leads to."""

    QUARANTINE = "quarantine"
    RESTART = "restart"
    ESCALATE = "escalate"


class Supervisor:
    """Keep the actors of one bus.

    `policies` says per actor name what a fault leads to (ESCALATE if it says nothing): QUARANTINE removes the actor and calls
    `on_quarantine(name, reason)`; RESTART replaces it by a fresh one from `factories`, at most `max_restarts` times in
    `window_ns`, then escalates; ESCALATE calls `on_escalate(name, reason)`, which is expected to close the order gate and stop.
    """

    def __init__(
        self,
        bus: EventBus,
        *,
        now_ns: Callable[[], int],
        on_quarantine: Callable[[str, str], None],
        on_escalate: Callable[[str, str], None],
        max_restarts: int = 5,
        window_ns: int = 60_000_000_000,
    ) -> None:
        self._bus = bus
        self._now_ns = now_ns
        self._on_quarantine = on_quarantine
        self._on_escalate = on_escalate
        self._max_restarts = max_restarts
        self._window_ns = window_ns
        self._children: dict[str, Actor] = {}
        self._policies: dict[str, Policy] = {}
        self._factories: dict[str, Callable[[], Actor]] = {}
        self._restarts: dict[str, deque[int]] = {}
        self._by_policy: Mapping[Policy, Callable[[str, str], None]] = {
            Policy.QUARANTINE: self._quarantine,
            Policy.RESTART: self._restart,
            Policy.ESCALATE: self._on_escalate,
        }
        self.quarantined: dict[str, str] = {}
        self.restarts = 0
        bus.on_fault = self.on_fault

    def start(self, actor: Actor, *, policy: Policy = Policy.ESCALATE, factory: Callable[[], Actor] | None = None) -> None:
        """Register `actor`, call its `on_start`, and keep it. What `on_start` raises is a fault like any other.

        Raises `KernelError` if the name is taken, or if RESTART comes without a `factory`.
        """
        if policy is Policy.RESTART and factory is None:
            raise KernelError(f"{actor.name!r} cannot be restarted without a factory")
        self._bus.register(actor)
        self._children[actor.name] = actor
        self._policies[actor.name] = policy
        if factory is not None:
            self._factories[actor.name] = factory
        try:
            actor.on_start()
        # The supervisor is one of the named boundaries: a start that fails is that actor's fault.
        except Exception as exc:  # noqa: BLE001
            self.on_fault(actor, None, exc)

    def stop(self, name: str) -> None:
        """Stop one actor and remove it from the bus; an unknown name does nothing."""
        actor = self._children.pop(name, None)
        if actor is not None:
            self._stop(actor)

    def stop_all(self) -> None:
        """Call `on_stop` of every actor in reverse order of starting. They stay on the bus, so their last mail still flows."""
        for actor in reversed(tuple(self._children.values())):
            self._say_goodbye(actor)

    def running(self) -> tuple[str, ...]:
        """Return the names of the actors that run, in order of starting."""
        return tuple(self._children)

    def on_fault(self, actor: Actor, message: Message | None, exc: Exception) -> None:
        """Deal with what a handler raised, by the actor's policy."""
        where = f" on {type(message).__name__}" if message is not None else ""
        reason = f"{type(exc).__name__}: {exc}{where}"
        log.error("%s raised %s", actor.name, reason, exc_info=exc)
        self._by_policy[self._policies.get(actor.name, Policy.ESCALATE)](actor.name, reason)

    def _quarantine(self, name: str, reason: str) -> None:
        self.quarantined[name] = reason
        self._children.pop(name, None)
        self._bus.remove(name)
        self._on_quarantine(name, reason)

    def _restart(self, name: str, reason: str) -> None:
        now_ns = self._now_ns()
        recent = self._restarts.setdefault(name, deque(maxlen=self._max_restarts))
        if len(recent) == self._max_restarts and now_ns - recent[0] < self._window_ns:
            self._on_escalate(name, f"restart budget is spent ({self._max_restarts}); last: {reason}")
            return
        recent.append(now_ns)
        self.restarts += 1
        self._bus.remove(name)
        try:
            fresh = self._factories[name]()
        # The supervisor is one of the named boundaries: a factory that fails cannot be tried again by the bus.
        except Exception as exc:  # noqa: BLE001
            self._on_escalate(name, f"no fresh one could be made ({type(exc).__name__}: {exc}) after {reason}")
            return
        self.start(fresh, policy=Policy.RESTART, factory=self._factories[name])

    def _stop(self, actor: Actor) -> None:
        self._say_goodbye(actor)
        self._bus.remove(actor.name)

    def _say_goodbye(self, actor: Actor) -> None:
        try:
            actor.on_stop()
        # One actor that fails to stop must not keep the others from stopping.
        except Exception as exc:
            log.exception("%s raised while stopping", actor.name, exc_info=exc)
