"""What the gate and a durable intent cost. Prints one JSON object.

    python -m tests.benchmarks.bench_gate [--orders 5000] [--quick]

The gate is measured on Execution's real state: 50 open orders, positions of three strategies, every kind of limit set; the book moves
before every order. `gate_cpu_undisturbed` leaves out the orders before which the scheduler took the processor away: what a busy
machine takes from the caches is not the gate's. The intent is a durable append on the disk of `--directory` (default: a temporary
folder). Goals: gate p99 100 us, intent p99 1 ms.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from framework.config import AccountLimits, RiskLimits, ScopeLimits
from framework.messages import ReportKind, SubmitOrder
from framework.model import OrderType, Side
from framework.trading.journal import Journal
from framework.trading.risk import Approved, RiskGate
from tests.trading.conftest import NOW, book, submit
from tests.trading.room import Room, fill, report

SETTLING: Final = 3
"""Orders that a switch is given to be over."""
LIMITS = RiskLimits(
    max_position=1_000,
    max_open_orders=1_000,
    max_orders_per_second=1_000_000,
    max_orders_per_minute=1_000_000,
    max_notional_per_minute=Decimal(10**12),
    max_order_notional=Decimal(10**9),
    max_daily_loss=Decimal(10**9),
    max_drawdown=Decimal(10**9),
    max_consecutive_losses=1_000,
    max_fills_unattended=1_000_000,
    flat_before_session_end_s=1.0,
    instruments={"A.X": ScopeLimits(max_position=10_000, max_daily_loss=Decimal(10**9))},
    account=AccountLimits(
        max_gross_notional=Decimal(10**12), cash=Decimal(10**12), max_daily_loss=Decimal(10**9), max_drawdown=Decimal(10**9)
    ),
)


def quantiles(values: list[int]) -> dict[str, float]:
    """Return median, p99 and maximum, us."""
    ordered = sorted(values)
    return {
        "p50_us": round(ordered[len(ordered) // 2] / 1e3, 1),
        "p99_us": round(ordered[len(ordered) * 99 // 100] / 1e3, 1),
        "max_us": round(ordered[-1] / 1e3, 1),
    }


def room(journal: Journal) -> Room:
    """Return Execution with fifty open orders and three positions."""
    one = Room(journal)
    one.execution.recover()  # as every start does
    for n in range(50):
        side = Side.BUY if n % 2 else Side.SELL
        name = f"open-{n}"
        one.tell(
            submit(name, side, 2, strategy_id=f"s{n % 3}", limit_ticks=90 - n % 5 if side is Side.BUY else 110 + n % 5),
            report(ReportKind.ACCEPTED, name),
        )
        if n < 6:
            one.tell(fill(1, 100, f"t{n}", name))
    return one


class Took(NamedTuple):
    """What checks took, ns: on the wall, of the processor, and of the processor for those that were not disturbed."""

    wall: list[int]
    cpu: list[int]
    undisturbed: list[int]


def gate_ns(count: int) -> Took:
    """Return what each check took."""
    one, gate = room(Journal(":memory:")), RiskGate(LIMITS)
    took = Took([], [], [])
    switches, quiet = _switches(), 0
    for n in range(count):
        one.execution.sight.on_book(book(bids=(99 - n % 2, 98 - n % 2), sequence=n + 2))
        order = _order(n)
        begin, cpu = time.perf_counter_ns(), time.thread_time_ns()
        gate.check(order, one.execution.sight, NOW)
        took.cpu.append(time.thread_time_ns() - cpu)
        took.wall.append(time.perf_counter_ns() - begin)
        quiet = quiet + 1 if switches == (switches := _switches()) else 0
        if quiet > SETTLING:
            took.undisturbed.append(took.cpu[-1])
    assert isinstance(gate.check(submit("last", strategy_id="s1", quantity=3), one.execution.sight, NOW), Approved)
    return took


def _order(n: int) -> SubmitOrder:
    is_market = n % 4 == 0
    return submit(
        f"o-{n}",
        Side.BUY if n % 2 else Side.SELL,
        1 + n % 3,
        strategy_id="s0",
        limit_ticks=None if is_market else 100 - n % 7,
        order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
    )


def _switches() -> int:
    """Return how often the scheduler took the processor away from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def intent_ns(directory: Path, count: int) -> list[int]:
    """Return what each durable intent took."""
    journal, took = Journal(directory / "journal.sqlite"), []
    for n in range(count):
        order = submit(f"o{n}")
        begin = time.perf_counter_ns()
        journal.append("SubmitOrder", order, durable=True, key=order.client_order_id)
        took.append(time.perf_counter_ns() - begin)
    journal.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count = 500 if options.quick else options.orders
    gc.collect()
    gc.freeze()
    gate, gate_cpu, undisturbed = map(quantiles, gate_ns(count))
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        intent = quantiles(intent_ns(Path(folder), count))
    goal = "gate p99 100 us, durable intent p99 1000 us"
    met = gate["p99_us"] <= 100 and intent["p99_us"] <= 1_000
    found = {"gate": gate, "gate_cpu": gate_cpu, "gate_cpu_undisturbed": undisturbed, "intent": intent}
    print(json.dumps({"benchmark": "gate", "orders": count, **found, "goal": goal, "met": met}))


if __name__ == "__main__":
    main()
