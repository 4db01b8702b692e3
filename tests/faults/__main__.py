"""Run faults by name and seed, in virtual time, and say what did not hold.

    python -m tests.faults everything --seed 1 --seeds 100 --steps 1000
    python -m tests.faults all --seeds 20 --table docs/faults.md

A seed that fails prints the command that replays it; the exit code is 1. `--table` writes what was run as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.scenarios import SCENARIOS, mix_of
from tests.faults.world import Violation, World

BEGIN, END = "<!-- written by python -m tests.faults -->", "<!-- end -->"


@dataclass
class Row:
    """What one scenario did."""

    name: str
    seeds: int = 0
    steps: int = 0
    checks: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    took_s: float = 0.0


def run(name: str, seeds: range, steps: int) -> Row:
    """Run a scenario over seeds."""
    row, begin_s = Row(name), time.monotonic()
    for seed in seeds:
        world = World(seed, mix_of(name, seed), steps)
        try:
            world.run()
        except Violation as exc:
            row.violations.append(str(exc))
            print(f"{name}: {exc}\nreplay: python -m tests.faults {name} --seed {seed} --steps {steps}", file=sys.stderr, flush=True)
        row.seeds += 1
        row.steps += steps
        row.checks += world.checks
        row.fired += world.line.fired
    row.took_s = time.monotonic() - begin_s
    return row


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| scenario | seeds | steps | checks of invariants | faults that struck | violations |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        fired = ", ".join(f"{count:,} x {name}" for name, count in sorted(row.fired.items())) or "none"
        lines.append(f"| `{row.name}` | {row.seeds:,} | {row.steps:,} | {row.checks:,} | {fired} | {len(row.violations)} |")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Put the table between its marks in a page."""
    page = path.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*SCENARIOS, "all"])
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--steps", type=int, default=1_000, help="steps a seed")
    parser.add_argument("--table", type=Path, help="a Markdown page with the marks to write between")
    options = parser.parse_args()
    names = list(SCENARIOS) if options.name == "all" else [options.name]
    rows = [run(name, range(options.seed, options.seed + options.seeds), options.steps) for name in names]
    print(table(rows))
    print(f"{sum(row.steps for row in rows):,} steps in {sum(row.took_s for row in rows):.1f} s")
    if options.table is not None:
        write(options.table, table(rows))
    return 1 if any(row.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
