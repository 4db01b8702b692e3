"""A paper run for hours, with a fault every ten seconds: memory, descriptors, tasks and timers have to stay flat.

    python -m tests.faults soak --virtual-hours 24 --table docs/faults.md
    python -m tests.faults soak --minutes 60 --table docs/faults.md
    python -m tests.faults soak --virtual-hours 1 --seed 17               # one run again

With `--virtual-hours` the whole trading process runs on a virtual loop, beside an ML process by script; with `--minutes` it is a process
of its own with the real ML process, and what goes wrong comes from outside. Each run is sampled; the first quarter is for warming up.
Flat means: the median slope over the rest (Theil-Sen), times its length, is less than `ALLOWED`. The last half minute is without faults:
by then everything has to be well again.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from tests.faults import soak_process, soak_virtual
from tests.faults.held import ALLOWED, MIB, Found, growth
from tests.faults.tables import markdown, parser_of, show

HEAD: Final = (
    "run",
    "lasted",
    "faults",
    "market events",
    "predictions asked for",
    "orders",
    "memory, MiB (grown)",
    "descriptors (grown)",
    "tasks (grown)",
    "timers (grown)",
    "violations",
)


def row(found: Found) -> tuple[object, ...]:
    """Return a row of the table."""
    held = {name: growth(found.samples, name) for name in ALLOWED}
    level, grown = held.pop("rss")
    return (
        found.name,
        f"{found.lasted_s / 3_600:.2f} h",
        ", ".join(f"{count:,} x {name}" for name, count in sorted(found.faults.items())),
        found.events,
        found.predictions,
        found.orders,
        f"{level / MIB:.0f} ({grown / MIB:+.1f})",
        *(f"{level:.0f} ({grown:+.1f})" for level, grown in held.values()),
        len(found.violations),
    )


def main(arguments: list[str]) -> int:
    """Soak from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--virtual-hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0, help="of a process of its own")
    parser.add_argument("--book-interval-ms", type=float, default=100.0, help="of the simulated market")
    options = parser.parse_args(arguments)
    if not options.virtual_hours and not options.minutes:
        parser.error("say --virtual-hours or --minutes")
    logging.disable(logging.CRITICAL)
    found = []
    if options.virtual_hours:
        found.append(soak_virtual.run(options.seed, options.virtual_hours * 3_600, options.book_interval_ms))
    if options.minutes:
        found.append(soak_process.run(options.seed, options.minutes * 60))
    for one in found:
        one.judge()
    for text in (f"{one.name}: {text}" for one in found for text in one.violations):
        print(f"{text}\nreplay: python -m tests.faults soak {' '.join(arguments)}", file=sys.stderr)
    show(options, "soak", markdown(HEAD, [row(one) for one in found]))
    return 1 if any(one.violations for one in found) else 0
