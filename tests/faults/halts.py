"""No order leaves after the gate has closed, at instants drawn by seed.

    python -m tests.faults halt --instants 10000 --table docs/faults.md
    python -m tests.faults halt --instants 10 --seed 17           # one world again

In virtual time, an instant is any message of the bus, any write and any commit of the journal; what closes the gate there is the
kill switch of another process, an operator's command, limits that are NaN, or a journal that is full: alone or two at once. Then
strategies go on asking, time passes, some processes die and start again. Nothing may reach the line but cancels, and what rests has to
go. A disk closes the gate with the first write that it refuses.
"""

from __future__ import annotations

import logging
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from framework.messages import ReplaceOrder, SubmitOrder
from framework.model import TradingState
from framework.trading.risk import LimitBook
from tests.faults.checker import Violation
from tests.faults.scenarios import mix_of
from tests.faults.tables import markdown, parser_of, show
from tests.faults.world import World

PER_WORLD: Final = 10
LEAD: Final = (2, 10)
CLOSED: Final = (4, 10)
POINTS: Final = 60
"""The instant is one of so many points after the lead; a step has about ten."""
REST_S: Final = 4
SWITCH, OPERATOR, FLATTEN, LIMITS, JOURNAL = "kill switch", "halt from inside", "`halt --flatten`", "NaN limits", "full journal"
WAYS: Final = (
    (SWITCH,),
    (OPERATOR,),
    (FLATTEN,),
    (LIMITS,),
    (JOURNAL,),
    (SWITCH, LIMITS),
    (SWITCH, JOURNAL),
    (OPERATOR, LIMITS),
    (OPERATOR, JOURNAL),
)
FROM_OUTSIDE: Final = frozenset({SWITCH, JOURNAL})
"""What can come at any point; the rest takes its turn on the loop."""
LASTING: Final = frozenset({SWITCH, OPERATOR, FLATTEN})
"""What an operator did, and only an operator undoes: it empties the venue, and outlives the process."""
UNCHANGED: Final = frozenset({"answer_timeout_s", "session_ends_hour_utc", "day_starts_hour_utc"})
"""What is a setting and no limit: a NaN in it is refused with the file."""
MIXES: Final = ("calm", "calm", "lost", "reports")


