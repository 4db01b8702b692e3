"""How long a start takes to read its journal: one pass over all records, and a snapshot with what follows it. Prints one JSON object.

    python -m tests.benchmarks.bench_recovery [--records 100000] [--big 1000000] [--quick]

Goals: 100,000 records within 2 s without a snapshot, 1,000,000 within 2 s with one. The mix of records is that of a run of the ML
strategy: of ten records three predictions, two decisions with their closings, an intent, its acknowledgement and its fill.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from framework.messages import (
    Action,
    BookSnapshot,
    DecisionClosed,
    DecisionMade,
    ExecutionReport,
    FailureReason,
    Message,
    PredictionFailed,
    ReportKind,
    SubmitOrder,
)
from framework.model import Liquidity, OrderType, Side, TimeInForce
from framework.trading.fold import replay
from framework.trading.journal import Journal

BOOK = BookSnapshot(
    instrument_id="A.X",
    ts_event=1,
    ts_recv=1,
    sequence=1,
    bid_ticks=tuple(range(100, 90, -1)),
    bid_sizes=(10,) * 10,
    ask_ticks=tuple(range(101, 111)),
    ask_sizes=(10,) * 10,
)


def ten(number: int) -> list[tuple[str, Message]]:
    """Return ten records around one order."""
    name, ns = f"s-{number}", number * 1_000_000_000
    records: list[tuple[str, Message]] = [
        ("", PredictionFailed(prediction_id=f"p{number}", strategy_id="s", instrument_id="A.X", ts_event=ns, reason=FailureReason.TIMEOUT))
        for _ in range(3)
    ]
    for part in ("a", "b"):
        decision_id = f"s-d{number}{part if part == 'b' else ''}"
        records.append((decision_id, _decision(decision_id, name, ns)))
        closed = DecisionClosed(decision_id=decision_id, strategy_id="s", instrument_id="A.X", ts_event=ns, trade_outcome=None, pnl=None)
        records.append((decision_id, closed))
    side = Side.BUY if number % 2 else Side.SELL
    order = SubmitOrder(
        client_order_id=name,
        strategy_id="s",
        instrument_id="A.X",
        side=side,
        quantity=1,
        order_type=OrderType.LIMIT,
        limit_ticks=100,
        time_in_force=TimeInForce.DAY,
        ts_event=ns,
    )
    fill = ExecutionReport(
        client_order_id=name,
        kind=ReportKind.FILLED,
        ts_event=ns,
        trade_id=f"T-{name}-1",
        last_quantity=1,
        last_ticks=100,
        fee=Decimal("0.85"),
        liquidity=Liquidity.TAKER,
    )
    return [*records, (name, order), (name, ExecutionReport(client_order_id=name, kind=ReportKind.ACCEPTED, ts_event=ns)), (name, fill)]


def _decision(decision_id: str, order: str, ns: int) -> DecisionMade:
    return DecisionMade(
        decision_id=decision_id,
        strategy_id="s",
        instrument_id="A.X",
        ts_event=ns,
        action=Action.BUY,
        reason="CONFIDENT",
        prediction_id=None,
        flow_type=None,
        confidence=None,
        model_version=None,
        position_lots=0,
        book=BOOK,
        client_order_ids=(order,),
    )


def write(path: Path, count: int, snapshot_at: int | None) -> None:
    """Write a journal of `count` records, with a snapshot behind `snapshot_at` of them."""
    journal = Journal(path)
    for number in range(count // 10):
        if snapshot_at is not None and number * 10 == snapshot_at:
            journal.flush()
            journal.take_snapshot(replay(journal).to_bytes(), ts_event=0)
        for key, message in ten(number):
            journal.append(type(message).__name__, message, key=key)
    journal.close()


def start_s(path: Path) -> tuple[float, int]:
    """Return how long opening and replaying take, s, and how many records there are."""
    gc.collect()
    begin = time.perf_counter()
    journal = Journal(path)
    replay(journal)
    took = time.perf_counter() - begin
    count = journal.last_seq
    journal.close()
    return took, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--big", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    options = parser.parse_args()
    records, big = (options.records // 10, options.big // 10) if options.quick else (options.records, options.big)
    with tempfile.TemporaryDirectory() as folder:
        plain, shot = Path(folder) / "plain.sqlite", Path(folder) / "shot.sqlite"
        write(plain, records, None)
        write(shot, big, big - 20_000 if big > 20_000 else big // 2)
        plain_s, plain_count = min(start_s(plain) for _ in range(3))
        shot_s, shot_count = min(start_s(shot) for _ in range(3))
    print(
        json.dumps(
            {
                "benchmark": "recovery",
                "records_without_snapshot": plain_count,
                "start_s": round(plain_s, 3),
                "records_with_snapshot": shot_count,
                "start_with_snapshot_s": round(shot_s, 3),
                "goal": "100,000 records within 2 s without a snapshot; 1,000,000 within 2 s with one, at most 20,000 records old",
                "met": plain_s <= 2.0 and shot_s <= 2.0,
            }
        )
    )


if __name__ == "__main__":
    main()
