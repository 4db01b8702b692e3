"""One world a seed: a core, strategies and a market that work at random, a nemesis, and a checker that believes nobody."""

from __future__ import annotations

from typing import Final

from framework.kernel.simulation import TraceHash
from tests.faults.checker import Checker
from tests.faults.core import Core
from tests.faults.line import Line, Mix
from tests.faults.nemesis import Nemesis
from tests.faults.workload import Workload

LIVENESS_S: Final = 90


class World:
    """A run of `steps` steps, or of as many as it takes to have so many `events` (messages on the bus).

    `run` raises `Violation` for the first invariant that does not hold; `trace` is the hash of all events.
    """

    def __init__(self, seed: int, mix: Mix, steps: int = 1_000, *, events: int = 0) -> None:
        self.steps = 0
        self._steps, self._events = steps, events
        self.core = Core(seed, mix)
        self.workload = Workload(self.core)
        self.nemesis = Nemesis(self.core, self.workload)
        self.checker = Checker(self.core)
        self.core.on_boot, self.core.on_update = self.checker.on_boot, self.checker.on_update
        self.nemesis.on_quarantine = lambda name, lost: self.checker.holds(not lost, f"the quarantine of {name} took its exits: {lost}")
        self.core.line.on_submit, self.core.line.on_report = self.checker.on_submit, self.checker.on_report

    @property
    def trace(self) -> TraceHash:
        """Return the hash of all messages, and how many there were."""
        return self.core.trace

    @property
    def line(self) -> Line:
        """Return the line to the venue, which counts what struck it."""
        return self.core.line

    @property
    def checks(self) -> int:
        """Return how often an invariant was looked at."""
        return self.checker.checks

    def run(self) -> World:
        """Run all steps, and come to rest."""
        try:
            self.begin()
            while self.trace.count < self._events if self._events else self.steps < self._steps:
                self.step()
            self.converge()
        finally:
            self.core.close()
        return self

    def begin(self) -> None:
        """Start the first life, and show it a book of each instrument."""
        self.core.boot()
        self._show_all()

    def step(self) -> None:
        """Let a moment pass, something happen, and perhaps something go wrong."""
        self.steps += 1
        self.core.wait(self.core.rng.expovariate(20.0))
        self.nemesis.mend()
        self.workload.act()
        self.nemesis.strike()
        self.checker.check()

    def converge(self) -> None:
        """I-30: with the faults off, everything comes to rest and both sides agree."""
        core = self.core
        core.line.is_calm, core.line.is_up = True, True
        if core.disk.is_broken:
            core.die()
        for name in tuple(core.bad_books):
            self.workload.recover_book(name)
        self._show_all()
        for _ in range(LIVENESS_S):
            core.wait(1.0)
            self._show_all()
        self.checker.check()
        self.checker.agree()

    def _show_all(self) -> None:
        for name in self.core.mids:
            self.workload.show(name)