class Gate:
    """Close a world's gate and look at everything that reaches the line from then on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._left: int | None = None
        self._waiting: list[str] = []
        self.closed: tuple[str, ...] = ()
        self.flattening = 0
        core = world.core
        core.on_point = self._on_point
        core.line.on_submit, core.line.on_replace = self._on_submit, self._on_replace
        self._acts: dict[str, Callable[[], object]] = {
            SWITCH: lambda: setattr(core, "is_killed", True),
            OPERATOR: lambda: core.operator(lambda: core.execution.set_state(TradingState.HALTED, "a test asked")),
            FLATTEN: self._flatten,
            LIMITS: lambda: spoil(core.execution.gate.limits),
            JOURNAL: lambda: core.disk.break_after(0),
        }

    def _flatten(self) -> None:
        core = self._world.core
        core.is_killed = True
        core.operator(lambda: core.execution.set_state(TradingState.HALTED, "a test asked"))
        core.operator(lambda: core.execution.flatten("a test asked"))

    def arm(self, ways: tuple[str, ...], points: int) -> None:
        """Close in these ways after so many points."""
        self._waiting, self._left = list(ways), points

    def fire(self) -> None:
        """Close in what ways are left, on the loop."""
        self._left = None
        for way in tuple(self._waiting):
            self._close(way)

    def open(self) -> None:
        """Open again, as an operator would: sound limits and a new disk need a new process."""
        core, closed, self.closed = self._world.core, self.closed, ()
        core.is_killed, core.resumes = False, True
        if not LASTING.issuperset(closed):
            core.die()
        core.operator(lambda: core.execution.set_state(TradingState.ACTIVE, "a test resumed"))

    def _on_point(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self._left = None
            for way in [one for one in self._waiting if one in FROM_OUTSIDE]:
                self._close(way)

    def _close(self, way: str) -> None:
        self._waiting.remove(way)
        self.closed += (way,)
        self._acts[way]()

    def _on_submit(self, order: SubmitOrder) -> None:
        self._world.checker.on_submit(order)
        if FLATTEN in self.closed and order.client_order_id.startswith("flatten-"):
            self.flattening += 1  # what closes a position for the operator, and nothing else
            return
        self._nothing(f"order {order.client_order_id} left")

    def _on_replace(self, change: ReplaceOrder) -> None:
        self._nothing(f"order {change.client_order_id} was changed")

    def _nothing(self, what: str) -> None:
        """A full disk closes the gate with the first write that it refuses: until then, what is written is written."""
        is_healthy = self._world.core.journal.is_healthy
        closed = [way for way in self.closed if way != JOURNAL or not is_healthy]
        self._world.checker.holds(not closed, f"{what} after the gate was closed by {' and '.join(closed)}")


def spoil(limits: LimitBook) -> None:
    """Make every limit NaN, one that is off too."""
    table = limits._tables["strategies"]
    for key, value in table.items():
        if not isinstance(value, bool) and key not in UNCHANGED:
            table[key] = Decimal("nan") if isinstance(value, Decimal) else math.nan
    limits._scopes.clear()


@dataclass
class Found:
    """What came of the instants in one way to close."""

    instants: int = 0
    inside: int = 0
    asked: int = 0
    flattening: int = 0
    restarts: int = 0
    checks: int = 0
    violations: list[str] = field(default_factory=list)


def run_world(seed: int, instants: int, found: dict[tuple[str, ...], Found]) -> None:
    """Close the gate of one world so many times. Raises `Violation`."""
    rng = random.Random(f"halts-{seed}")
    world = World(seed, mix_of(rng.choice(MIXES), seed))
    gate = Gate(world)
    try:
        world.begin()
        for number in range(instants):
            ways = WAYS[(seed + number) % len(WAYS)]
            close_once(world, gate, ways, found[ways], rng)
        world.converge()
    finally:
        world.core.close()


def close_once(world: World, gate: Gate, ways: tuple[str, ...], found: Found, rng: random.Random) -> None:
    """Trade for a while, close the gate at an instant, and see that nothing leaves until it is opened again."""
    core, before, flattening = world.core, world.checker.checks, gate.flattening
    for _ in range(rng.randint(*LEAD)):
        world.step()
    gate.arm(ways, rng.randint(1, POINTS))
    try:
        while not FROM_OUTSIDE.isdisjoint(ways) and not gate.closed:
            world.step()
        found.inside += bool(gate.closed)
        gate.fire()
        asked = len(core.sent)
        stay_closed(world, found, rng, is_lasting=not LASTING.isdisjoint(ways) and JOURNAL not in ways)
        found.asked += len(core.sent) - asked
        gate.open()
    except Violation as exc:
        found.violations.append(str(exc))
        raise
    finally:
        found.instants += 1
        found.checks += world.checker.checks - before
        found.flattening += gate.flattening - flattening


def stay_closed(world: World, found: Found, rng: random.Random, *, is_lasting: bool) -> None:
    """Let strategies ask on; what outlives a process is put to that test now and then."""
    dies = is_lasting and rng.random() < 0.25
    for number in range(rng.randint(*CLOSED)):
        if dies and number == 1:
            world.core.resumes = False
            world.core.die()
            found.restarts += 1
        world.step()
    rest(world, is_empty=is_lasting)


def rest(world: World, *, is_empty: bool) -> None:
    """Let time pass with books and sound lines; what rests has to be gone then."""
    core = world.core
    core.line.is_calm = True
    for _ in range(REST_S):
        core.wait(1.0)
        for name in core.mids:
            world.workload.show(name)
    core.line.is_calm = False
    resting = [order.client_order_id for name in core.mids for order in core.line.venue._desk.of(name)]
    world.checker.holds(not is_empty or not resting, f"{REST_S} s after the gate closed there still rest {resting}")


def run(seed: int, instants: int) -> dict[tuple[str, ...], Found]:
    """Close gates at so many instants, in worlds from `seed` on."""
    found: dict[tuple[str, ...], Found] = {ways: Found() for ways in WAYS}
    for number in range(0, instants, PER_WORLD):
        one, count = seed + number // PER_WORLD, min(PER_WORLD, instants - number)
        try:
            run_world(one, count, found)
        except Violation as exc:
            print(f"halt: {exc}\nreplay: python -m tests.faults halt --seed {one} --instants {count}", file=sys.stderr, flush=True)
    return found


HEAD: Final = (
    "gate closed by",
    "instants",
    "inside of what the loop did",
    "orders asked for while closed",
    "left to flatten",
    "restarts",
    "checks",
    "violations",
)


def main(arguments: list[str]) -> int:
    """Close gates from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--instants", type=int, default=1_000, help="in virtual time")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    found = run(options.seed, options.instants)
    rows: list[tuple[object, ...]] = [
        (" and ".join(ways), one.instants, one.inside, one.asked, one.flattening, one.restarts, one.checks, len(one.violations))
        for ways, one in found.items()
    ]
    show(options, "halt", markdown(HEAD, rows))
    return 1 if any(one.violations for one in found.values()) else 0
