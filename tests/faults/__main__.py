"""Run faults by name and seed, in virtual time, and say what did not hold.

    python -m tests.faults everything --seed 1 --seeds 100 --steps 1000
    python -m tests.faults all --seeds 20 --table docs/faults.md
    python -m tests.faults everything --seeds 1000 --events 10000

A seed that fails prints the command that replays it; the exit code is 1. `--table` writes what was run as Markdown. Commands that need
more than virtual time (`fuzz` and others, see `docs/faults.md`) have arguments of their own: `python -m tests.faults fuzz --help`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults import elsewhere, fuzz, halted_processes, halts, hostile, ml_kills, proxy, soak
from tests.faults.checker import Violation
from tests.faults.scenarios import SCENARIOS, mix_of
from tests.faults.tables import markdown, parser_of, show
from tests.faults.world import World


@dataclass
class Row:
    """What one scenario did."""

    name: str
    seeds: int = 0
    steps: int = 0
    events: int = 0
    checks: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    took_s: float = 0.0


def run(name: str, seeds: range, steps: int, events: int = 0) -> Row:
    """Run a scenario over seeds: so many steps each, or as many as it takes to have so many events."""
    length = f"--events {events}" if events else f"--steps {steps}"
    row, begin_s = Row(name), time.monotonic()
    for seed in seeds:
        world = World(seed, mix_of(name, seed), steps, events=events)
        try:
            world.run()
        except Violation as exc:
            row.violations.append(str(exc))
            print(f"{name}: {exc}\nreplay: python -m tests.faults {name} --seed {seed} {length}", file=sys.stderr, flush=True)
        row.seeds += 1
        row.steps += world.steps
        row.events += world.trace.count
        row.checks += world.checks
        row.fired += world.line.fired
    row.took_s = time.monotonic() - begin_s
    return row


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    head = ("scenario", "seeds", "steps", "events", "checks of invariants", "faults that struck", "violations")
    return markdown(
        head, [(f"`{row.name}`", row.seeds, row.steps, row.events, row.checks, _fired(row), len(row.violations)) for row in rows]
    )


def _fired(row: Row) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(row.fired.items())) or "none"


def scenarios(arguments: list[str]) -> int:
    """Run scenarios in virtual time."""
    parser = parser_of(__doc__)
    parser.add_argument("name", choices=[*SCENARIOS, "all", *COMMANDS])
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--steps", type=int, default=1_000, help="steps a seed")
    parser.add_argument("--events", type=int, default=0, help="messages on the bus a seed, instead of steps")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    names = list(SCENARIOS) if options.name == "all" else [options.name]
    rows = [run(name, range(options.seed, options.seed + options.seeds), options.steps, options.events) for name in names]
    show(options, "", table(rows))
    print(f"{sum(row.steps for row in rows):,} steps in {sum(row.took_s for row in rows):.1f} s")
    return 1 if any(row.violations for row in rows) else 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fuzz": fuzz.main,
    "halt": halts.main,
    "halt-elsewhere": elsewhere.main,
    "halt-processes": halted_processes.main,
    "hostile": hostile.main,
    "ml-kills": ml_kills.main,
    "proxy": proxy.main,
    "soak": soak.main,
}
"""What is no scenario in virtual time; `python -m tests.faults NAME --help` says what each takes."""


def main() -> int:
    """Run what was named."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    return COMMANDS[name](sys.argv[2:]) if name in COMMANDS else scenarios(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
